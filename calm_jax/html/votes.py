"""What the votes say: how sure, how right, and which languages won."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
import dataclasses

from markupsafe import Markup

from calm_jax import records
from calm_jax.html import plots

_BINS = 10
_BY_GOLD = (
    plots.Series('winner right', 'won'),
    plots.Series('winner wrong', 'lost'),
    plots.Series('no gold answer', 'none'),
)
_BY_MAJORITY = (
    plots.Series('agrees with the winner', 'won'),
    plots.Series('has another majority', 'lost'),
    plots.Series('has no single majority', 'none'),
)


@dataclasses.dataclass
class Language:
  """Sums over one language's votes.

  agree, differ and split count the questions that have a winner and that the
  language was asked: its own most frequent answer is the winner, is another,
  or is not one single answer.
  """

  lang: str
  parsed: int = 0
  unparsed: int = 0
  for_winner: int = 0
  agree: int = 0
  differ: int = 0
  split: int = 0

  @property
  def asked(self) -> int:
    return self.agree + self.differ + self.split

  def add(self, counts: Mapping[str, int], winner: str) -> None:
    own = majority(counts)
    self.agree += own == winner
    self.differ += own is not None and own != winner
    self.split += own is None
    self.for_winner += counts.get(winner, 0)


@dataclasses.dataclass
class Bin:
  """Votes whose share lies in one tenth of the scale."""

  label: str
  right: int = 0
  wrong: int = 0
  unknown: int = 0

  @property
  def total(self) -> int:
    return self.right + self.wrong + self.unknown


@dataclasses.dataclass
class Votes:
  """Sums over all votes.

  A tie has two most frequent answers, whether or not the tie policy chose one;
  a silent question has no parsed answer. `judged` counts the questions with a
  gold answer, `judged_winners` those of them with a winner, `right` those of
  them where the two are the same.
  """

  languages: list[Language]
  bins: list[Bin]
  questions: int = 0
  winners: int = 0
  ties: int = 0
  ties_decided: int = 0
  silent: int = 0
  judged: int = 0
  judged_winners: int = 0
  right: int = 0

  @property
  def no_winner(self) -> int:
    return self.questions - self.winners


def majority(counts: Mapping[str, int]) -> str | None:
  """The single most frequent answer, None where there is none."""
  best = max(counts.values(), default=0)
  top = [option for option, count in counts.items() if count == best > 0]
  return top[0] if len(top) == 1 else None


def tally(
    votes: Iterable[records.Vote],
    gold: Mapping[str, str | None],
    langs: Sequence[str],
) -> Votes:
  """Sums `votes`; `gold` maps a question to its right answer or None."""
  rows = {lang: Language(lang) for lang in langs}
  total = Votes([], [Bin(_bin_label(b)) for b in range(_BINS)])
  for vote in votes:
    _add_question(total, vote, gold.get(vote.question_id))
    for lang in dict.fromkeys((*vote.counts, *vote.unparsed)):
      row = rows.setdefault(lang, Language(lang))
      counts = vote.counts.get(lang, {})
      row.parsed += sum(counts.values())
      row.unparsed += vote.unparsed.get(lang, 0)
      if vote.winner is not None:
        row.add(counts, vote.winner)
  total.languages = [r for r in rows.values() if r.parsed + r.unparsed]
  return total


def _add_question(total: Votes, vote: records.Vote, gold: str | None) -> None:
  total.questions += 1
  total.judged += gold is not None
  counts: collections.Counter[str] = collections.Counter()
  for own in vote.counts.values():
    counts.update(own)
  tied = counts.total() > 0 and majority(counts) is None
  total.ties += tied
  total.silent += not counts.total()
  if vote.winner is None:
    return
  total.winners += 1
  total.ties_decided += tied
  # The tiny step keeps 0.7, which is 6.999... tenths, in the eighth bin.
  place = total.bins[min(_BINS - 1, int(vote.share * _BINS + 1e-9))]
  total.judged_winners += gold is not None
  if gold is None:
    place.unknown += 1
  elif vote.winner == gold:
    place.right += 1
    total.right += 1
  else:
    place.wrong += 1


def _bin_label(number: int) -> str:
  return f'{number * 100 // _BINS}–{(number + 1) * 100 // _BINS}'


def share_legend(votes: Votes) -> list[plots.Series]:
  """The series of `share_figure` that have any vote."""
  sums = (
      sum(b.right for b in votes.bins),
      sum(b.wrong for b in votes.bins),
      sum(b.unknown for b in votes.bins),
  )
  return [s for s, total in zip(_BY_GOLD, sums, strict=True) if total]


def share_figure(votes: Votes) -> Markup:
  return plots.columns(
      [(b.label, (b.right, b.wrong, b.unknown)) for b in votes.bins],
      _BY_GOLD,
      edges=[str(b * 100 // _BINS) for b in range(_BINS + 1)],
      title='Histogram of the winner’s share of the parsed answers',
      x_label='winner’s share of the parsed answers, %',
      y_label='questions',
  )


def language_legend() -> Sequence[plots.Series]:
  return _BY_MAJORITY


def language_figure(votes: Votes) -> Markup:
  return plots.bars(
      [(r.lang.upper(), (r.agree, r.differ, r.split)) for r in votes.languages],
      _BY_MAJORITY,
      title='Does each language’s majority agree with the winner?',
      x_label='questions with a winner',
  )
