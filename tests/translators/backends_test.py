"""The backends that need nothing, and how texts are brought to them."""

from __future__ import annotations

from ml_collections import ConfigDict
import pytest

from calm_jax import translators
from calm_jax.lm import hub, writer
from calm_jax.qa import prompts
from calm_jax.translators import cache, files, model, none


def _folder(tmp_path, **tables):
  for name, lines in tables.items():
    path = tmp_path / f'{name.replace("_", "-")}.jsonl'
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  return tmp_path


def _line(text, translation):
  return f'{{"text": "{text}", "translation": "{translation}"}}'


def test_none_supports_nothing():
  translator = none.Nothing()
  assert not translator.supports('en', 'fr')
  assert translator.translate(['a', 'b'], 'en', 'fr') == [None, None]


def test_files_look_texts_up(tmp_path):
  lines = [_line(' cat ', 'chat'), '', _line('dog', ''), _line('cat', 'chat')]
  translator = files.Files(_folder(tmp_path, en_fr=lines, zh_en=[]))
  assert translator.supports('en', 'fr')
  assert translator.supports('zh', 'en')
  assert not translator.supports('fr', 'en')
  done = translator.translate(['dog', 'cat', 'cow', '\ncat'], 'en', 'fr')
  assert done == [None, 'chat', None, 'chat']
  assert translator.translate(['chat'], 'fr', 'en') == [None]


def test_files_have_another_version_when_their_content_changes(tmp_path):
  folder = _folder(tmp_path, en_fr=[_line('cat', 'chat')])
  first = files.Files(folder).version
  assert files.Files(folder).version == first
  _folder(tmp_path, en_fr=[_line('cat', 'minou')])
  assert files.Files(folder).version != first


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"text": "a"', 'not a JSON object'),
        ('["a"]', 'is not an object'),
        ('{"text": "a"}', "'translation' must be a string, not None"),
        ('{"text": 1, "translation": "b"}', "'text' must be a string, not 1"),
        (_line('cat', 'minou'), 'another translation of the same text'),
    ],
)
def test_files_name_a_wrong_line(tmp_path, line, message):
  folder = _folder(tmp_path, en_fr=[_line('cat', 'chat'), line])
  with pytest.raises(ValueError, match=message) as error:
    files.Files(folder)
  assert str(error.value).startswith(f'{folder / "en-fr.jsonl"}:2: ')


def test_files_need_a_folder_with_files(tmp_path):
  for folder in (tmp_path, tmp_path / 'absent'):
    with pytest.raises(FileNotFoundError, match=r'config\.translate\.path'):
      files.Files(folder)


def test_the_model_is_asked_in_the_wording_of_the_prompts():
  asked = []

  def generate(texts):
    asked.extend(texts)
    return [' chat\n', '   ']

  translator = model.Model(lambda: generate, identity='m')
  assert translator.translate(['cat', 'dog'], 'en', 'fr') == ['chat', None]
  assert asked == [prompts.translation(t, 'en', 'fr') for t in ('cat', 'dog')]
  assert translator.end() == {}


def test_what_the_model_did_not_end_is_counted_and_not_kept(tmp_path, capsys):
  inner = model.Model(lambda: lambda _: [None, 'chien', ''], identity='m')
  path = tmp_path / 'model.jsonl'
  translator = cache.Cached(inner, path, backend='model')
  texts = ['cat', 'dog', 'cow']
  assert translator.translate(texts, 'en', 'fr') == [None, 'chien', None]
  assert translator.end() == {'cut_translations': 1}
  assert 'raise config.translate.max_new_tokens' in capsys.readouterr().out
  assert len(path.read_text('utf-8').splitlines()) == 1


def test_the_model_is_loaded_once_and_only_when_needed():
  loads = []

  def load():
    loads.append(1)
    return lambda texts: texts

  translator = model.Model(load, identity='m')
  assert translator.supports('en', 'fr')
  assert not loads
  for _ in range(2):
    translator.translate(['cat'], 'en', 'fr')
  assert len(loads) == 1


def test_the_wording_is_part_of_the_models_version(monkeypatch):
  version = lambda: model.Model(lambda: list, identity='m').version
  first = version()
  monkeypatch.setattr(prompts, 'translation', lambda *args: 'Translate!')
  assert version() != first


class _Upper(translators.Translator):
  """Remembers its calls."""

  def __init__(self):
    self.calls = []

  @property
  def version(self):
    return '1'

  def supports(self, source, target):
    return True

  def translate(self, texts, source, target):
    self.calls.append((len(texts), source, target))
    return [text.upper() for text in texts]


def test_translate_all_asks_each_text_once_in_batches_of_a_direction():
  translator, steps = _Upper(), []
  wanted = [(f't{i}', 'en', 'fr') for i in range(300)] * 2
  wanted += [('t0', 'fr', 'en')]
  done = translators.translate_all(translator, wanted, advance=steps.append)
  assert translator.calls == [
      (256, 'en', 'fr'),
      (44, 'en', 'fr'),
      (1, 'fr', 'en'),
  ]
  assert steps == [256, 44, 1]
  assert len(done) == 301
  assert done['t7', 'en', 'fr'] == 'T7'


def test_build_gives_the_model_a_cache_and_loads_it_late(tmp_path, monkeypatch):
  calls = []

  def text_generator(**settings):
    calls.append(settings)
    return lambda texts: ['chat' for _ in texts]

  monkeypatch.setattr(hub, 'resolve', lambda model, revision: tmp_path)
  monkeypatch.setattr(hub, 'identity', lambda folder: 'abc')
  monkeypatch.setattr(writer, 'text_generator', text_generator)
  settings = {'model': 'm', 'revision': 'r', 'dtype': 'float32'}
  cfg = ConfigDict(
      settings
      | {
          'sample': {'slots': 4},
          'prompt': {'template': 'selfrag'},
          'mesh': {'data': -1, 'fsdp': 1, 'tensor': 1},
          'translate': {'backend': 'model', 'path': '', 'max_new_tokens': 9},
      }
  )
  for _ in range(2):
    # The second one finds the text on disk and loads no model, for any limit.
    translator = translators.build(cfg, tmp_path)
    assert translator.translate(['cat'], 'en', 'fr') == ['chat']
    cfg.translate.max_new_tokens += 1
  shape = {'mesh': (-1, 1, 1), 'slot_count': 4, 'max_new_tokens': 9}
  assert calls == [settings | shape | {'template': 'selfrag'}]
  assert (tmp_path / 'translations' / 'model.jsonl').is_file()


def test_build_refuses_an_unknown_backend(tmp_path):
  cfg = ConfigDict({'translate': {'backend': 'bing', 'path': ''}})
  with pytest.raises(ValueError, match="'bing'; choose one of none, model"):
    translators.build(cfg, tmp_path)
