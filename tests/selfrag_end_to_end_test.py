"""Self-RAG through every stage: a tiny model on the bundled questions and
books; and the small real one on real medical questions, where both are here."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from calm_jax import pipeline, records, training_data
from calm_jax.lm import chat, tokenizer
from calm_jax.retrieval import selfrag
from configs import base, tiny
from tools import add_reflection_tokens

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parent.parent
SMALL = ROOT / 'models' / 'smollm2-135m-instruct'
BUNDLED = ROOT / 'calm_jax' / 'datasets' / 'demo' / 'textbooks'


def evidence(folder, split):
  path = folder / 'retrieve' / f'{split}.jsonl'
  return {
      (e.question_id, e.lang): {p.id: p for p in e.passages}
      for e in records.read_jsonl(path, records.Evidence)
  }


def reflections(folder):
  found = records.read_all(
      folder / 'reflections', '*.jsonl', records.Reflection
  )
  return {(r.question_id, r.lang, r.index): r for r in found if r.elected}


def pairs(folder):
  return [
      row
      for name in ('train', 'val')
      for row in records.read_jsonl(
          folder / 'pair' / f'{name}.jsonl', records.Pair
      )
  ]


def shown(folder):
  text = (folder / 'report' / 'questions.html').read_text('utf-8')
  found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
  assert found is not None
  return json.loads(found[1])['items']


def config(model):
  cfg = tiny.get_config()
  cfg.model = str(model)
  cfg.prompt.template = 'selfrag'
  cfg.sample.temperature = 2.0  # so that rare tokens are drawn
  cfg.sample.top_p = 1.0
  cfg.sample.max_new_tokens = cfg.evaluate.max_new_tokens = 16
  cfg.retrieve.backend, cfg.retrieve.mode = 'lancedb', 'text'
  cfg.retrieve.top_k = cfg.retrieve.noise = 1
  cfg.selfrag.mode = 'always'
  cfg.train.max_length = 1536
  return cfg


@pytest.fixture(scope='module')
def run(tmp_path_factory, selfrag_model):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  folder = tmp_path_factory.mktemp('selfrag')
  pipeline.run(config(selfrag_model), folder)
  return folder


def counts(folder, stage):
  return json.loads((folder / stage / 'DONE.json').read_text())['counts']


def test_samples_and_pairs_come_from_elected_answers(run):
  samples = records.read_all(run / 'sample', '*.jsonl', records.Sample)
  elected = reflections(run / 'sample')
  assert len(samples) == len(elected) == 4 * 2 * 2
  for s in samples:
    assert s.answer == elected[s.question_id, s.lang, s.index].answer
  passages = evidence(run, 'train')
  chosen = {
      (*where[:2], selfrag.opening(passages[where[:2]][r.passage]))
      for where, r in elected.items()
  }
  assert pairs(run)
  for pair in pairs(run):
    assert (pair.question_id, pair.chosen_lang, pair.opening) in chosen
    assert pair.opening[2] not in pair.prompt
    for text in (pair.prompt, pair.chosen, pair.rejected):
      assert not any(name in text for name in selfrag.TOKENS)


def test_training_and_evaluation_go_on_to_the_report(run):
  beside = sum(len(p) for p in evidence(run, 'train').values())
  tested = sum(len(p) for p in evidence(run, 'test').values())
  assert min(beside, tested) > 8  # some have two
  sampled = counts(run, 'sample')
  assert sampled['answers_scored'] == 2 * beside
  assert sampled['samples_with_passage'] == 4 * 2 * 2
  assert counts(run, 'evaluate')['aligned_answers_scored'] == tested
  lines = (run / 'align' / 'metrics.jsonl').read_text().splitlines()
  # The reference saw the same passage: ln 2 before the first step.
  assert json.loads(lines[0])['loss'] == pytest.approx(0.6931, abs=1e-3)
  for system in ('base', 'aligned'):
    found = reflections(run / 'evaluate' / system)
    assert {r.system for r in found.values()} == {system}
  items = shown(run)
  assert sum(len(i['reflections']) for i in items) == 2 * beside + 2 * tested
  assert all(item['evidence'] for item in items)


def test_tokens_that_are_kept_are_trained_on_as_tokens(
    run, tmp_path, selfrag_model
):
  cfg = config(selfrag_model)
  cfg.selfrag.keep_tokens, cfg.pair.rebuild = True, False
  for name in ('read', 'translate', 'retrieve'):
    shutil.copytree(run / name, tmp_path / name)
  pipeline.run(cfg, tmp_path, ('sample', 'vote', 'pair'))
  found = pairs(tmp_path)
  tok = tokenizer.load(selfrag_model, template=chat.SELFRAG)
  marks = {tok.id_of(name): name for name in selfrag.TOKENS}
  plain, _ = training_data.encode(found, tok, max_length=2048)
  kept, _ = training_data.encode(
      found, tok, max_length=2048, marks=selfrag.TOKENS
  )
  named = 0
  for pair, without, row in zip(found, plain, kept, strict=True):
    assert row.prompt == without.prompt  # its opening is special in any case
    assert [i for i in row.prompt if i in marks] == [
        tok.id_of(piece) for piece in (*pair.opening[:2], pair.opening[3])
    ]
    for text, ids, bare in zip(
        (pair.chosen, pair.rejected),
        row.completions,
        without.completions,
        strict=True,
    ):
      names = [marks[i] for i in ids if i in marks]
      assert not any(i in marks for i in bare)
      assert len(names) == sum(text.count(name) for name in selfrag.TOKENS)
      named += len(names)
  assert named


@pytest.fixture(scope='module')
def corpus(tmp_path_factory, real_data):
  """Our own books, and real abstracts beside them."""
  folder = tmp_path_factory.mktemp('corpus') / 'textbooks'
  shutil.copytree(BUNDLED, folder)
  articles = json.loads(
      (real_data / 'corpora' / 'pubmedqa_test_set.json').read_text('utf-8')
  )
  texts = [t for a in [*articles.values()][:40] for t in a['CONTEXTS']]
  (folder / 'en' / 'abstracts.txt').write_text('\n'.join(texts), 'utf-8')
  return folder.parent


@pytest.fixture(scope='module')
def questions(tmp_path_factory, real_data):
  """The 30 shortest of the authors' MEDQA tests before their extra row."""
  source = real_data / 'calm_authors' / 'medqa' / 'test'
  names = ('native_en', 'en2cn', 'en2fr')
  rows = [
      json.loads((source / f'all_test_{name}.json').read_text('utf-8'))[:297]
      for name in names
  ]
  by_row = [*zip(*rows, strict=True)]
  by_row.sort(key=lambda row: sum(len(r['input'].encode()) for r in row))
  folder = tmp_path_factory.mktemp('medqa')
  for name, chosen in zip(names, zip(*by_row[:30], strict=True), strict=True):
    text = json.dumps(chosen, ensure_ascii=False)
    (folder / f'all_test_{name}.json').write_text(text, 'utf-8')
  return folder


