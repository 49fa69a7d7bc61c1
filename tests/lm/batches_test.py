"""Rows, batch plans and shapes: literals in, arrays out."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from calm_jax.lm import batches

PAIR = batches.Row((5, 6), ((7, 8, 9), (10,)))


APART = PAIR._replace(sequences=2)


def _one(row, shape):
  """Of a row; without the axis of sequences where there is one."""
  batch = batches.build([row], np.array([0]), batches.Shape(*shape))
  values = {
      name: value[0].tolist()
      for name, value in zip(batch._fields, batch, strict=True)
  }
  if row.sequences > 1:
    return values
  one = lambda name, value: value[0] if 'BE' in name else value
  return {name: one(name, value) for name, value in values.items()}


def test_a_pair_shares_its_prompt():
  assert _one(PAIR, (8, 5)) == {
      'tokens_BET': [5, 6, 7, 8, 9, 10, 0, 0],
      'positions_BET': [0, 1, 2, 3, 4, 2, 0, 0],
      'segments_BET': [0, 0, 1, 1, 1, 2, -1, -1],
      'source_BEC': [1, 2, 3, 1, 0],
      'labels_BEC': [7, 8, 9, 10, 0],
      'side_BEC': [0, 0, 0, 1, 0],
      'mask_BEC': [True, True, True, True, False],
      'weight_B': 1.0,
      'ref_B2': [0.0, 0.0],
  }


def test_or_has_it_twice():
  assert _one(APART, (6, 3, 2)) == {
      'tokens_BET': [[5, 6, 7, 8, 9, 0], [5, 6, 10, 0, 0, 0]],
      'positions_BET': [[0, 1, 2, 3, 4, 0], [0, 1, 2, 0, 0, 0]],
      'segments_BET': [[0, 0, 1, 1, 1, -1], [0, 0, 1, -1, -1, -1]],
      'source_BEC': [[1, 2, 3], [1, 0, 0]],
      'labels_BEC': [[7, 8, 9], [10, 0, 0]],
      'side_BEC': [[0, 0, 0], [1, 0, 0]],
      'mask_BEC': [[True, True, True], [True, False, False]],
      'weight_B': 1.0,
      'ref_B2': [0.0, 0.0],
  }


def test_sequences_apart_are_as_long_as_the_longest_of_their_row():
  rows = [APART, APART._replace(prompt=(1,) * 9, completions=((2,), (3,)))]
  assert batches.lengths(rows) == (5, 10)
  assert batches.tokens(rows) == 2 * 2 + 4 + 2 * 9 + 2
  assert batches.tokens([PAIR]) == 6
  needed = batches.need(rows, np.array([0, 1, -1]))
  assert needed == (10, 3, 2)
  assert batches.shapes([needed], limit=1) == ((32, 32, 2),)
  filled = batches.build(rows, np.array([-1, 0]), batches.Shape(32, 32, 2))
  assert filled.tokens_BET.shape == (2, 2, 32)
  assert not filled.mask_BEC[0].any()
  assert batches.count_tokens(filled) == batches.tokens(rows[:1])


def test_a_target_is_a_pair_without_its_rejected_side():
  row = _one(batches.Row((5,), ((7, 8),), 0.5), (3, 2))
  assert row['segments_BET'] == [0, 1, 1]
  assert row['source_BEC'] == [0, 1]
  assert row['weight_B'] == 0.5


def test_an_empty_completion_moves_no_source():
  row = _one(batches.Row((5, 6), ((), (7, 8))), (4, 2))
  assert row['source_BEC'] == [1, 2]
  assert row['side_BEC'] == [1, 1]


def test_minus_one_is_a_row_without_weight():
  ref = np.array([[-1.0, -2.0]])
  index = np.array([[0], [-1]])
  batch = batches.build([PAIR], index, batches.Shape(8, 4), ref)
  assert batch.tokens_BET.shape == (2, 1, 1, 8)
  assert batch.weight_B.tolist() == [[1.0], [0.0]]
  assert batch.ref_B2.tolist() == [[[-1.0, -2.0]], [[0.0, 0.0]]]
  assert not batch.mask_BEC[1].any()
  assert batches.count_tokens(batch) == 6


@pytest.mark.parametrize(
    ('limit', 'completions', 'cut'),
    [
        (5, ((7, 8, 9), (10,)), 0),
        (4, ((7, 8), (10,)), 1),
        (3, ((7,), (10,)), 1),
    ],
)
def test_completions_lose_their_end_and_are_counted(limit, completions, cut):
  row = batches.fit((5, 6), PAIR.completions, max_length=limit)
  assert row == batches.Row((5, 6), completions, 1.0, cut)


def test_a_prompt_is_never_cut():
  assert batches.fit((5, 6), PAIR.completions, max_length=2) is None


PLAN = batches.Plan(num_rows=7, batch=2, accumulation=2, epochs=3, seed=1)


def test_every_epoch_visits_every_row_once():
  assert (PLAN.steps_per_epoch, PLAN.steps) == (2, 6)
  for epoch in range(3):
    rows = np.concatenate([PLAN.rows_AB(2 * epoch + i).ravel() for i in (0, 1)])
    assert sorted(rows) == [-1, 0, 1, 2, 3, 4, 5, 6]
    assert rows[-1] == -1


def test_a_step_is_a_function_of_seed_and_step():
  steps = [PLAN.rows_AB(step).tolist() for step in range(6)]
  assert [PLAN.rows_AB(s).tolist() for s in (5, 0, 3)] == [
      steps[5],
      steps[0],
      steps[3],
  ]
  assert steps[:2] != steps[2:4]
  other = batches.Plan(7, 2, 2, 3, seed=2)
  assert other.rows_AB(0).tolist() != steps[0]


def test_the_permutation_is_pinned():
  # A resumed run must see the rows that the killed one would have seen.
  rows = batches.Plan(10, 10, 1, 1, seed=42).rows_AB(0)
  assert rows.tolist() == [[5, 0, 6, 4, 2, 7, 3, 1, 8, 9]]


def test_steps_share_out_their_rows_by_length():
  lengths = tuple(10 * (i % 13) + i for i in range(41))
  plain = batches.Plan(41, 2, 2, 2, seed=3, lengths=lengths)
  plan = dataclasses.replace(plain, window=5)
  for epoch in (0, 11):
    steps = [plan.rows_AB(epoch + s).ravel() for s in range(11)]
    before = [plain.rows_AB(epoch + s).ravel() for s in range(11)]
    for start in (0, 5, 10):
      block = np.concatenate(steps[start : start + 5])
      assert sorted(block) == sorted(np.concatenate(before[start : start + 5]))
    assert list(steps[-1][1:]) == [-1, -1, -1]
    # A step's rows are neighbours among the lengths of its window.
    ranges = sorted(
        (min(lengths[i] for i in s), max(lengths[i] for i in s))
        for s in steps[:5]
    )
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
    assert [s.tolist() for s in steps[:5]] != sorted(
        (s.tolist() for s in steps[:5]), key=lambda s: lengths[s[0]]
    )


def test_a_batch_does_not_depend_on_other_batches():
  rows = [batches.Row((i,), ((i,),)) for i in range(7)]
  a = batches.build(rows, PLAN.rows_AB(4), batches.Shape(4, 2))
  b = batches.build(rows, PLAN.rows_AB(4), batches.Shape(4, 2))
  assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_by_length_puts_long_rows_first():
  rows = [batches.Row((1,) * n, ((1,),)) for n in (2, 9, 4)]
  assert [b.tolist() for b in batches.by_length(rows, 2)] == [[1, 2], [0, -1]]


def test_shapes_are_few_and_hold_everything():
  rng = np.random.RandomState(0)
  needs = [
      batches.Shape(int(n), int(n * rng.uniform(0.1, 0.9)))
      for n in rng.randint(10, 2000, 100)
  ]
  for limit in (1, 3, 4):
    found = batches.shapes(needs, limit=limit)
    assert len(found) == limit
    assert all(n % 32 == 0 for shape in found for n in shape[:2])
    for need in needs:
      shape = batches.pick(found, need)
      assert shape.length >= need.length
      assert shape.completion >= need.completion


def test_shapes_pad_little():
  """Hardly more than the best of all choices."""
  rng = np.random.RandomState(1)
  needs = [batches.Shape(int(n), 1) for n in rng.gamma(9, 40, 300)]
  tops = sorted({-(-n.length // 32) * 32 for n in needs})

  def computed(lengths):
    return sum(min(x for x in lengths if x >= n.length) for n in needs)

  for limit in (2, 4):
    found = [shape.length for shape in batches.shapes(needs, limit=limit)]
    best = min(
        computed((*lower, tops[-1]))
        for lower in itertools.combinations(tops[:-1], limit - 1)
    )
    assert computed(found) <= 1.03 * best


def test_equal_lengths_need_one_shape():
  assert batches.shapes([batches.Shape(60, 5)] * 9, limit=4) == ((64, 32, 1),)


def test_need_ignores_filling():
  rows = [PAIR, batches.Row((1,) * 9, ((1,),))]
  assert batches.need(rows, np.array([[0, -1], [1, -1]])) == (10, 4, 1)
