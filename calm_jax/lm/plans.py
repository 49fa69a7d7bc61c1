"""Which rows every step trains on, and which of them share a row."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from calm_jax.lm import packing


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which rows step `s` trains on: a function of the seed and `s` alone.

  Every epoch is a permutation of all rows. Its last step is filled up with -1.
  With `lengths`, one for each row, every `window` steps that follow each other
  share out their rows by length, so that a step pads less. And with `capacity`
  a step's rows are packed into rows of at most so many tokens, or of as many as
  the longest has.
  """

  num_rows: int
  batch: int
  accumulation: int
  epochs: int
  seed: int
  lengths: tuple[int, ...] = ()
  window: int = 1
  capacity: int = 0  # a row each

  @property
  def steps_per_epoch(self) -> int:
    return math.ceil(self.num_rows / (self.batch * self.accumulation))

  @property
  def steps(self) -> int:
    return self.steps_per_epoch * self.epochs

  @functools.cached_property
  def index_SABP(self) -> np.ndarray:
    """The rows of all steps S, as micro-batches compute them; -1 fills up.

    Kept with the plan: a cache of functions would hash all of its lengths.
    """
    return _index(self)


def _index(plan: Plan) -> np.ndarray:
  steps = [
      rows_AB
      for epoch in range(plan.epochs)
      for rows_AB in _steps(plan, _order(plan, epoch))
  ]
  if not plan.capacity:
    return np.stack(steps)[..., None]
  found = []
  for rows_AB in steps:
    rows = rows_AB[rows_AB >= 0]
    shares = packing.share_out(
        [plan.lengths[i] for i in rows], capacity=plan.capacity, by=plan.batch
    )
    found.append([rows[share] for share in shares])
  most = max(map(len, found))
  packed = max(len(row) for step in found for row in step)
  index = np.full((len(found), most, packed), -1)
  for number, step in enumerate(found):
    for at, row in enumerate(step):
      index[number, at, : len(row)] = row
  return index.reshape(len(found), -1, plan.batch, packed)


def _steps(plan: Plan, order: np.ndarray) -> np.ndarray:
  """An epoch's rows [steps, A, B] before they are packed, filled up."""
  size = plan.batch * plan.accumulation
  order = np.pad(order, (0, -len(order) % size), constant_values=-1)
  return order.reshape(-1, plan.accumulation, plan.batch)


def _order(plan: Plan, epoch: int) -> np.ndarray:
  # RandomState's stream is frozen; that of numpy's newer Generator is not.
  rng = np.random.RandomState([plan.seed % 2**32, epoch])
  order = rng.permutation(plan.num_rows)
  size = plan.batch * plan.accumulation
  if not plan.lengths or plan.window == 1:
    return order
  sizes = np.array(plan.lengths)
  parts = []
  for start in range(0, len(order), plan.window * size):
    rows = order[start : start + plan.window * size]
    rows = rows[np.argsort(sizes[rows], kind='stable')]
    # The steps in any order, but the last of an epoch, which may not be full.
    full = len(rows) // size * size
    steps = rng.permutation(rows[:full].reshape(-1, size))
    parts += [steps.ravel(), rows[full:]]
  return np.concatenate(parts)
