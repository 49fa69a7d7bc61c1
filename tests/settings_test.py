"""Tests of the checks of a config."""

from __future__ import annotations

import json

import pytest

from calm_jax import datasets, rules, settings
from calm_jax.lm import chat, hosts, hub
from configs import base, tiny

ALL = base.get_config()


@pytest.fixture
def cfg(tmp_path):
  """A config with nothing wrong."""
  c = tiny.get_config()
  c.model = str(model_folder(tmp_path / 'model'))
  return c


def model_folder(path):
  """A folder with the names of a model's files."""
  path.mkdir()
  for name in ('config.json', 'model.safetensors', 'tokenizer.json'):
    (path / name).touch()
  return path


def problems(cfg, **fields):
  """What is wrong with a config after edits (`sample__m=3`), as one text."""
  edits = {name.replace('__', '.'): value for name, value in fields.items()}
  with cfg.ignore_type():
    cfg.update_from_flattened_dict(edits)
  return '\n'.join(settings.problems(cfg))


def test_every_field_of_the_base_config_has_a_rule_and_no_other():
  assert rules.RULES.keys() == settings.flatten(ALL).keys()


def test_a_good_config_passes(cfg):
  assert settings.problems(cfg) == []
  settings.check(cfg)


@pytest.mark.parametrize(
    ('field', 'value', 'said'),
    [
        ('seed', -1, 'whole number from 0 to 2147483647'),
        ('seed', 2**31, 'whole number from 0 to 2147483647'),
        ('seed', True, 'whole number'),
        ('limit', -1, 'whole number of at least 0'),
        ('limit', 1.5, 'whole number'),
        ('dtype', 'bf16', "did you mean 'bfloat16'?"),
        ('dtype', 'int8', 'there are: bfloat16, float32'),
        ('languages', (), 'at least one of en'),
        ('languages', ('en', 'cn'), "unknown 'cn'"),
        ('languages', ('en', 'zh_CN'), "did you mean 'zh'?"),
        ('languages', ('en', 'en'), 'twice'),
        ('languages', ('en,en',), 'twice'),
        ('languages', 3, 'at least one'),
        ('languages', ('en', 3), 'unknown 3'),
        ('data.name', 'xcqa', "did you mean 'xcsqa'?"),
        ('adapter', 'nowhere', 'no PEFT folder'),
        ('adapter', '@', 'no PEFT folder'),
        ('order', ('a', 'a'), 'twice'),
        ('order', ('a b',), 'must be names'),
        ('rounds', 0, 'at least 1'),
        ('paper', 'table1_llama_xcsq', "did you mean 'table1_llama_xcsqa'?"),
        ('data.train_split', '../train', 'one word'),
        ('data.test_split', '../test', 'one word'),
        ('mesh.data', 0, '-1 for all'),
        ('mesh.tensor', -2, '-1 for all'),
        ('prompt.style', 'papers', "did you mean 'paper'?"),
        ('prompt.shots', 4, 'from 0 to 3'),
        ('prompt.shots', -1, 'from 0 to 3'),
        ('sample.languages', ('en', 'cn'), "unknown 'cn'"),
        ('sample.m', 0, 'at least 1'),
        ('sample.temperature', -0.1, '[0, inf)'),
        ('sample.temperature', float('nan'), '[0, inf)'),
        ('sample.temperature', float('inf'), '[0, inf)'),
        ('sample.temperature', None, '[0, inf)'),
        ('sample.temperature', '1', '[0, inf)'),
        ('sample.top_p', 0.0, '(0, 1]'),
        ('sample.top_p', 1.01, '(0, 1]'),
        ('sample.top_p', float('nan'), '(0, 1]'),
        ('sample.top_k', -1, 'at least 0'),
        ('sample.max_new_tokens', 0, 'at least 1'),
        ('sample.answer', 'two-stage', "did you mean 'two_stage'?"),
        ('sample.slots', 0, 'must be auto, or a whole number'),
        ('sample.slots', '48', 'must be auto, or a whole number'),
        ('sample.shard', 0, 'at least 1'),
        ('vote.ties', 'first', "did you mean 'first_seen'?"),
        ('vote.parser', 'author', "did you mean 'authors'?"),
        ('translate.backend', 'file', "did you mean 'files'?"),
        ('translate.max_new_tokens', 0, 'at least 1'),
        ('translate.max_cost', -1.0, '[0, inf)'),
        ('translate.max_cost', float('nan'), '[0, inf)'),
        ('translate.price', -0.1, '[0, inf)'),
        ('translate.project', 'my project', 'Google Cloud project'),
        ('translate.location', '', 'one word'),
        ('data.train_limit', -1, 'at least 0'),
        ('data.test_limit', -1, 'at least 0'),
        ('pair.file', 'nowhere.jsonl', 'is no file'),
        ('pair.positives', 'lst', "did you mean 'last'?"),
        ('pair.gold', 'papr', "did you mean 'paper'?"),
        ('pair.cap', -1, 'at least 0'),
        ('pair.min_share', 1.1, '[0, 1]'),
        ('pair.min_margin', -0.1, '[0, 1]'),
        ('pair.rebuild', 'yes', 'True or False'),
        ('pair.val_size', 1.0, '[0, 1)'),
        ('lora.rank', 0, 'at least 1'),
        ('lora.alpha', 0.0, '(0, inf)'),
        ('lora.targets', ('q_proj', 'qproj'), "did you mean 'q_proj'?"),
        ('lora.targets', (), 'at least one'),
        ('train.method', 'dpoo', "did you mean 'dpo'?"),
        ('train.reference', 'begin', 'there are: base, start'),
        ('train.beta', 0.0, '(0, inf)'),
        ('train.loss', 'sigmoids', "did you mean 'sigmoid'?"),
        ('train.label_smoothing', 0.5, '[0, 0.5)'),
        ('train.sft_weight', -0.1, '[0, inf)'),
        ('train.simpo_gamma', -0.1, '[0, inf)'),
        ('train.weighting', 'shares', "did you mean 'share'?"),
        ('train.layout', 'aprt', "did you mean 'apart'?"),
        ('train.remat', True, 'there are: auto, full, none'),
        ('train.learning_rate', 0.0, '(0, inf)'),
        ('train.learning_rate', float('inf'), '(0, inf)'),
        ('train.schedule', 'cosin', "did you mean 'cosine'?"),
        ('train.warmup_ratio', 1.0, '[0, 1)'),
        ('train.epochs', 0, 'at least 1'),
        ('train.batch_size', 0, 'at least 1'),
        ('train.accumulation', 0, 'at least 1'),
        ('train.length_window', 0, 'at least 1'),
        ('train.eval_batch_size', 0, 'at least 1'),
        ('train.max_length', 1, 'at least 2'),
        ('train.adam_b1', 1.0, '[0, 1)'),
        ('train.adam_b2', -0.1, '[0, 1)'),
        ('train.adam_eps', 0.0, '(0, inf)'),
        ('train.weight_decay', -1.0, '[0, inf)'),
        ('train.clip_norm', 0.0, '(0, inf)'),
        ('train.eval_every', 0, 'at least 1'),
        ('train.keep', 0, 'at least 1'),
        ('evaluate.before', 'no', 'True or False'),
        ('evaluate.temperature', -1.0, '[0, inf)'),
        ('evaluate.max_new_tokens', 0, 'at least 1'),
        ('evaluate.bootstrap', 0, 'at least 1'),
    ],
)
def test_one_wrong_value_is_one_problem(cfg, field, value, said):
  found = problems(cfg, **{field: value})
  assert found.startswith(f'config.{field} = '), found
  assert said in found
  assert '\n' not in found


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('seed', 2**31 - 1),
        ('sample.temperature', 1),
        ('sample.top_p', 1.0),
        ('pair.min_share', 1),
        ('pair.min_margin', 1),
        ('pair.val_size', 0.0),
        ('lora.alpha', 16),
        ('train.warmup_ratio', 0),
        ('prompt.shots', 3),
        ('languages', ('en',)),
        ('languages', ('de', 'it', 'ja', 'zh', 'fr', 'en')),
        ('mesh.data', 4),
        ('mesh.fsdp', 2),
    ],
)
def test_the_ends_of_the_ranges_are_fine(cfg, field, value):
  assert problems(cfg, **{field: value}) == ''