def medical(model, questions, corpus):
  cfg = base.get_config()
  cfg.model = str(model)
  cfg.dtype = 'bfloat16'
  cfg.languages = ('en', 'zh', 'fr')
  cfg.data.name, cfg.data.path = 'medqa_authors_us', str(questions)
  cfg.data.train_split = cfg.data.test_split = 'test'
  cfg.sample.m = 1
  cfg.sample.max_new_tokens = cfg.evaluate.max_new_tokens = 8
  cfg.sample.answer = 'two_stage'
  cfg.sample.slots = 32
  cfg.vote.ties = 'seeded'
  cfg.translate.backend, cfg.translate.max_new_tokens = 'model', 32
  cfg.retrieve.backend, cfg.retrieve.mode = 'lancedb', 'text'
  cfg.retrieve.format, cfg.retrieve.corpus = 'textbooks', str(corpus)
  cfg.retrieve.query = 'stem_and_options'
  cfg.retrieve.top_k = 1
  cfg.selfrag.mode = 'always'
  # Few pairs and two directions of translation: a program is compiled for each.
  cfg.pair.min_share = 0.6  # two of three languages agree
  cfg.pair.positives = 'english'
  cfg.train.epochs = 1
  cfg.train.accumulation = 4
  cfg.train.max_length = 2048
  cfg.evaluate.before = False
  cfg.evaluate.bootstrap = 10
  return cfg


