"""Systems side by side as the paper prints them, ours beside theirs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses

from markupsafe import Markup

from calm_jax import paper, records
from calm_jax.html import page, plots
from calm_jax.html import scores as arranged

# Metrics over languages, after the languages. The paper's consistency is that
# of parsed answers; its AC3 takes all languages, its mean accuracy the first
# three.
_METRICS = (
    ('accuracy', 'mean'),
    (paper.CONSISTENCY, 'consistency'),
    (paper.AC3, 'AC3'),
    ('ac3_2_parsed_en_zh_fr', 'AC3 with EN ZH FR'),
    ('consistency_2', 'consistency, strict'),
    ('ac3_2', 'AC3, strict'),
    ('unparsed', 'unparsed'),
)
NOTES = (
    'consistency: mean over language pairs of the questions that both answer'
    ' alike, of the questions parsed in every language (as in the paper);'
    ' strict: of all questions, an unparsed answer agrees with nothing.',
    'AC3: harmonic mean of consistency and the mean accuracy over all languages'
    ' (as in the paper); "with EN ZH FR" takes the mean over these three, which'
    " is what the paper's own mean accuracy is.",
)


@dataclasses.dataclass(frozen=True)
class Column:
  key: str  # a language, or a metric over languages
  label: str


@dataclasses.dataclass(frozen=True)
class Entry:
  """A cell of ours, what the paper tells, and ours minus the first system."""

  ours: arranged.Cell | None
  told: float | None
  change: arranged.Cell | None = None

  @property
  def gap(self) -> float | None:
    """Ours minus the paper's."""
    if self.ours is None or self.told is None:
      return None
    return self.ours.value - self.told


@dataclasses.dataclass(frozen=True)
class Row:
  system: str
  entries: tuple[Entry, ...]
  reported: bool  # whether the paper has this row

  @property
  def ran(self) -> bool:
    return any(entry.ours for entry in self.entries)


@dataclasses.dataclass(frozen=True)
class Table:
  """One evaluation setting; `title` is that of the paper's table, if any."""

  setting: str
  n: int
  columns: tuple[Column, ...]
  rows: tuple[Row, ...]
  title: str = ''


def table(
    setting: str,
    scores: Iterable[records.Score],
    *,
    langs: Sequence[str],
    known: paper.Table | None,
) -> Table:
  """The scores of a setting, in the shape of the paper's tables."""
  found = {(s.system, _key(s)): s for s in scores if s.setting == setting}
  names = dict.fromkeys(system for system, _ in found)
  differences = {f'{a}-{b}' for a in names for b in names}
  systems = [name for name in names if name not in differences]
  first = systems[0] if systems else ''
  columns = tuple(_columns(langs, {key for _, key in found}))
  reported = known.reported if known else ()

  def cell(system: str, key: str) -> arranged.Cell | None:
    score = found.get((system, key))
    return arranged.Cell(score.value, score.low, score.high) if score else None

  rows = tuple(
      Row(
          name,
          tuple(
              Entry(
                  cell(name, column.key),
                  known.value(name, column.key) if known else None,
                  cell(f'{name}-{first}', column.key),
              )
              for column in columns
          ),
          name in reported,
      )
      for name in dict.fromkeys((*systems, *reported))
  )
  most = max((s.n for s in found.values()), default=0)
  return Table(setting, most, columns, rows, known.title if known else '')


def markdown(shown: Table) -> str:
  """The table for a terminal or a README, columns aligned."""
  head = ['system', *(column.label for column in shown.columns)]
  out = [f'## {shown.title or shown.setting}', '']
  out.append(f'{shown.setting}, {shown.n} questions; percent, 95 % intervals')
  out.append('')
  return '\n'.join([*out, *aligned(head, _lines(shown))]) + '\n'


def aligned(
    head: Sequence[str], lines: Iterable[Sequence[str]]
) -> Iterator[str]:
  """The lines of a Markdown table, the first column to the left."""
  lines = [head, *lines]
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  rule = [
      ':' + '-' * (widths[0] - 1),
      *('-' * (w - 1) + ':' for w in widths[1:]),
  ]
  for line in (lines[0], rule, *lines[1:]):
    padded = [line[0].ljust(widths[0])]
    padded += [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
    yield f'| {" | ".join(padded)} |'


def csv_rows(shown: Table) -> Iterator[tuple[object, ...]]:
  """setting, system, column, value, low, high, paper, difference."""
  blank = lambda value: '' if value is None else value
  for row in shown.rows:
    for column, entry in zip(shown.columns, row.entries, strict=True):
      ours = entry.ours
      cells = (ours.value, ours.low, ours.high) if ours else (None, None, None)
      numbers = (*cells, entry.told, entry.gap)
      yield (shown.setting, row.system, column.key, *map(blank, numbers))


def growth(
    points: Mapping[int, Mapping[str, float]], labels: Mapping[str, str]
) -> Markup:
  """Metrics against the number of languages trained on."""
  kinds = ('after', 'before', 'third', 'fourth')
  curves = [
      (
          plots.Series(label, kind),
          [
              (float(n), row[key])
              for n, row in sorted(points.items())
              if key in row
          ],
      )
      for (key, label), kind in zip(labels.items(), kinds, strict=False)
  ]
  return plots.lines(
      curves,
      title='Accuracy and consistency against the number of languages',
      x_label='languages trained on',
      unit='languages',
  )


def growth_legend(labels: Mapping[str, str]) -> list[plots.Series]:
  kinds = ('after', 'before', 'third', 'fourth')
  return [
      plots.Series(label, kind)
      for label, kind in zip(labels.values(), kinds, strict=False)
  ]


def _key(score: records.Score) -> str:
  """The column that a score belongs to; '' for none."""
  if score.lang != 'all':
    return score.lang if score.metric == 'accuracy' else ''
  return score.metric


def _columns(langs: Sequence[str], keys: set[str]) -> Iterator[Column]:
  for lang in langs:
    if lang in keys:
      yield Column(lang, lang.upper())
  for key, label in _METRICS:
    if key in keys:
      yield Column(key, label)


def _lines(shown: Table) -> Iterator[list[str]]:
  """Each system's own line, and the paper's two below it."""
  for row in shown.rows:
    if row.ran:
      yield [row.system, *(_cell(entry.ours) for entry in row.entries)]
    if row.reported:
      told = [page.percent(entry.told) for entry in row.entries]
      yield [f'{row.system}, paper', *told]
      if row.ran:
        gaps = [page.points(entry.gap) for entry in row.entries]
        yield [f'{row.system}, difference', *gaps]


def _cell(cell: arranged.Cell | None) -> str:
  if cell is None:
    return page.percent(None)
  if cell.low is None or cell.high is None:
    return page.percent(cell.value)
  ends = f'{page.percent(cell.low)}–{page.percent(cell.high)}'
  return f'{page.percent(cell.value)} ({ends})'