def test_all_problems_come_at_once(cfg):
  with cfg.ignore_type():
    cfg.update_from_flattened_dict(
        {
            'sample.m': 0,
            'vote.ties': 'x',
            'languages': ('xx',),
            'mesh.fsdp': -1,
            'data.name': 'xcsqa',
        }
    )
  with pytest.raises(settings.ConfigError) as e:
    settings.check(cfg)
  first, *lines = str(e.value).splitlines()
  assert first == '5 problems in the settings:'
  fields = [line.strip().removeprefix('config.') for line in lines]
  assert [f.split(' ')[0].rstrip(':') for f in fields] == [
      'languages',
      'sample.m',
      'vote.ties',
      'mesh',
      'data.path',
  ]


def test_a_misspelt_field_in_a_config_file(cfg):
  cfg.sample.temprature = 0.5
  assert problems(cfg) == (
      'config.sample.temprature is no setting; did you mean'
      ' config.sample.temperature?'
  )


def test_a_missing_field(cfg):
  del cfg.sample.m
  assert 'config.sample.m is missing' in problems(cfg)


def test_equal_samples(cfg):
  said = problems(cfg, sample__temperature=0.0)
  assert 'config.sample.m = 2' in said
  assert problems(cfg, sample__m=1) == ''


def test_a_question_needs_a_slot_for_each_answer(cfg):
  said = problems(cfg, sample__m=5, sample__slots=4)
  assert 'raise slots' in said
  assert '\n' not in said
  assert problems(cfg, sample__slots=5) == ''