def check_medical(folder):
  done = {
      stage.name: json.loads((folder / stage.name / 'DONE.json').read_text())
      for stage in pipeline.STAGES
  }
  asked = list(
      records.read_jsonl(folder / 'translate' / 'train.jsonl', records.Question)
  )
  assert {(q.id, q.lang) for q in asked} == {
      (q.id, lang) for q in asked for lang in ('en', 'zh', 'fr')
  }
  assert len(asked) == 90
  elected = reflections(folder / 'sample')
  assert len(elected) == 90
  found = evidence(folder, 'train')
  sources = {p.source for found in found.values() for p in found.values()}
  assert 'en/abstracts' in sources
  for (name, lang, _), r in elected.items():
    if r.passage is None:
      assert not found[name, lang]  # no word in common with any book
    else:
      assert r.passage in found[name, lang]
      assert 0 <= r.relevance <= 1
  assert sum(r.passage is not None for r in elected.values()) >= 60
  votes = records.read_all(folder / 'vote', 'votes.jsonl', records.Vote)
  assert len(votes) == 30
  # A winning explanation of another language went through the cache.
  rows = pairs(folder)
  assert rows
  assert any(p.chosen_lang != p.lang for p in rows)
  assert (folder / 'translations' / 'model.jsonl').stat().st_size
  assert all(p.opening for p in rows)
  assert done['align']['counts']['steps'] >= 1
  scores = records.read_all(folder / 'evaluate', 'scores.jsonl', records.Score)
  assert {s.n for s in scores if s.metric == 'accuracy'} == {30}
  items = shown(folder)
  assert len(items) == 30
  # Sampled once, and answered once by the trained model.
  assert all(len(i['reflections']) == 2 * 3 for i in items)


def test_real_medical_questions_on_a_tiny_model(
    tmp_path, ending_model, questions, corpus
):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  model = tmp_path / 'model'
  add_reflection_tokens.add(ending_model, model, seed=0)
  folder = tmp_path / 'run'
  pipeline.run(medical(model, questions, corpus), folder)
  check_medical(folder)
  # Some explanations came to no end: they are counted, and in no pair.
  counted = counts(folder, 'pair')
  assert counted['untranslated'] >= counted['cut_translations'] > 0


def test_real_medical_questions_on_the_small_model(tmp_path, questions, corpus):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  if not SMALL.is_dir():
    pytest.skip(f'{SMALL} is not here: python -m tools.fetch_demo_model')
  add_reflection_tokens.add(SMALL, tmp_path / 'model', seed=0)
  cfg = medical(tmp_path / 'model', questions, corpus)
  cfg.translate.max_new_tokens = 64  # it rarely comes to an end in 32
  file = tmp_path / 'config.py'
  file.write_text(
      'from ml_collections import ConfigDict\n'
      f'get_config = lambda: ConfigDict({cfg.to_dict()!r})\n'
  )
  # By itself, since tests compile without optimisation.
  subprocess.run(
      [
          *(sys.executable, '-m', 'calm_jax.main'),
          f'--config={file}',
          f'--workdir={tmp_path / "run"}',
      ],
      cwd=ROOT,
      env={k: v for k, v in os.environ.items() if not k.startswith('XLA')},
      check=True,
  )
  check_medical(tmp_path / 'run')
