"""Self-RAG through every stage: a tiny model on bundled questions and books."""

from __future__ import annotations

import json
import shutil

import pytest

from calm_jax import pipeline, records, training_data
from calm_jax.lm import chat, tokenizer
from calm_jax.retrieval import selfrag
from configs import tiny

pytestmark = pytest.mark.slow


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
  cfg.train.monitor = 1
  return cfg


@pytest.fixture(scope='module')
def run(tmp_path_factory, selfrag_model, left):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  folder = tmp_path_factory.mktemp('selfrag')
  pipeline.run(config(selfrag_model), folder)
  return left(folder)


def test_samples_and_pairs_come_from_elected_answers(run):
  samples = records.read_all(run.folder / 'sample', '*.jsonl', records.Sample)
  elected = run.reflections('sample')
  assert len(samples) == len(elected) == 4 * 2 * 2
  for s in samples:
    assert s.answer == elected[s.question_id, s.lang, s.index].answer
  passages = run.evidence('train')
  chosen = {
      (*where[:2], selfrag.opening(passages[where[:2]][r.passage]))
      for where, r in elected.items()
  }
  assert run.pairs()
  for pair in run.pairs():
    assert (pair.question_id, pair.chosen_lang, pair.opening) in chosen
    assert pair.opening[2] not in pair.prompt
    for text in (pair.prompt, pair.chosen, pair.rejected):
      assert not any(name in text for name in selfrag.TOKENS)


def test_training_and_evaluation_go_on_to_the_report(run):
  beside = sum(len(p) for p in run.evidence('train').values())
  tested = sum(len(p) for p in run.evidence('test').values())
  assert min(beside, tested) > 8  # some have two
  sampled = run.counts('sample')
  assert sampled['answers_scored'] == 2 * beside
  assert sampled['samples_with_passage'] == 4 * 2 * 2
  assert run.counts('evaluate')['aligned_answers_scored'] == tested
  lines = (run.folder / 'align' / 'metrics.jsonl').read_text().splitlines()
  # The reference saw the same passage: ln 2 before the first step.
  assert json.loads(lines[0])['loss'] == pytest.approx(0.6931, abs=1e-3)
  # A held-out question was answered beside its passages while training.
  told = [json.loads(line) for line in lines]
  asked = [row for row in told if row['split'] == 'monitor']
  assert asked
  assert all(0 <= row['agreement'] <= 100 for row in asked)
  for system in ('base', 'aligned'):
    found = run.reflections(f'evaluate/{system}')
    assert {r.system for r in found.values()} == {system}
  items = run.shown()
  assert sum(len(i['reflections']) for i in items) == 2 * beside + 2 * tested
  assert all(item['evidence'] for item in items)


def test_tokens_that_are_kept_are_trained_on_as_tokens(
    run, tmp_path, selfrag_model, left
):
  cfg = config(selfrag_model)
  cfg.selfrag.keep_tokens, cfg.pair.rebuild = True, False
  for name in ('read', 'translate', 'retrieve'):
    shutil.copytree(run.folder / name, tmp_path / name)
  pipeline.run(cfg, tmp_path, ('sample', 'vote', 'pair'))
  found = left(tmp_path).pairs()
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
