"""The cache of reference log-probabilities, with a model of one line."""

from __future__ import annotations

import numpy as np
import pytest

from calm_jax.lm import batches, reference

ROWS = [
    batches.Row((i,) * (1 + i % 7), ((1,) * (i % 5), (2,))) for i in range(70)
]


def _score(batch):
  """Sums that tell rows and sides apart."""
  real = batch.segments_BET == batches.PROMPT
  chosen = (batch.tokens_BET * real)[:, 0].sum(1)
  return np.stack([-chosen, -1000.0 - chosen], axis=1)


SHORT, APART = batches.Shape(32, 8), batches.Shape(32, 16, 2)
# Batches of two, longer than need be.
LAYOUT = [
    batches.Part(index_BP, batches.Shape(32, 16))
    for index_BP in batches.by_length(ROWS, 2)
]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
  monkeypatch.setattr(reference, '_SHARD', 16)


def _logprobs(folder, score=_score):
  told = []
  ref = reference.logprobs(
      score, ROWS, folder, layout=LAYOUT, advance=told.append
  )
  return ref, told


def test_every_row_gets_its_own(tmp_path):
  ref, told = _logprobs(tmp_path)
  expected = [-i * (1 + i % 7) for i in range(70)]
  assert ref[:, 0].tolist() == expected
  assert ref[:, 1].tolist() == [x - 1000 for x in expected]
  assert told == [32, 32, 6]


def test_finished_shards_are_read_and_missing_ones_made(tmp_path):
  ref, _ = _logprobs(tmp_path)
  (tmp_path / '00001.jsonl').unlink()
  calls = []

  def count(batch):
    calls.append(batch)
    return _score(batch)

  again, told = _logprobs(tmp_path, count)
  np.testing.assert_array_equal(again, ref)
  assert len(calls) == 16
  assert told == [32, 32, 6]


def test_float32_survives_the_file(tmp_path):
  third = lambda batch: np.full((2, 2), -1 / 3, np.float32)
  ref, _ = _logprobs(tmp_path, third)
  again, _ = _logprobs(tmp_path, pytest.fail)
  np.testing.assert_array_equal(again, ref)
  assert ref[0, 0] == np.float32(-1 / 3)


def test_no_rows_no_files(tmp_path):
  ref = reference.logprobs(
      pytest.fail, [], tmp_path, layout=[], advance=pytest.fail
  )
  assert ref.shape == (0, 2)
  assert not list(tmp_path.iterdir())


def _key(rows=tuple(ROWS), identity='m', dtype='float32', layout=LAYOUT):
  return reference.key(rows, identity=identity, dtype=dtype, layout=layout)


def test_the_key_knows_everything_that_matters():
  split = batches.Row((1, 2), ((3,), (4,)))
  elsewhere = batches.Row((1,), ((2, 3), (4,)))
  keys = [
      _key(),
      _key(ROWS[::-1]),
      _key(ROWS[:-1]),
      _key(identity='n'),
      _key(dtype='bfloat16'),
      _key(layout=LAYOUT[::-1]),
      _key(layout=LAYOUT[1:]),
      _key(layout=[part._replace(shape=SHORT) for part in LAYOUT]),
      _key(layout=[part._replace(shape=APART) for part in LAYOUT]),
      _key([split]),
      _key([elsewhere]),
  ]
  assert len(set(keys)) == len(keys)
  assert _key() == keys[0]