def test_the_papers_prompts_have_no_examples(cfg):
  assert problems(cfg, prompt__style='paper') == ''
  assert 'set shots to 0' in problems(cfg, prompt__shots=2)
  assert problems(cfg, prompt__style='default') == ''


def test_spanish_is_not_in_the_paper(cfg):
  assert 'Spanish' not in problems(cfg, languages=('en', 'es'))
  assert 'Spanish' in problems(cfg, prompt__style='paper')
  assert problems(cfg, languages=('en', 'fr')) == ''
  assert 'Spanish' in problems(
      cfg, prompt__style='default', vote__parser='authors', languages=('es',)
  )


def test_an_english_answer_needs_english(cfg):
  assert problems(cfg, languages=('de', 'en'), pair__gold='released') == ''
  assert 'add en' in problems(cfg, languages=('de', 'fr'))
  assert problems(cfg, pair__gold='paper') == ''
  assert 'add en' in problems(cfg, pair__positives='english')


def test_the_english_answer_must_be_sampled_too(cfg):
  fields = {'languages': ('de', 'en'), 'pair__gold': 'released'}
  assert problems(cfg, **fields, sample__languages=('en',)) == ''
  assert 'add en' in problems(cfg, **fields, sample__languages=('de',))


def test_languages_to_sample_are_some_of_all(cfg):
  assert problems(cfg, sample__languages=('fr',)) == ''
  assert 'has de, which' in problems(cfg, sample__languages=('fr', 'de'))
  assert settings.normalise(cfg).sample.languages == ('fr', 'de')


def test_what_is_not_trained_needs_no_split_but_a_system_to_evaluate(cfg):
  assert 'nothing to train on' in problems(cfg, data__train_split='')
  assert problems(cfg, train__method='none') == ''
  assert 'nothing to evaluate' in problems(cfg, evaluate__before=False)
  assert problems(cfg, train__method='dpo', data__train_split='train') == ''


def adapter_folder(path, **changes):
  config = {'r': 2, 'lora_alpha': 16, 'target_modules': ['v_proj', 'q_proj']}
  path.mkdir()
  (path / 'adapter_config.json').write_text(json.dumps(config | changes))
  (path / 'adapter_model.safetensors').touch()
  return str(path)


def test_an_adapter_is_trained_on_in_its_own_shape(cfg, tmp_path):
  assert problems(cfg, adapter=adapter_folder(tmp_path / 'a')) == ''
  other = adapter_folder(tmp_path / 'b', r=4, target_modules=['x.q_proj'])
  said = problems(cfg, adapter=other)
  assert 'rank 4, alpha 16 and the targets q_proj' in said
  assert problems(cfg, train__method='none') == ''
  (tmp_path / 'b' / 'adapter_config.json').write_text('{}')
  assert 'damaged' in problems(cfg, train__method='dpo')


def test_the_reference_can_start_only_from_an_adapter(cfg, tmp_path):
  assert 'leave it at base' in problems(cfg, train__reference='start')
  assert problems(cfg, adapter=adapter_folder(tmp_path / 'a')) == ''
  assert 'leave it at base' in problems(cfg, train__method='sft')


def test_smoothing_is_of_two_losses(cfg):
  assert problems(cfg, train__label_smoothing=0.1) == ''
  assert problems(cfg, train__loss='robust') == ''
  assert 'has no effect' in problems(cfg, train__loss='ipo')
  assert problems(cfg, train__label_smoothing=0.0) == ''


