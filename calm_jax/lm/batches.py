"""Rows of token ids as arrays of a few static shapes; numpy only.

A preference pair is one sequence, prompt + chosen + rejected, so that the
prompt is computed once. `rejected` goes on from the prompt's positions and does
not see `chosen`; `training.row_mask` builds that mask from positions and
segments. Or it is two, prompt + chosen and prompt + rejected (see `layouts`).
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np

PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1

# Lengths are multiples of this; compiled shapes stay few, and GPU tiles full.
_MULTIPLE = 32


class Row(NamedTuple):
  """A prompt with the completions that share it: chosen, then rejected."""

  prompt: tuple[int, ...]
  completions: tuple[tuple[int, ...], ...]
  weight: float = 1.0
  cut: int = 0  # completions that lost their end to the length limit
  sequences: int = 1  # 2: the prompt is computed with each completion


class Shape(NamedTuple):
  """Of a compiled program: tokens of a sequence, of completions among them."""

  length: int
  completion: int
  sequences: int = 1  # of a row


class Part(NamedTuple):
  """Rows that are computed together, and the shape they are padded to."""

  index_B: np.ndarray  # -1 fills it up
  shape: Shape


class Batch(NamedTuple):
  """Rows as arrays; a step's micro-batches add one axis in front of B.

  E are the sequences of a row, which do not see each other. The hidden state at
  `source_BEC` predicts `labels_BEC`. The first token of both completions is
  predicted by the prompt's last one. `side_BEC` is 0 for chosen and 1 for
  rejected; `ref_B2` has the reference's log-probabilities of both.
  """

  tokens_BET: Any
  positions_BET: Any
  segments_BET: Any
  source_BEC: Any
  labels_BEC: Any
  side_BEC: Any
  mask_BEC: Any
  weight_B: Any
  ref_B2: Any


# What fills a batch up: one prompt token, nothing to learn, no weight.
_EMPTY = Row((0,), (), 0.0)


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which rows step `s` trains on: a function of the seed and `s` alone.

  Every epoch is a permutation of all rows. Its last step is filled up with -1.
  With `lengths`, one for each row, every `window` steps that follow each other
  share out their rows by length, so that a step pads less.
  """

  num_rows: int
  batch: int
  accumulation: int
  epochs: int
  seed: int
  lengths: tuple[int, ...] = ()
  window: int = 1

  @property
  def steps_per_epoch(self) -> int:
    return math.ceil(self.num_rows / (self.batch * self.accumulation))

  @property
  def steps(self) -> int:
    return self.steps_per_epoch * self.epochs

  def rows_AB(self, step: int) -> np.ndarray:
    epoch, within = divmod(step, self.steps_per_epoch)
    size = self.batch * self.accumulation
    order = _order(self, epoch)
    rows = order[within * size : (within + 1) * size]
    rows = np.pad(rows, (0, size - len(rows)), constant_values=-1)
    return rows.reshape(self.accumulation, self.batch)


def fit(
    prompt: Sequence[int],
    completions: Sequence[Sequence[int]],
    *,
    max_length: int,
    weight: float = 1.0,
) -> Row | None:
  """A row whose sequences have at most `max_length` tokens, or None.

  A completion that is too long loses its end, and the row counts it in `cut`.
  The prompt is never cut: where it leaves no room there is no row.
  """
  room = max_length - len(prompt)
  if room <= 0:
    return None
  return Row(
      tuple(prompt),
      tuple(tuple(c[:room]) for c in completions),
      weight,
      sum(len(c) > room for c in completions),
  )


def lengths(rows: Sequence[Row]) -> tuple[int, ...]:
  """Tokens of the longest sequence of each row: its others are padded to it."""
  return tuple(size(row).length for row in rows)


def tokens(rows: Sequence[Row]) -> int:
  """Tokens of all sequences, without padding."""
  return sum(
      r.sequences * len(r.prompt) + sum(map(len, r.completions)) for r in rows
  )


def by_length(rows: Sequence[Row], batch: int) -> list[np.ndarray]:
  """Batches of row numbers, the longest rows first, filled up with -1."""
  order = np.argsort(-np.array(lengths(rows)), kind='stable')
  order = np.pad(order, (0, -len(order) % batch), constant_values=-1)
  return list(order.reshape(-1, batch))


def size(row: Row) -> Shape:
  """The least shape of a row: that of its longest sequence."""
  sums = [sum(map(len, part.completions)) for part in _sequences(row)]
  completion = max(sums, default=0)
  return Shape(len(row.prompt) + completion, completion, row.sequences)


