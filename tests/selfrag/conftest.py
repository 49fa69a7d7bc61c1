"""Real medical questions and a corpus for Self-RAG, and what a run left."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shutil

import pytest

from calm_jax import pipeline, records
from calm_jax.datasets import textbooks
from configs import base

# The authors' files of MEDQA-US, by language.
NAMES = {'en': 'native_en', 'zh': 'en2cn', 'fr': 'en2fr'}
LANGUAGES = tuple(NAMES)


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run left in its folder."""

  folder: pathlib.Path

  def counts(self, stage):
    path = self.folder / stage / 'DONE.json'
    return json.loads(path.read_text())['counts']

  def evidence(self, split):
    path = self.folder / 'retrieve' / f'{split}.jsonl'
    return {
        (e.question_id, e.lang): {p.id: p for p in e.passages}
        for e in records.read_jsonl(path, records.Evidence)
    }

  def reflections(self, stage):
    found = records.read_all(
        self.folder / stage / 'reflections', '*.jsonl', records.Reflection
    )
    return {(r.question_id, r.lang, r.index): r for r in found if r.elected}

  def pairs(self):
    return [
        row
        for name in ('train', 'val')
        for row in records.read_jsonl(
            self.folder / 'pair' / f'{name}.jsonl', records.Pair
        )
    ]

  def shown(self):
    text = (self.folder / 'report' / 'questions.html').read_text('utf-8')
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])['items']


@pytest.fixture(scope='session')
def left():
  """A folder's Run."""
  return Run


@dataclasses.dataclass(frozen=True)
class Medical:
  """A run over 30 of the authors' questions, and what it must leave."""

  questions: pathlib.Path
  corpus: pathlib.Path

  def config(self, model):
    cfg = base.get_config()
    cfg.model = str(model)
    cfg.dtype = 'bfloat16'
    cfg.languages = LANGUAGES
    cfg.data.name, cfg.data.path = 'medqa_authors_us', str(self.questions)
    cfg.data.train_split = cfg.data.test_split = 'test'
    cfg.sample.m = 1
    cfg.sample.max_new_tokens = cfg.evaluate.max_new_tokens = 8
    cfg.sample.answer = 'two_stage'
    cfg.sample.slots = 12  # in more, a run ends in half as many: more programs
    cfg.vote.ties = 'seeded'
    cfg.translate.backend, cfg.translate.max_new_tokens = 'model', 64
    cfg.retrieve.backend, cfg.retrieve.mode = 'lancedb', 'text'
    cfg.retrieve.format, cfg.retrieve.corpus = 'textbooks', str(self.corpus)
    cfg.retrieve.query = 'stem_and_options'
    cfg.retrieve.top_k = 1
    cfg.selfrag.mode = 'always'
    # Few pairs, two directions of translation: a program is compiled for each.
    cfg.pair.min_share = 0.6  # two of three languages agree
    cfg.pair.positives = 'english'
    cfg.pair.val_size = 0.0
    cfg.train.epochs = 1
    cfg.train.accumulation = 4
    cfg.train.warmup_ratio = 0.0  # a step or two, which should move something
    cfg.train.max_length = 2048
    cfg.evaluate.before = False
    cfg.evaluate.bootstrap = 10
    return cfg

  def check(self, cfg, folder):
    for stage in pipeline.STAGES:
      assert (folder / stage.name / 'DONE.json').is_file()
    run = Run(folder)
    self._check_answers(run)
    votes = records.read_all(folder / 'vote', 'votes.jsonl', records.Vote)
    assert len(votes) == 30
    # A winning explanation of another language went through the cache.
    rows = run.pairs()
    assert rows
    assert any(p.chosen_lang != p.lang for p in rows)
    cache = folder / 'translations' / f'{cfg.translate.backend}.jsonl'
    assert cache.stat().st_size
    assert all(p.opening for p in rows)
    assert run.counts('align')['steps'] >= 1
    scores = records.read_all(
        folder / 'evaluate', 'scores.jsonl', records.Score
    )
    assert {s.n for s in scores if s.metric == 'accuracy'} == {30}
    items = run.shown()
    assert len(items) == 30
    # Sampled once, and answered once by each model that is evaluated.
    answered = 1 + len(list((folder / 'evaluate').glob('*/reflections')))
    assert answered == 2 + cfg.evaluate.before
    assert {len(i['reflections']) for i in items} == {3 * answered}

  def _check_answers(self, run):
    """All 30 in all languages were asked, nearly all of them with a passage."""
    path = run.folder / 'translate' / 'train.jsonl'
    asked = [(q.id, q.lang) for q in records.read_jsonl(path, records.Question)]
    ids = {name for name, _ in asked}
    assert len(asked) == 90
    assert set(asked) == {(name, lang) for name in ids for lang in LANGUAGES}
    elected = run.reflections('sample')
    assert len(elected) == 90
    found = run.evidence('train')
    sources = {p.source for beside in found.values() for p in beside.values()}
    assert 'en/abstracts' in sources
    for (name, lang, _), r in elected.items():
      if r.passage is None:
        assert not found[name, lang]  # no word in common with any book
      else:
        assert r.passage in found[name, lang]
        assert 0 <= r.relevance <= 1
    assert sum(r.passage is not None for r in elected.values()) >= 60


@pytest.fixture(scope='module')
def medical(tmp_path_factory, real_data):
  return Medical(
      questions=_shortest(
          real_data / 'calm_authors' / 'medqa' / 'test',
          tmp_path_factory.mktemp('medqa'),
      ),
      corpus=_corpus(
          real_data / 'corpora' / 'pubmedqa_test_set.json',
          tmp_path_factory.mktemp('corpus') / 'textbooks',
      ),
  )


def _corpus(abstracts, folder):
  """Our own books, and real abstracts beside them."""
  shutil.copytree(textbooks.BUNDLED, folder)
  articles = json.loads(abstracts.read_text('utf-8'))
  texts = [t for a in [*articles.values()][:15] for t in a['CONTEXTS']]
  (folder / 'en' / 'abstracts.txt').write_text('\n'.join(texts), 'utf-8')
  return folder.parent


def _shortest(source, folder):
  """The 30 shortest of the authors' tests before their extra row."""
  rows = [
      json.loads((source / f'all_test_{name}.json').read_text('utf-8'))[:297]
      for name in NAMES.values()
  ]
  by_row = [*zip(*rows, strict=True)]
  by_row.sort(key=lambda row: sum(len(r['input'].encode()) for r in row))
  columns = zip(*by_row[:30], strict=True)
  for name, chosen in zip(NAMES.values(), columns, strict=True):
    text = json.dumps(chosen, ensure_ascii=False)
    (folder / f'all_test_{name}.json').write_text(text, 'utf-8')
  return folder