def test_losses_of_pairs_are_not_for_targets(cfg):
  assert problems(cfg, train__method='sft') == ''
  assert 'are for pairs' in problems(cfg, train__loss='hinge')
  assert problems(cfg, train__method='dpo', train__sft_weight=1.0) == ''
  said = problems(cfg, train__method='sft', train__loss='sigmoid')
  assert 'are for pairs' in said


@pytest.mark.parametrize('mode', ['adaptive', 'always'])
def test_passages_must_come_from_somewhere(cfg, mode):
  assert 'needs passages' in problems(cfg, selfrag__mode=mode)
  assert problems(cfg, retrieve__backend='lancedb') == ''
  edits = {'retrieve__backend': 'none', 'selfrag__mode': 'never'}
  assert problems(cfg, **edits) == ''


def test_reflection_tokens_are_not_kept_in_rebuilt_answers(cfg):
  assert problems(cfg, selfrag__keep_tokens=True) == ''
  assert 'set one to False' in problems(cfg, selfrag__mode='never')
  assert problems(cfg, pair__rebuild=False) == ''
  said = problems(cfg, translate__backend='model')
  assert 'a translator would lose' in said


def test_templates_by_name_are_those_that_there_are():
  rule = rules.RULES['prompt.template']
  for name in ('', *chat.TEMPLATES):
    assert rule(name) is None
  assert "did you mean 'selfrag'?" in str(rule('self-rag'))


def test_two_axes_cannot_both_take_what_is_left(cfg):
  assert 'only one axis' in problems(cfg, mesh__fsdp=-1)
  assert problems(cfg, mesh__data=1) == ''


def test_the_data_must_be_there(cfg, tmp_path):
  said = problems(cfg, data__name='xcsqa')
  assert 'is empty' in said
  assert 'python -m tools.fetch_data' in said
  assert 'docs/DATA.md' in said
  gone = str(tmp_path / 'gone')
  assert 'does not exist' in problems(cfg, data__path=gone)
  assert 'does not exist' in problems(cfg, data__name='demo')


def test_the_files_of_both_splits_must_be_there(cfg):
  said = problems(cfg, data__test_split='dev')
  assert 'en/dev.jsonl is not there' in said
  assert 'splits in en: test, train' in said
  assert '\n' not in said
  assert 'de/tset.jsonl' in problems(
      cfg, languages=('de',), data__train_split='tset', data__test_split='test'
  )


def test_the_files_of_all_languages_must_be_there(cfg, tmp_path):
  said = problems(cfg, languages=('en', 'es')).splitlines()
  assert [line.split()[1].split('/')[-2:] for line in said] == [
      ['es', 'train.jsonl'],
      ['es', 'test.jsonl'],
  ]
  assert 'has no meaning for data.name=demo' in problems(
      cfg, languages=('en',), data__path=str(tmp_path)
  )


@pytest.mark.parametrize('name', [n for n in datasets.READERS if n != 'demo'])
def test_every_data_set_tells_of_missing_files(cfg, tmp_path, name):
  langs, path = ('en', 'zh'), str(tmp_path)
  found = problems(cfg, data__name=name, data__path=path, languages=langs)
  assert found
  assert all(
      line.startswith(f'config.data: {tmp_path}') or 'has no split' in line
      for line in found.splitlines()
  )


def test_a_language_that_no_split_has_is_told_once(cfg, tmp_path):
  path = str(tmp_path)
  found = problems(
      cfg, data__name='medqa_us', data__path=path, languages=('de',)
  )
  assert 'questions in en only' in found
  assert '\n' not in found


def test_the_translations_must_be_there(cfg, tmp_path):
  said = problems(cfg, translate__backend='files')
  assert "config.translate.path = ''" in said
  assert 'translate.path' in problems(cfg, translate__path=str(tmp_path / 'x'))
  assert 'en-fr.jsonl' in problems(cfg, translate__path=str(tmp_path))
  (tmp_path / 'en-fr.jsonl').touch()
  assert problems(cfg, translate__path=str(tmp_path)) == ''
  assert problems(cfg, translate__backend='none', translate__path='x') == ''