def need(rows: Sequence[Row], index_X: np.ndarray) -> Shape:
  """The least shape that holds the rows of a batch."""
  sizes = [size(rows[i]) for i in index_X.flat if i >= 0]
  return Shape(*(max(s) for s in zip(*sizes, strict=True)))


def shapes(needs: Sequence[Shape], *, limit: int) -> tuple[Shape, ...]:
  """At most `limit` shapes, the shortest first, with little padding in all."""
  counts = collections.Counter(_round_up(n.length) for n in needs)
  tops = sorted(counts)
  while len(tops) > limit:
    # Give up the length whose batches lose least when padded to the next.
    losses = [counts[a] * (b - a) for a, b in itertools.pairwise(tops)]
    low = tops.pop(losses.index(min(losses)))
    high = next(top for top in tops if top > low)
    counts[high] += counts[low]
  found = []
  for low, high in itertools.pairwise([0, *tops]):
    completions = [n.completion for n in needs if low < n.length <= high]
    longest = _round_up(max(completions))
    found.append(Shape(high, longest, max(n.sequences for n in needs)))
  return tuple(found)


def pick(choices: Sequence[Shape], needed: Shape) -> Shape:
  """The first of `shapes(...)` that is long enough."""
  return next(s for s in choices if s.length >= needed.length)


def build(
    rows: Sequence[Row],
    index_X: np.ndarray,
    shape: Shape,
    ref_N2: np.ndarray | None = None,
) -> Batch:
  """The arrays of the rows at `index_X`, of any rank; -1 has no effect."""
  filled = []
  for i in index_X.flat:
    ref_2 = np.zeros(2) if ref_N2 is None or i < 0 else ref_N2[i]
    filled.append(_fill(_EMPTY if i < 0 else rows[i], shape, ref_2))
  columns = (np.stack(column) for column in zip(*filled, strict=True))
  return Batch(*(c.reshape(index_X.shape + c.shape[1:]) for c in columns))


def count_tokens(batch: Batch) -> int:
  """Tokens of real rows, without padding."""
  real_B11 = (batch.weight_B > 0)[..., None, None]
  return int(((batch.segments_BET != PADDING) & real_B11).sum())


@functools.lru_cache(maxsize=2)
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


class _Sequence(NamedTuple):
  """What is one sequence of a row; its first completion is of `side`."""

  prompt: tuple[int, ...]
  completions: tuple[tuple[int, ...], ...]
  side: int = 0


def _sequences(row: Row) -> list[_Sequence]:
  if row.sequences == 1:
    return [_Sequence(row.prompt, row.completions)]
  return [_Sequence(row.prompt, (c,), i) for i, c in enumerate(row.completions)]


def _round_up(length: int) -> int:
  return max(1, math.ceil(length / _MULTIPLE)) * _MULTIPLE


def _fill(row: Row, shape: Shape, ref_2: np.ndarray) -> Batch:
  """One row's arrays, without a batch axis."""
  parts = _sequences(row)
  parts += [_Sequence(_EMPTY.prompt, ())] * (shape.sequences - len(parts))
  arrays = [_arrays(part, shape) for part in parts]
  return Batch(
      *(np.stack(column) for column in zip(*arrays, strict=True)),
      weight_B=np.float32(row.weight),
      ref_B2=ref_2.astype(np.float32),
  )


def _arrays(part: _Sequence, shape: Shape) -> tuple[np.ndarray, ...]:
  """One sequence's arrays, in the order of a batch."""
  prompt = len(part.prompt)
  lengths = [len(c) for c in part.completions]
  tokens = np.concatenate([part.prompt, *part.completions])
  positions = [np.arange(prompt)]
  positions += [prompt + np.arange(n) for n in lengths]
  segments = np.repeat(np.arange(1 + len(lengths)), [prompt, *lengths])
  labels, sources = tokens[prompt:], np.arange(prompt, len(tokens)) - 1
  starts = np.cumsum([0, *lengths])[:-1][np.array(lengths) > 0]
  sources[starts] = prompt - 1
  sides = part.side + np.repeat(np.arange(len(lengths)), lengths)
  return (
      _pad(tokens, shape.length),
      _pad(np.concatenate(positions), shape.length),
      _pad(segments, shape.length, PADDING),
      _pad(sources, shape.completion),
      _pad(labels, shape.completion),
      _pad(sides, shape.completion),
      _pad(np.ones_like(labels), shape.completion).astype(bool),
  )


def _pad(values: np.ndarray, length: int, value: int = 0) -> np.ndarray:
  padded = np.pad(values, (0, length - len(values)), constant_values=value)
  return padded.astype(np.int32)
