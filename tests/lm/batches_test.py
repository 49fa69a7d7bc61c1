"""Rows, batch plans and shapes: literals in, arrays out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from calm_jax.lm import batches

PAIR = batches.Row((5, 6), ((7, 8, 9), (10,)))


APART = PAIR._replace(sequences=2)


def _one(row, shape):
  """Of a row; without the axis of sequences where there is one."""
  batch = batches.build([row], np.array([[0]]), batches.Shape(*shape))
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
      'answer_BEC': [0, 0, 0, 1, 0],
      'mask_BEC': [True, True, True, True, False],
      'weight_BP': [1.0],
      'ref_BP2': [[0.0, 0.0]],
  }


def test_or_has_it_twice():
  assert _one(APART, (6, 3, 2)) == {
      'tokens_BET': [[5, 6, 7, 8, 9, 0], [5, 6, 10, 0, 0, 0]],
      'positions_BET': [[0, 1, 2, 3, 4, 0], [0, 1, 2, 0, 0, 0]],
      'segments_BET': [[0, 0, 1, 1, 1, -1], [0, 0, 1, -1, -1, -1]],
      'source_BEC': [[1, 2, 3], [1, 0, 0]],
      'labels_BEC': [[7, 8, 9], [10, 0, 0]],
      'answer_BEC': [[0, 0, 0], [1, 0, 0]],
      'mask_BEC': [[True, True, True], [True, False, False]],
      'weight_BP': [1.0],
      'ref_BP2': [[0.0, 0.0]],
  }


def test_sequences_apart_are_as_long_as_the_longest_of_their_row():
  rows = [APART, APART._replace(prompt=(1,) * 9, completions=((2,), (3,)))]
  assert batches.lengths(rows) == (5, 10)
  assert batches.tokens(rows) == 2 * 2 + 4 + 2 * 9 + 2
  assert batches.tokens([PAIR]) == 6
  needed = batches.need(rows, np.array([[0], [1], [-1]]))
  assert needed == (10, 3, 2, 1)
  assert batches.shapes([needed], limit=1) == ((32, 32, 2, 1),)
  filled = batches.build(rows, np.array([[-1], [0]]), batches.Shape(32, 32, 2))
  assert filled.tokens_BET.shape == (2, 2, 32)
  assert not filled.mask_BEC[0].any()
  assert batches.count_tokens(filled) == batches.tokens(rows[:1])


def test_packed_rows_stand_one_after_another():
  target = batches.Row((1, 2), ((3, 4), (5,)), 0.5)
  index, shape = np.array([[0, -1, 1]]), batches.Shape(12, 8, 1, 3)
  ref = np.array([[-1, -2], [-3, -4]])
  batch = batches.build([PAIR, target], index, shape, ref)
  row = {k: v[0].tolist() for k, v in batch._asdict().items()}
  assert row == {
      'tokens_BET': [[5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 0]],
      'positions_BET': [[0, 1, 2, 3, 4, 2, 0, 1, 2, 3, 2, 0]],
      'segments_BET': [[0, 0, 1, 1, 1, 2, 6, 6, 7, 7, 8, -1]],
      'source_BEC': [[1, 2, 3, 1, 7, 8, 7, 0]],
      'labels_BEC': [[7, 8, 9, 10, 3, 4, 5, 0]],
      'answer_BEC': [[0, 0, 0, 1, 4, 4, 5, 0]],
      'mask_BEC': [[True] * 7 + [False]],
      'weight_BP': [1, 0, 0.5],
      'ref_BP2': [[-1, -2], [0, 0], [-3, -4]],
  }
  assert batches.need([PAIR, target], index) == (11, 7, 1, 3)
  assert batches.count_tokens(batch) == 11


def test_packed_rows_of_two_sequences_share_both():
  rows = [APART, APART._replace(prompt=(1,), completions=((2,), (3, 4)))]
  shape = batches.Shape(8, 5, 2, 2)
  batch = batches.build(rows, np.array([[0, 1]]), shape)
  assert batch.tokens_BET[0].tolist() == [
      [5, 6, 7, 8, 9, 1, 2, 0],
      [5, 6, 10, 1, 3, 4, 0, 0],
  ]
  assert batch.answer_BEC[0].tolist() == [[0, 0, 0, 2, 0], [1, 3, 3, 0, 0]]
  assert batch.source_BEC[0].tolist() == [[1, 2, 3, 5, 0], [1, 3, 4, 0, 0]]
  assert batches.need(rows, np.array([[0, 1]])) == (8, 5, 2, 2)


def test_a_target_is_a_pair_without_its_rejected_side():
  row = _one(batches.Row((5,), ((7, 8),), 0.5), (3, 2))
  assert row['segments_BET'] == [0, 1, 1]
  assert row['source_BEC'] == [0, 1]
  assert row['weight_BP'] == [0.5]


def test_an_empty_completion_moves_no_source():
  row = _one(batches.Row((5, 6), ((), (7, 8))), (4, 2))
  assert row['source_BEC'] == [1, 2]
  assert row['answer_BEC'] == [1, 1]


def test_minus_one_is_a_row_without_weight():
  ref = np.array([[-1.0, -2.0]])
  index = np.array([[[0]], [[-1]]])
  batch = batches.build([PAIR], index, batches.Shape(8, 4), ref)
  assert batch.tokens_BET.shape == (2, 1, 1, 8)
  assert batch.weight_BP.tolist() == [[[1.0]], [[0.0]]]
  assert batch.ref_BP2.tolist() == [[[[-1.0, -2.0]]], [[[0.0, 0.0]]]]
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


def test_by_length_puts_long_rows_first():
  rows = [batches.Row((1,) * n, ((1,),)) for n in (2, 9, 4)]
  assert [b.tolist() for b in batches.by_length(rows, 2)] == [
      [[1], [2]],
      [[0], [-1]],
  ]


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
  assert batches.shapes([batches.Shape(60, 5)] * 9, limit=4) == (
      (64, 32, 1, 1),
  )


def test_need_ignores_filling():
  rows = [PAIR, batches.Row((1,) * 9, ((1,),))]
  assert batches.need(rows, np.array([[0], [-1], [1], [-1]])) == (
      10,
      4,
      1,
      1,
  )
