"""Who is preferred to whom: samples picked by the vote, not yet worded.

The chosen side voted for the winner; the rejected side names another option. A
sample that names no option is neither: it does not disagree, it failed.
"""

from __future__ import annotations

import collections
from collections.abc import (
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)

import msgspec

from calm_jax import records

POSITIVES = ('last', 'all', 'same_language_first', 'highest_logprob', 'english')
GOLD = ('none', 'paper', 'released')

Counts = collections.Counter[str]
# Whether a text can be had from the first language in the second.
Supports = Callable[[str, str], bool]


class Draft(msgspec.Struct, frozen=True):
  """Samples picked for one row in `lang`, not yet worded."""

  lang: str
  chosen: records.Sample
  rejected: records.Sample | None
  share: float


def prefer(
    samples: Iterable[records.Sample],
    votes: Iterable[records.Vote],
    *,
    positives: str,
    min_share: float,
    min_margin: float = 0.0,
    supports: Supports,
) -> tuple[list[Draft], Counts]:
  """Every sample against the winner, with who is preferred to it; counts.

  samples = agreed + no_winner + low_share + low_margin + unparsed + no_chosen
  + no_english + rejected, where no_chosen could be paired only through a
  translation that `supports` denies, and no_english lacks the English winning
  sample that the policy asks for. One rejected sample makes one draft per
  chosen one.
  """
  counts: Counts = collections.Counter()
  drafts = []
  for vote, mine in _decided(samples, votes, min_share, min_margin, counts):
    winners, losers = [], {}
    for sample in mine:
      if sample.answer is None:
        counts['unparsed'] += 1
      elif sample.answer == vote.winner:
        winners.append(sample)
      else:
        losers.setdefault(sample.lang, []).append(sample)
    counts['agreed'] += len(winners)
    for lang, rejected in losers.items():
      chosen = _positives(winners, lang, positives, supports)
      fate = 'rejected' if chosen else _lack(winners, positives)
      counts[fate] += len(rejected)
      drafts += [
          Draft(lang, c, r, vote.share) for c in chosen for r in rejected
      ]
  return drafts, counts


def imitate(
    samples: Iterable[records.Sample],
    votes: Iterable[records.Vote],
    asked: Container[tuple[str, str]],
    languages: Sequence[str],
    *,
    positives: str,
    min_share: float,
    min_margin: float = 0.0,
    supports: Supports,
) -> tuple[list[Draft], Counts]:
  """The winning answers, for every language that a question is asked in.

  no_chosen counts the questions x languages without a winning answer, and
  no_english those for which the policy asks for an English one.
  """
  counts: Counts = collections.Counter()
  drafts = []
  for vote, mine in _decided(samples, votes, min_share, min_margin, counts):
    winners = [s for s in mine if s.answer == vote.winner]
    counts['agreed'] += len(winners)
    counts['unparsed'] += sum(s.answer is None for s in mine)
    for lang in languages:
      if (vote.question_id, lang) not in asked:
        continue
      chosen = _positives(winners, lang, positives, supports)
      if not chosen:
        counts[_lack(winners, positives)] += 1
      drafts += [Draft(lang, c, None, vote.share) for c in chosen]
  return drafts, counts


def label(
    samples: Iterable[records.Sample],
    votes: Iterable[records.Vote],
    gold: Mapping[str, str | None],
    *,
    rule: str,
) -> tuple[list[records.Sample], list[records.Vote], Counts]:
  """What gold labels leave of samples and votes: the ground-truth baseline.

  paper: the questions whose winner is gold. released (the authors' code): gold
  is the winner, whatever was voted, and its part of the votes is the share.
  Samples of other questions are counted: no_gold has no label, not_gold
  another winner.
  """
  counts: Counts = collections.Counter()
  dropped, kept = {}, []
  for vote in votes:
    right = gold.get(vote.question_id)
    if right is None:
      dropped[vote.question_id] = 'no_gold'
    elif rule == 'released':
      kept.append(
          msgspec.structs.replace(vote, winner=right, share=_share(vote, right))
      )
    elif vote.winner in (None, right):
      kept.append(vote)  # without a winner it is dropped as no_winner
    else:
      dropped[vote.question_id] = 'not_gold'
  left = []
  for sample in samples:
    if sample.question_id in dropped:
      counts[dropped[sample.question_id]] += 1
    else:
      left.append(sample)
  return left, kept, counts


