"""Scores arranged for reading: systems side by side, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
import re

from markupsafe import Markup

from calm_jax import records
from calm_jax.html import page, plots

ACCURACY = ('Mean accuracy', 'accuracy')
CONSISTENCY = ('Consistency', 'consistency_2')
AC3 = ('AC3', 'ac3_2')
UNPARSED = ('Unparsed', 'unparsed')
TILES = (ACCURACY, CONSISTENCY, AC3, UNPARSED)
_HEADLINE = (
    ACCURACY,
    CONSISTENCY,
    AC3,
    UNPARSED,
    ('Mean accuracy of EN, ZH, FR', 'accuracy_en_zh_fr'),
    ('AC3, accuracy of EN, ZH, FR', 'ac3_2_en_zh_fr'),
    ('Consistency of parsed answers', 'consistency_2_parsed'),
    ('AC3 of parsed answers', 'ac3_2_parsed'),
    ('AC3 of parsed answers, EN, ZH, FR', 'ac3_2_parsed_en_zh_fr'),
)
# Shown for every s in its own table, or too fine for the headline.
_ELSEWHERE = re.compile(r'(consistency|ac3)_\d+.*')
# Where a file of scores has no mean over languages, it is taken here.
_AVERAGED = ('accuracy', 'unparsed')
_KINDS = ('before', 'after', 'third', 'fourth')


@dataclasses.dataclass(frozen=True)
class Cell:
  """A number, with its interval where one is known."""

  value: float
  low: float | None = None
  high: float | None = None

  @property
  def decided(self) -> bool:
    """Whether the interval of a difference leaves zero out."""
    if self.low is None or self.high is None:
      return False
    return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True)
class Row:
  """One metric: a cell a system, then a difference to the first a system."""

  label: str
  n: int
  cells: tuple[Cell | None, ...]
  differences: tuple[Cell | None, ...]


@dataclasses.dataclass(frozen=True)
class Table:
  """The scores of one evaluation setting."""

  setting: str
  systems: tuple[str, ...]
  langs: tuple[str, ...]
  scores: Mapping[tuple[str, str, str], records.Score]

  def row(self, label: str, metric: str, lang: str = 'all') -> Row | None:
    """None where no system has the metric."""
    cells = tuple(self._cell(s, metric, lang) for s in self.systems)
    if not any(cells):
      return None
    differences = tuple(
        self._cell(f'{s}-{self.systems[0]}', metric, lang)
        or _minus(c, cells[0])
        for s, c in zip(self.systems[1:], cells[1:], strict=True)
    )
    return Row(label, self._questions(metric, lang), cells, differences)

  def headline(self) -> list[Row]:
    """Every metric over languages, under its own name if it is a new one."""
    known = {metric for _, metric in _HEADLINE}
    found = dict.fromkeys(m for _, la, m in self.scores if la == 'all')
    others = [
        m for m in found if m not in known and not _ELSEWHERE.fullmatch(m)
    ]
    return self._rows((*_HEADLINE, *zip(others, others, strict=True)))

  def tiles(self) -> list[Row]:
    """The few rows that a reader looks for first."""
    return self._rows(TILES)

  def verdict(self) -> str:
    """What training did, in words, and whether chance would do as well."""
    return ' '.join(
        _sentence(row.label, row.differences[-1])
        for row in self._rows((ACCURACY, CONSISTENCY))
        if row.differences and row.differences[-1]
    )

  def by_language(self, metric: str) -> list[Row]:
    rows = (self.row(lang.upper(), metric, lang) for lang in self.langs)
    return [row for row in rows if row]

  def consistency(self) -> list[Row]:
    """Consistency_s for every s in the scores."""
    sizes = sorted(
        int(found[1])
        for metric in {metric for _, _, metric in self.scores}
        if (found := re.fullmatch(r'consistency_(\d+)', metric))
    )
    rows = (self.row(str(s), f'consistency_{s}') for s in sizes)
    return [row for row in rows if row]

  def _rows(self, named: Sequence[tuple[str, str]]) -> list[Row]:
    rows = (self.row(label, metric) for label, metric in named)
    return [row for row in rows if row]

  def _questions(self, metric: str, lang: str) -> int:
    langs = self.langs if lang == 'all' else ()
    keys = [(s, la, metric) for s in self.systems for la in (lang, *langs)]
    return max((self.scores[k].n for k in keys if k in self.scores), default=0)

  def _cell(self, system: str, metric: str, lang: str) -> Cell | None:
    score = self.scores.get((system, lang, metric))
    if score is not None and math.isfinite(score.value):
      bounded = math.isfinite(score.low) and math.isfinite(score.high)
      ends = (score.low, score.high) if bounded else (None, None)
      return Cell(score.value, *ends)
    if metric in _AVERAGED and lang == 'all':
      return self._mean_over_languages(system, metric)
    return None

  def _mean_over_languages(self, system: str, metric: str) -> Cell | None:
    keys = [(system, lang, metric) for lang in self.langs]
    values = [self.scores[k].value for k in keys if k in self.scores]
    return Cell(math.fsum(values) / len(values)) if values else None


def arrange(
    scores: Iterable[records.Score], langs: Sequence[str]
) -> list[Table]:
  """One table a setting, systems and settings in order of appearance."""
  by_setting: dict[str, list[records.Score]] = {}
  for score in scores:
    by_setting.setdefault(score.setting, []).append(score)
  return [_table(s, rows, langs) for s, rows in by_setting.items()]


def _table(
    setting: str, scores: Sequence[records.Score], langs: Sequence[str]
) -> Table:
  names = list(dict.fromkeys(s.system for s in scores))
  differences = {f'{a}-{b}' for a in names for b in names}
  found = {s.lang for s in scores if s.lang != 'all'}
  return Table(
      setting=setting,
      systems=tuple(n for n in names if n not in differences),
      langs=tuple(dict.fromkeys([la for la in langs if la in found]))
      + tuple(sorted(found - set(langs))),
      scores={(s.system, s.lang, s.metric): s for s in scores},
  )


def series(systems: Sequence[str]) -> list[plots.Series]:
  """Legend entries; the first system is drawn as the one before."""
  return [
      plots.Series(name, _KINDS[min(i, len(_KINDS) - 1)])
      for i, name in enumerate(systems)
  ]


def change_figure(
    rows: Sequence[Row], systems: Sequence[str], *, title: str
) -> Markup:
  """A dot for every difference of `rows`."""
  return plots.dots(
      [(row.label, [_interval(c) for c in row.differences]) for row in rows],
      series(systems)[1:],
      title=title,
      x_label='change, percentage points',
  )


def figure(
    rows: Sequence[Row], systems: Sequence[str], *, title: str, x_label: str
) -> Markup:
  """A dot for every cell of `rows`."""
  marks = [(row.label, [_interval(c) for c in row.cells]) for row in rows]
  return plots.dots(marks, series(systems), title=title, x_label=x_label)


def _sentence(label: str, change: Cell) -> str:
  went = 'rose' if change.value > 0 else 'fell'
  said = f'{label} {went} by {abs(change.value):.1f} points'
  if page.points(change.value) == '0.0':
    said = f'{label} did not move'
  if change.low is None or change.high is None:
    return f'{said}.'
  ends = f'{page.points(change.low)} to {page.points(change.high)}'
  if change.decided:
    return f'{said} (95 % interval {ends}).'
  return f'{said}; its 95 % interval, {ends}, holds zero.'


def _interval(cell: Cell | None) -> plots.Interval | None:
  if cell is None:
    return None
  low = cell.value if cell.low is None else cell.low
  high = cell.value if cell.high is None else cell.high
  return plots.Interval(cell.value, low, high)


def _minus(after: Cell | None, before: Cell | None) -> Cell | None:
  if after is None or before is None:
    return None
  return Cell(after.value - before.value)
