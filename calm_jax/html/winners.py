"""Which languages win the vote, as a table beside the paper's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
import dataclasses

from calm_jax import paper
from calm_jax.html import comparison, page, votes

# What is told of a language, by the name that paper.py has it under with the
# language, as won_en. All are percent.
COLUMNS = {
    'for_winner': 'for the winner',
    'won': 'part of the winning votes',
    'agrees': 'agrees',
    'differs': 'differs',
    'no_majority': 'no majority',
    'chosen': 'chosen in pairs',
}
CSV_HEAD = ('systems', 'lang', 'column', 'value', 'paper', 'difference')


@dataclasses.dataclass(frozen=True)
class Share:
  """A percentage of ours and the paper's, None where there is none."""

  column: str
  ours: float | None
  told: float | None = None

  @property
  def gap(self) -> float | None:
    """Ours minus the paper's."""
    if self.ours is None or self.told is None:
      return None
    return self.ours - self.told


@dataclasses.dataclass(frozen=True)
class Row:
  lang: str
  parsed: int  # votes
  shares: tuple[Share, ...]  # one for each of COLUMNS


@dataclasses.dataclass(frozen=True)
class Ballot:
  """One vote, and all systems that share it; `title` is that of the paper."""

  systems: tuple[str, ...]
  votes: votes.Votes
  rows: tuple[Row, ...]
  title: str = ''

  @property
  def name(self) -> str:
    return ', '.join(self.systems)


def ballot(
    systems: Iterable[str],
    tally: votes.Votes,
    chosen: Mapping[str, int],
    known: paper.Table | None,
) -> Ballot:
  """`chosen` counts the pairs by the language of their chosen side."""
  names = tuple(systems)
  reported = set(names) & set(known.reported if known else ())
  beside = known if known and known.of_votes and reported else None
  rows_told = beside.rows if beside else {}
  told = next((rows_told[name] for name in names if name in rows_told), {})
  rows = []
  for row, shares in zip(tally.languages, _shares(tally, chosen), strict=True):
    cells = (
        Share(column, shares[column], told.get(f'{column}_{row.lang}'))
        for column in COLUMNS
    )
    rows.append(Row(row.lang, row.parsed, tuple(cells)))
  return Ballot(names, tally, tuple(rows), beside.title if beside else '')


def _shares(
    tally: votes.Votes, chosen: Mapping[str, int]
) -> Iterator[dict[str, float | None]]:
  """Our percentages of each language, by column; None is a share of nothing."""
  won = sum(row.for_winner for row in tally.languages)
  pairs = sum(chosen.values())
  for row in tally.languages:
    parts = {
        'for_winner': (row.for_winner, row.parsed),
        'won': (row.for_winner, won),
        'agrees': (row.agree, row.asked),
        'differs': (row.differ, row.asked),
        'no_majority': (row.split, row.asked),
        'chosen': (chosen.get(row.lang, 0), pairs),
    }
    yield {
        column: 100 * count / of if of else None
        for column, (count, of) in parts.items()
    }


def markdown(shown: Ballot) -> str:
  """The table for a terminal or a README, the paper's two lines below each."""
  lines = []
  for row in shown.rows:
    lang = row.lang.upper()
    ours = [page.percent(share.ours) for share in row.shares]
    lines.append([lang, f'{row.parsed:,}', *ours])
    if shown.title:
      told = [page.percent(share.told) for share in row.shares]
      gaps = [page.points(share.gap) for share in row.shares]
      lines.append([f'{lang}, paper', page.percent(None), *told])
      lines.append([f'{lang}, difference', page.percent(None), *gaps])
  out = [f'## Votes: {shown.name}', '']
  if shown.title:
    out += [f'{shown.title}', '']
  total = shown.votes
  out += [f'{total.winners} of {total.questions} questions have a winner', '']
  head = ['language', 'votes', *COLUMNS.values()]
  return '\n'.join([*out, *comparison.aligned(head, lines)]) + '\n'


def csv_rows(shown: Ballot) -> Iterator[tuple[object, ...]]:
  """CSV_HEAD's columns; blank where there is no number."""
  blank = lambda value: '' if value is None else value
  for row in shown.rows:
    for share in row.shares:
      numbers = map(blank, (share.ours, share.told, share.gap))
      yield (shown.name, row.lang, share.column, *numbers)
