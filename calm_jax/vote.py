"""Stage 5: the samples of a question vote, over all languages, for an option.

No gold label is used: the most frequent answer becomes the pseudo-label.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
import hashlib
import pathlib

from ml_collections import ConfigDict
import msgspec

from calm_jax import console, records
from calm_jax.qa import ballots

TIES = ('abstain', 'first_seen', 'seeded')

_FACTS = ('samples', 'votes', 'no_winner', 'ties', 'no_answer', 'unparsed')


class _Count(msgspec.Struct):
  """The votes of one question so far; dicts keep the order of first votes."""

  total: dict[str, int] = msgspec.field(default_factory=dict)
  by_lang: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
  unparsed: dict[str, int] = msgspec.field(default_factory=dict)

  def add(self, lang: str, answer: str | None) -> None:
    votes = self.by_lang.get(lang)
    if votes is None:
      votes = self.by_lang[lang] = {}
      self.unparsed[lang] = 0
    if answer is None:
      self.unparsed[lang] += 1
      return
    votes[answer] = votes.get(answer, 0) + 1
    self.total[answer] = self.total.get(answer, 0) + 1


def tally(
    samples: Iterable[records.Sample], *, ties: str, seed: int = 0
) -> list[records.Vote]:
  """One vote per question, in the order in which questions first appear.

  Args:
    samples: in counting order; only `first_seen` depends on it.
    ties: abstain (no winner), first_seen (of the tied options, the one that
      was counted first) or seeded (a hash of seed and question id decides).
    seed: for `seeded`.
  """
  if ties not in TIES:
    raise ValueError(f'vote.ties is {ties!r}; choose one of {", ".join(TIES)}')
  counts: dict[str, _Count] = collections.defaultdict(_Count)
  for sample in samples:
    counts[sample.question_id].add(sample.lang, sample.answer)
  return [_vote(name, count, ties, seed) for name, count in counts.items()]


def tied(vote: records.Vote) -> bool:
  """Whether two or more options share the highest count."""
  if vote.share > 0.5:  # nothing else has as many
    return False
  total: dict[str, int] = {}
  for counts in vote.counts.values():
    for option, votes in counts.items():
      total[option] = total.get(option, 0) + votes
  return len(_leaders(total)) > 1


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, int]:
  """Writes vote/votes.jsonl, ordered by question id."""
  langs = cfg.sample.languages or cfg.languages
  ties, seed = cfg.vote.ties, cfg.seed
  groups = ballots.read(workdir, order=langs, parser=cfg.vote.parser)
  found: collections.Counter[str] = collections.Counter()

  def votes() -> Iterator[records.Vote]:
    for samples in groups:
      found['samples'] += len(samples)
      for vote in tally(samples, ties=ties, seed=seed):
        _count(found, vote)
        yield vote

  records.write_jsonl(workdir / 'vote' / 'votes.jsonl', votes())
  counts = {name: found[name] for name in _FACTS}
  counts |= {name: found[name] for name in sorted(found.keys() - counts)}
  console.say(
      f'  {counts["votes"] - counts["no_winner"]} of {counts["votes"]}'
      f' questions have a winner ({counts["ties"]} ties,'
      f' {counts["unparsed"]} of {counts["samples"]} answers unparsed)'
  )
  return counts


def _leaders(total: dict[str, int]) -> list[str]:
  most = max(total.values(), default=0)
  return [option for option, votes in total.items() if votes == most]


def _vote(
    question_id: str, count: _Count, ties: str, seed: int
) -> records.Vote:
  winner = _winner(_leaders(count.total), question_id, ties, seed)
  share = 0.0
  if winner is not None:
    share = count.total[winner] / sum(count.total.values())
  return records.Vote(question_id, winner, share, count.by_lang, count.unparsed)


def _winner(
    leaders: list[str], question_id: str, ties: str, seed: int
) -> str | None:
  if not leaders or (len(leaders) > 1 and ties == 'abstain'):
    return None
  if len(leaders) == 1 or ties == 'first_seen':
    return leaders[0]
  digest = hashlib.sha256(f'{seed}|{question_id}'.encode()).digest()
  # Sorted: the draw must not depend on the order of the languages.
  return sorted(leaders)[int.from_bytes(digest[:8], 'big') % len(leaders)]


def _count(found: collections.Counter[str], vote: records.Vote) -> None:
  """Adds one vote to the counts of the stage."""
  found['votes'] += 1
  found['no_winner'] += vote.winner is None
  found['ties'] += tied(vote)
  found['no_answer'] += not any(vote.counts.values())
  for lang, unparsed in vote.unparsed.items():
    found['unparsed'] += unparsed
    found[f'unparsed_{lang}'] += unparsed
