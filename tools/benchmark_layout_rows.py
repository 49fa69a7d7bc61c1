"""Preference pairs as rows: one, two, or several pairs in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from calm_jax.lm import batches
from tools import benchmark_work as work


class Piece(NamedTuple):
  """A prompt and some of its answers; `groups` numbers the answers of all."""

  row: batches.Row
  groups: tuple[int, ...]


Rows = Sequence[Sequence[Piece]]  # pieces that share a row see themselves only


class Arrays(NamedTuple):
  """Rows as arrays; `group_BC` is -1 where nothing is learned."""

  tokens_BT: Any
  positions_BT: Any
  segments_BT: Any
  piece_BT: Any
  source_BC: Any
  labels_BC: Any
  group_BC: Any


def one_row(pairs: Sequence[work.Pair]) -> list[Rows]:
  """Prompt, chosen and rejected in a row."""
  return [[[piece]] for piece in _pieces(pairs)]


def two_rows(pairs: Sequence[work.Pair]) -> list[Rows]:
  """The prompt before each of both answers."""
  sides = lambda i, p: [
      [Piece(batches.Row(p.prompt, (p[1 + k],)), (2 * i + k,))] for k in (0, 1)
  ]
  return [sides(i, p) for i, p in enumerate(pairs)]


def packed(pairs: Sequence[work.Pair], length: int) -> list[Rows]:
  """Rows filled with pairs, the longest first, each where it still fits."""
  rows: list[list[Piece]] = []
  order = sorted(_pieces(pairs), key=_tokens, reverse=True)
  for piece in order:
    fits = [r for r in rows if sum(map(_tokens, r)) + _tokens(piece) <= length]
    if fits:
      fits[0].append(piece)
    else:
      rows.append([piece])
  return [[row] for row in rows]


def arrays(parts: Sequence[Rows], shapes: int) -> list[Arrays]:
  """Each part as arrays, padded as training pads: to a few lengths."""
  needs = [
      batches.Shape(
          max(sum(map(_tokens, row)) for row in part),
          max(sum(_answers(p) for p in row) for row in part),
      )
      for part in parts
  ]
  choices = batches.shapes(needs, limit=shapes)
  return [
      _stack([_fill(row, batches.pick(choices, need)) for row in part])
      for part, need in zip(parts, needs, strict=True)
  ]


def _pieces(pairs: Sequence[work.Pair]) -> list[Piece]:
  return [
      Piece(batches.Row(p.prompt, (p.chosen, p.rejected)), (2 * i, 2 * i + 1))
      for i, p in enumerate(pairs)
  ]


def _tokens(piece: Piece) -> int:
  return batches.lengths([piece.row])[0]


def _answers(piece: Piece) -> int:
  return sum(map(len, piece.row.completions))


def _fill(row: Sequence[Piece], shape: batches.Shape) -> Arrays:
  """One row's arrays, its pieces one after another."""
  columns, start = [], 0
  for number, piece in enumerate(row):
    size = batches.Shape(_tokens(piece), _answers(piece))
    b = batches.build([piece.row], np.array([0]), size)
    columns.append(
        Arrays(
            b.tokens_BET[0, 0],
            b.positions_BET[0, 0],
            b.segments_BET[0, 0],
            np.full(size.length, number),
            b.source_BEC[0, 0] + start,
            b.labels_BEC[0, 0],
            np.array(piece.groups)[b.side_BEC[0, 0]],
        )
    )
    start += size.length
  joined = Arrays(*map(np.concatenate, zip(*columns, strict=True)))
  filler = Arrays(0, 0, batches.PADDING, -1, 0, 0, -1)
  sizes = (*(shape.length,) * 4, *(shape.completion,) * 3)
  return Arrays(*map(_pad, joined, sizes, filler))


def _pad(values: np.ndarray, size: int, value: int) -> np.ndarray:
  padded = np.pad(values, (0, size - len(values)), constant_values=value)
  return padded.astype(np.int32)


def _stack(rows: Sequence[Arrays]) -> Arrays:
  return Arrays(*map(np.stack, zip(*rows, strict=True)))
