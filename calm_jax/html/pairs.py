"""Counts of the training pairs (or SFT targets), per language."""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence
import dataclasses

from markupsafe import Markup

from calm_jax import records
from calm_jax.html import plots

_SIDES = (
    plots.Series('chosen', 'chosen'),
    plots.Series('rejected', 'rejected'),
)


def _lengths() -> array.array[int]:
  return array.array('L')


@dataclasses.dataclass
class Language:
  """Sums over one language's rows; lengths are in characters."""

  lang: str
  train: int = 0
  val: int = 0
  crossed: int = 0
  longer: int = 0
  share: float = 0.0
  chosen: array.array[int] = dataclasses.field(default_factory=_lengths)
  rejected: array.array[int] = dataclasses.field(default_factory=_lengths)

  @property
  def rows(self) -> int:
    return self.train + self.val

  def add(self, row: records.Pair | records.Target, *, val: bool) -> None:
    self.train += not val
    self.val += val
    self.share += row.vote_share
    if isinstance(row, records.Target):
      self.chosen.append(len(row.completion))
      return
    self.crossed += row.chosen_lang != row.lang
    self.longer += len(row.chosen) > len(row.rejected)
    self.chosen.append(len(row.chosen))
    self.rejected.append(len(row.rejected))


@dataclasses.dataclass(frozen=True)
class Length:
  """Characters of the two sides, of one language: quartiles around medians."""

  lang: str
  chosen: plots.Interval | None
  rejected: plots.Interval | None


def tally(
    train: Iterable[records.Pair | records.Target],
    val: Iterable[records.Pair | records.Target],
    langs: Sequence[str],
) -> list[Language]:
  """One row a language that has pairs, in the order of `langs`."""
  rows = {lang: Language(lang) for lang in langs}
  for part, held_out in ((train, False), (val, True)):
    for row in part:
      rows.setdefault(row.lang, Language(row.lang)).add(row, val=held_out)
  return [row for row in rows.values() if row.rows]


def lengths(rows: Sequence[Language]) -> list[Length]:
  return [
      Length(row.lang, quartiles(row.chosen), quartiles(row.rejected))
      for row in rows
  ]


def quartiles(values: Sequence[int]) -> plots.Interval | None:
  """The median between the quartiles (the nearest values, none between)."""
  if not values:
    return None
  ordered = sorted(values)
  low, middle, high = (
      ordered[round(part * (len(ordered) - 1))] for part in (0.25, 0.5, 0.75)
  )
  return plots.Interval(middle, low, high)


def legend(rows: Sequence[Language]) -> list[plots.Series]:
  return list(_SIDES if any(row.rejected for row in rows) else _SIDES[:1])


def length_figure(rows: Sequence[Length], sides: int) -> Markup:
  """Medians with quartiles; `sides` is 1 for targets, 2 for pairs."""
  return plots.dots(
      [(r.lang.upper(), (r.chosen, r.rejected)[:sides]) for r in rows],
      _SIDES[:sides],
      title='Length of the two sides: median and quartiles',
      x_label='characters (median, quartiles)',
  )