@pytest.mark.parametrize(
    ('model', 'said'),
    [
        ('meta-llama/Meta-Llama-3-8B-Instruct', ''),
        ('Qwen/Qwen2.5-0.5B', ''),
        ('', 'must be a folder or a hub id'),
        ('gpt2', 'is no folder here'),
        ('runs/x/y', 'is no folder here'),
        ('./org/name', 'is no folder here'),
        ('/org/name', 'is no folder here'),
        ('org/', 'is no folder here'),
        # The README's folder, before the model was fetched.
        ('models/smollm2-135m-instruct', 'models/ is for folders'),
        ('full', ''),
        ('half', 'holds no config.json'),
        ('half/other', 'half/ is for folders'),
    ],
)
def test_models(cfg, tmp_path, monkeypatch, model, said):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'half').mkdir()
  model_folder(tmp_path / 'full')
  found = problems(cfg, model=model)
  assert bool(found) == bool(said)
  assert said in found


@pytest.mark.parametrize(
    ('lacking', 'said'),
    [
        ('config.json', 'not a Hugging Face model folder'),
        ('model.safetensors', 'no model.safetensors and no model-*.safeten'),
        ('tokenizer.json', 'no tokenizer.json and no tokenizer.model'),
    ],
)
def test_a_model_folder_is_whole(cfg, tmp_path, lacking, said):
  (tmp_path / 'model' / lacking).unlink()
  found = problems(cfg)
  assert found.startswith('config.model = ')
  assert said in found


def test_weights_may_be_several_files(cfg, tmp_path):
  whole = tmp_path / 'model' / 'model.safetensors'
  whole.rename(tmp_path / 'model' / 'model-00001-of-00002.safetensors')
  assert problems(cfg) == ''


@pytest.mark.parametrize(
    'value', ['en,zh', 'en, zh', ('en,zh',), ['en', 'zh'], ('en', ' zh', '')]
)
def test_languages_are_a_tuple_however_they_are_given(cfg, value):
  with cfg.ignore_type():
    cfg.languages = value
  normal = settings.normalise(cfg)
  assert normal.languages == ('en', 'zh')
  assert type(normal.languages) is tuple
  assert settings.problems(cfg) == []


def test_devices_and_the_hub_are_checked_together(cfg):
  settings.check_machine(cfg)
  cfg.mesh.data = 3
  cfg.model = 'org/gone'
  assert settings.problems(cfg) == []
  with pytest.raises(settings.ConfigError) as e:
    settings.check_machine(cfg)
  first, mesh, model = str(e.value).splitlines()
  assert first == '2 problems in the settings:'
  assert 'config.mesh: mesh data=3 fsdp=1 tensor=1 does not fit' in mesh
  assert 'config.model = org/gone: there is no such folder' in model


def test_a_model_on_the_hub_without_safetensors_is_told_at_once(
    cfg, tmp_path, monkeypatch
):
  cfg.model = 'org/pickles'
  (tmp_path / 'model' / 'model.safetensors').unlink()
  monkeypatch.setattr(hub, 'resolve', lambda *model: tmp_path / 'model')
  assert settings.problems(cfg) == []
  with pytest.raises(settings.ConfigError, match=r'has neither model\.'):
    settings.check_machine(cfg)


def test_a_process_alone_does_not_ask_for_the_devices_of_all(cfg, monkeypatch):
  cfg.mesh.data = 3
  monkeypatch.setattr(hosts, 'process_count', lambda: 2)
  settings.check_machine(cfg)


def test_home_is_found_without_the_shell(cfg, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert 'does not exist' not in problems(cfg, model='~/model', data__path='~')
  normal = settings.normalise(cfg)
  model, data = normal.model, normal.data.path
  assert (model, data) == (str(tmp_path / 'model'), str(tmp_path))


def test_normalising_changes_a_copy_and_locks_it(cfg):
  cfg.lora.targets = ('q_proj,v_proj',)
  normal = settings.normalise(cfg.lock())
  assert normal.lora.targets == ('q_proj', 'v_proj')
  assert cfg.lora.targets == ('q_proj,v_proj',)
  with pytest.raises(AttributeError):
    normal.sample.temprature = 1


def test_flatten_names_every_leaf():
  flat = settings.flatten(ALL)
  assert flat['model'] == ALL.model
  assert flat['train.beta'] == 0.1
  assert 'train' not in flat


def test_the_targets_are_those_of_the_decoder():
  from calm_jax.lm import decoder

  for target in decoder.PROJECTIONS:
    assert rules.RULES['lora.targets']((target,)) is None
  said = rules.RULES['lora.targets'](())
  assert said is not None
  assert said.count('_proj') == len(decoder.PROJECTIONS)