def limit(drafts: Iterable[Draft], *, cap: int) -> tuple[list[Draft], Counts]:
  """The first `cap` (0: all) distinct drafts of each question and language."""
  counts: Counts = collections.Counter()
  groups: dict[tuple[str, str], dict[tuple, Draft]] = {}
  for draft in drafts:
    chosen, rejected = draft.chosen, draft.rejected
    texts = chosen.lang, chosen.text
    if rejected is not None:
      texts += rejected.text, rejected.answer
    group = groups.setdefault((chosen.question_id, draft.lang), {})
    if texts in group:
      counts['duplicate'] += 1
    elif cap and len(group) >= cap:
      counts['capped'] += 1
    else:
      group[texts] = draft
  return [d for group in groups.values() for d in group.values()], counts


def _decided(
    samples: Iterable[records.Sample],
    votes: Iterable[records.Vote],
    min_share: float,
    min_margin: float,
    counts: Counts,
) -> Iterator[tuple[records.Vote, list[records.Sample]]]:
  """Each vote that may be learnt from, with the samples of its question."""
  groups: dict[str, list[records.Sample]] = {}
  for sample in samples:
    groups.setdefault(sample.question_id, []).append(sample)
  for vote in votes:
    mine = groups.pop(vote.question_id, [])
    if vote.winner is None:
      counts['no_winner'] += len(mine)
    elif vote.share < min_share:
      counts['low_share'] += len(mine)
    elif min_margin and _margin(vote) < min_margin:
      counts['low_margin'] += len(mine)
    else:
      yield vote, mine
  if groups:
    raise ValueError(
        f'vote/votes.jsonl lacks question {min(groups)!r}, which was sampled;'
        ' remove the folder vote and run the stage again'
    )


def _positives(
    winners: Sequence[records.Sample],
    lang: str,
    policy: str,
    supports: Supports,
) -> list[records.Sample]:
  """Those of the winning samples that are put before the answers in `lang`."""
  usable = [w for w in winners if w.lang == lang or supports(w.lang, lang)]
  if policy == 'all' or not usable:
    return usable
  if policy == 'last':
    return usable[-1:]
  if policy == 'same_language_first':
    return ([w for w in usable if w.lang == lang] or usable)[-1:]
  if policy == 'highest_logprob':
    return [max(usable, key=lambda w: w.logprob)]
  if policy == 'english':
    return [w for w in usable if w.lang == 'en'][:1]
  raise ValueError(
      f'pair.positives is {policy!r}; choose one of {", ".join(POSITIVES)}'
  )


def _lack(winners: Sequence[records.Sample], policy: str) -> str:
  """Why no winning sample may be chosen."""
  if policy == 'english' and all(w.lang != 'en' for w in winners):
    return 'no_english'
  return 'no_chosen'


def _share(vote: records.Vote, option: str) -> float:
  total = _total(vote)
  return total[option] / total.total() if total else 0.0


def _margin(vote: records.Vote) -> float:
  """The winner's lead over the second, as a part of all votes; 0: no lead."""
  total = _total(vote)
  everything = total.total() or 1
  mine = total.pop(vote.winner or '', 0)
  second = max(total.values(), default=0)
  # A gold label may have fewer votes than another option.
  return max(0, mine - second) / everything


def _total(vote: records.Vote) -> Counts:
  total: Counts = collections.Counter()
  for counts in vote.counts.values():
    total.update(counts)
  return total
