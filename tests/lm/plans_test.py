"""Which rows a step trains on, and which of them share a row."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from calm_jax.lm import packing, plans

PLAN = plans.Plan(num_rows=7, batch=2, accumulation=2, epochs=3, seed=1)


def rows_AB(plan, step):
  """Those of a step of a plan that packs none."""
  return plan.index_SABP[step, ..., 0]


def test_every_epoch_visits_every_row_once():
  assert (PLAN.steps_per_epoch, PLAN.steps) == (2, 6)
  for epoch in range(3):
    rows = np.concatenate(
        [rows_AB(PLAN, 2 * epoch + i).ravel() for i in (0, 1)]
    )
    assert sorted(rows) == [-1, 0, 1, 2, 3, 4, 5, 6]
    assert rows[-1] == -1


def test_a_step_is_a_function_of_seed_and_step():
  steps = [rows_AB(PLAN, step).tolist() for step in range(6)]
  assert [rows_AB(PLAN, s).tolist() for s in (5, 0, 3)] == [
      steps[5],
      steps[0],
      steps[3],
  ]
  assert steps[:2] != steps[2:4]
  other = plans.Plan(7, 2, 2, 3, seed=2)
  assert rows_AB(other, 0).tolist() != steps[0]


def test_the_permutation_is_pinned():
  # A resumed run must see the rows that the killed one would have seen.
  rows = rows_AB(plans.Plan(10, 10, 1, 1, seed=42), 0)
  assert rows.tolist() == [[5, 0, 6, 4, 2, 7, 3, 1, 8, 9]]


def test_steps_share_out_their_rows_by_length():
  lengths = tuple(10 * (i % 13) + i for i in range(41))
  plain = plans.Plan(41, 2, 2, 2, seed=3, lengths=lengths)
  plan = dataclasses.replace(plain, window=5)
  for epoch in (0, 11):
    steps = [rows_AB(plan, epoch + s).ravel() for s in range(11)]
    before = [rows_AB(plain, epoch + s).ravel() for s in range(11)]
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


def test_without_a_capacity_a_row_is_alone():
  for step in range(PLAN.steps):
    index = PLAN.index_SABP[step]
    assert index.shape == (2, 2, 1)


LENGTHS = tuple(20 + 7 * (i % 11) for i in range(61))
PACKED = plans.Plan(61, 2, 4, 2, 5, LENGTHS, window=3, capacity=150)


def test_packing_changes_no_step():
  alone = dataclasses.replace(PACKED, capacity=0)
  sizes = set()
  for step in range(PACKED.steps):
    index = PACKED.index_SABP[step]
    sizes.add(index.shape)
    there = sorted(index[index >= 0])
    rows = rows_AB(alone, step)
    assert there == sorted(rows[rows >= 0])
    loads = [
        sum(LENGTHS[i] for i in row if i >= 0)
        for row in index.reshape(-1, index.shape[-1])
    ]
    assert max(loads) <= 150
    # Filled from the front: the micro-batches of a short step are its first.
    real = (index >= 0).any((1, 2))
    assert sorted(real, reverse=True) == real.tolist()
  ((passes, batch, packed),) = sizes
  assert passes < 4
  assert batch == 2
  assert packed > 2


@pytest.mark.parametrize(
    ('lengths', 'capacity', 'by', 'expected'),
    [
        ([5, 4, 3, 2], 7, 1, [[0, 3], [1, 2]]),
        ([5, 4, 3, 2], 100, 1, [[0, 1, 2, 3]]),
        # Both devices compute a row each time: they share the work.
        ([5, 4, 3, 2], 100, 2, [[0, 3], [1, 2]]),
        ([5, 4, 3, 2], 5, 1, [[0], [1], [2, 3]]),
        ([9, 2], 5, 2, [[0], [1]]),
        ([3], 5, 2, [[0], []]),
    ],
)
def test_lengths_are_shared_out_evenly(lengths, capacity, by, expected):
  assert packing.share_out(lengths, capacity=capacity, by=by) == expected


def test_there_is_a_share_more_where_even_ones_do_not_fit():
  shares = packing.share_out([9, 9, 9, 1], capacity=14, by=1)
  assert shares == [[0, 3], [1], [2]]
