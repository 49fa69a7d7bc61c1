"""Rows of token ids as arrays of a few static shapes; numpy only.

A preference pair is one sequence, prompt + chosen + rejected, so that the
prompt is computed once. `rejected` goes on from the prompt's positions and does
not see `chosen`; `training.row_mask` builds that mask from positions and
segments. Or it is two, prompt + chosen and prompt + rejected. Short rows may be
packed: several stand one after another and do not see each other. `layouts`
chooses.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import itertools
import math
from typing import Any, NamedTuple

import numpy as np

# Segments of a row; those of the next one that is packed with it are 3 higher.
PROMPT, CHOSEN, REJECTED, PADDING = 0, 1, 2, -1
SEGMENTS = 3

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
  packed: int = 1  # rows that may share one


class Part(NamedTuple):
  """Rows that are computed together, and the shape they are padded to."""

  index_BP: np.ndarray  # -1 fills it up
  shape: Shape


class Batch(NamedTuple):
  """Rows as arrays; a step's micro-batches add one axis in front of B.

  E are the sequences of a row and P the rows packed in it, neither of which see
  each other. The hidden state at `source_BEC` predicts `labels_BEC`. The first
  token of both completions is predicted by the prompt's last one. `answer_BEC`
  numbers the completions: 0 is chosen and 1 is rejected, 2 and 3 are those of
  the next packed row; `ref_BP2` has the reference's log-probabilities of both.
  """

  tokens_BET: Any
  positions_BET: Any
  segments_BET: Any
  source_BEC: Any
  labels_BEC: Any
  answer_BEC: Any
  mask_BEC: Any
  weight_BP: Any
  ref_BP2: Any


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
  """Batches [B, 1] of row numbers, the longest first, filled up with -1."""
  order = np.argsort(-np.array(lengths(rows)), kind='stable')
  order = np.pad(order, (0, -len(order) % batch), constant_values=-1)
  return list(order.reshape(-1, batch, 1))


def size(row: Row) -> Shape:
  """The least shape of a row: that of its longest sequence."""
  sums = [sum(map(len, part.completions)) for part in _sequences(row)]
  completion = max(sums, default=0)
  return Shape(len(row.prompt) + completion, completion, row.sequences)


def need(rows: Sequence[Row], index_XP: np.ndarray) -> Shape:
  """The least shape that holds the rows of a batch."""
  packed = index_XP.shape[-1]
  found = []
  for index_P in index_XP.reshape(-1, packed):
    sizes = [size(rows[i]) for i in index_P if i >= 0]
    if sizes:
      length, completion, _, _ = map(sum, zip(*sizes, strict=True))
      sequences = max(s.sequences for s in sizes)
      found.append(Shape(length, completion, sequences, packed))
  return Shape(*(max(s) for s in zip(*found, strict=True)))


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
    sequences = max(n.sequences for n in needs)
    packed = max(n.packed for n in needs)
    found.append(Shape(high, longest, sequences, packed))
  return tuple(found)


def pick(choices: Sequence[Shape], needed: Shape) -> Shape:
  """The first of `shapes(...)` that is long enough."""
  return next(s for s in choices if s.length >= needed.length)


def build(
    rows: Sequence[Row],
    index_XP: np.ndarray,
    shape: Shape,
    ref_N2: np.ndarray | None = None,
) -> Batch:
  """The arrays of the rows at `index_XP`, of any rank; -1 has no effect."""
  each = index_XP.reshape(-1, shape.packed)
  filled = [_fill(rows, index_P, shape, ref_N2) for index_P in each]
  columns = (np.stack(column) for column in zip(*filled, strict=True))
  lead = index_XP.shape[:-1]
  return Batch(*(c.reshape(lead + c.shape[1:]) for c in columns))


def count_tokens(batch: Batch) -> int:
  """Tokens of rows, without padding."""
  return int((batch.segments_BET != PADDING).sum())


class _Sequence(NamedTuple):
  """What is one sequence of a row; its first completion is of `side`."""

  prompt: tuple[int, ...]
  completions: tuple[tuple[int, ...], ...]
  side: int = 0


class _Arrays(NamedTuple):
  """A sequence of a batch, its fields in the same order."""

  tokens_T: np.ndarray
  positions_T: np.ndarray
  segments_T: np.ndarray
  source_C: np.ndarray
  labels_C: np.ndarray
  answer_C: np.ndarray
  mask_C: np.ndarray


def _sequences(row: Row) -> list[_Sequence]:
  if row.sequences == 1:
    return [_Sequence(row.prompt, row.completions)]
  return [_Sequence(row.prompt, (c,), i) for i, c in enumerate(row.completions)]


def _round_up(length: int) -> int:
  return max(1, math.ceil(length / _MULTIPLE)) * _MULTIPLE


def _fill(
    rows: Sequence[Row], index_P: np.ndarray, shape: Shape, ref_N2
) -> Batch:
  """The arrays of rows that share one, without a batch axis."""
  weight_P = np.zeros(shape.packed, np.float32)
  ref_P2 = np.zeros((shape.packed, 2), np.float32)
  parts_E = [[] for _ in range(shape.sequences)]
  for number, i in enumerate(index_P):
    if i < 0:
      continue
    weight_P[number] = rows[i].weight
    if ref_N2 is not None:
      ref_P2[number] = ref_N2[i]
    for parts, part in zip(parts_E, _sequences(rows[i]), strict=False):
      start = sum(len(p.tokens_T) for p in parts)
      parts.append(_arrays(part, number, start))
  joined = [_join(parts, shape) for parts in parts_E]
  columns = (np.stack(column) for column in zip(*joined, strict=True))
  return Batch(*columns, weight_BP=weight_P, ref_BP2=ref_P2)


def _arrays(part: _Sequence, number: int, start: int) -> _Arrays:
  """Those of a sequence that begins at `start`, after `number` others."""
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
  return _Arrays(
      tokens,
      np.concatenate(positions),
      SEGMENTS * number + segments,
      start + sources,
      labels,
      2 * number + sides,
      np.ones(len(labels), bool),
  )


def _join(parts: Sequence[_Arrays], shape: Shape) -> _Arrays:
  """One after another, and padding after them."""
  t, c = shape.length, shape.completion
  # Lengths and fills, in the order of the fields.
  sizes, fills = (t, t, t, c, c, c, c), (0, 0, PADDING, 0, 0, 0, False)
  columns = zip(*parts, strict=True) if parts else [()] * len(sizes)
  return _Arrays(*map(_pad, columns, sizes, fills))


def _pad(parts: Sequence[np.ndarray], length: int, value: int | bool):
  dtype = bool if isinstance(value, bool) else np.int32
  padded = np.full(length, value, dtype)
  if parts:
    values = np.concatenate(parts)
    padded[: len(values)] = values
  return padded
