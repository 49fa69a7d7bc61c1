"""Self-RAG's arithmetic: when to retrieve, and how well a passage did.

Asai et al. 2023, arXiv 2310.11511, section 3.3 and appendix A.3: a model says
by reflection tokens what it thinks of a passage and of its own answer, and the
probabilities of those tokens are the scores. Numbers only; nothing is loaded.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import NamedTuple

from calm_jax import records

MODES = ('off', 'adaptive', 'always', 'never')
SCORING = ('paper', 'released', 'released_long')

RETRIEVAL, NO_RETRIEVAL = '[Retrieval]', '[No Retrieval]'
PARAGRAPH, END_PARAGRAPH = '<paragraph>', '</paragraph>'
RELEVANCE = ('[Relevant]', '[Irrelevant]')
SUPPORT = (
    '[Fully supported]',
    '[Partially supported]',
    '[No support / Contradictory]',
)
UTILITY = tuple(f'[Utility:{i}]' for i in range(1, 6))
# The 15 tokens in the order in which their model was given them.
TOKENS = (
    NO_RETRIEVAL,
    RETRIEVAL,
    '[Continue to Use Evidence]',
    *reversed(RELEVANCE),
    PARAGRAPH,
    END_PARAGRAPH,
    *UTILITY,
    *SUPPORT,
)
# Those that are scored: the columns of what a sampler watches.
WATCHED = (RETRIEVAL, NO_RETRIEVAL, *RELEVANCE, *SUPPORT, *UTILITY)

_SUPPORT_WEIGHTS = (1.0, 0.5, 0.0)
_UTILITY_WEIGHTS = (-1.0, -0.5, 0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Settings:
  """How passages are asked for and weighed (fields as in configs/base.py)."""

  mode: str
  threshold: float
  relevance: float
  support: float
  utility: float
  sequence: float
  scoring: str
  keep_tokens: bool


class Scores(NamedTuple):
  """What one answer beside one passage is worth.

  A score is None where the model drew no token of its kind, and the relevance
  where there is no passage; it adds nothing to `total` then. `sequence` is the
  geometric mean of the probabilities of what was drawn. `probabilities` are
  those that the scores were made of.
  """

  relevance: float | None
  support: float | None
  utility: float | None
  sequence: float
  total: float
  probabilities: Mapping[str, float]


def wants_passages(
    logprobs: Mapping[str, float], settings: Settings
) -> tuple[bool, float]:
  """Whether to retrieve, and the score that was held against the threshold.

  `logprobs` are those of the two retrieval tokens as the answer's first token.
  scoring=released divides log-probabilities, as run_short_form.py does: the
  surer the model is that it needs passages, the smaller the score.
  """
  yes, no = logprobs[RETRIEVAL], logprobs[NO_RETRIEVAL]
  if settings.scoring == 'released':
    score = yes / (yes + no) if yes + no else 0.0
  else:
    score = _shares((yes, no))[0]
  return score > settings.threshold, score


def judge(
    tokens: Sequence[str],
    watched: Sequence[Sequence[float]],
    *,
    mean_logprob: float,
    settings: Settings,
    alone: bool = False,
) -> Scores:
  """Scores an answer: its drawn tokens, and what was watched at each.

  `tokens` has the text of those drawn tokens that are WATCHED, and '' for all
  others; `watched` has the log-probabilities of WATCHED at each, in its order.
  Relevance is read where the answer begins, support and utility where the first
  token of their kind was drawn. `mean_logprob` is over all that was drawn;
  `alone` says that there is no passage to be relevant. scoring=released_long
  reads the utility from the support tokens, as run_long_form_static.py does,
  finds fewer than five, and so never counts it.
  """
  columns = {name: i for i, name in enumerate(WATCHED)}

  def read(at: int | None, names: Sequence[str]) -> dict[str, float]:
    if at is None:
      return {}
    row = watched[at]
    return {name: float(row[columns[name]]) for name in names}

  relevance = read(None if alone else 0, RELEVANCE)
  support = read(_first(tokens, SUPPORT), SUPPORT)
  utility = read(_first(tokens, UTILITY), UTILITY)
  if settings.scoring == 'released_long':
    utility = {}
  parts = (
      _weighted(relevance, (1.0, 0.0)),
      _weighted(support, _SUPPORT_WEIGHTS),
      _weighted(utility, _UTILITY_WEIGHTS),
      math.exp(mean_logprob),
  )
  weights = (
      settings.relevance,
      settings.support,
      settings.utility,
      settings.sequence,
  )
  found = relevance | support | utility
  return Scores(
      *parts,
      total=sum(w * (p or 0.0) for w, p in zip(weights, parts, strict=True)),
      probabilities={name: math.exp(value) for name, value in found.items()},
  )


def elect(answers: Sequence[str | None], totals: Sequence[float]) -> int:
  """The passage whose answer stands for all of them.

  The option with the largest sum of scores wins; of the passages that gave it
  the best one is returned. An answer that names no option counts only where
  none does. The first of equals wins.
  """
  sums: dict[str, float] = collections.defaultdict(float)
  for answer, total in zip(answers, totals, strict=True):
    if answer is not None:
      sums[answer] += total
  winner = max(sums, key=sums.__getitem__, default=None)
  mine = [i for i, answer in enumerate(answers) if answer == winner]
  return max(mine, key=totals.__getitem__)


def opening(passage: records.Passage | None) -> tuple[str, ...]:
  """What the model goes on from, in pieces: reflection tokens by themselves.

  A passage's title is its source without the folder.
  """
  if passage is None:
    return (NO_RETRIEVAL,)
  title = passage.source.partition('/')[2] or passage.source
  shown = f'{title.replace("_", " ")}\n{passage.text}'
  return (RETRIEVAL, PARAGRAPH, shown, END_PARAGRAPH)


def _first(tokens: Sequence[str], kind: Sequence[str]) -> int | None:
  return next((i for i, token in enumerate(tokens) if token in kind), None)


def _shares(logprobs: Sequence[float]) -> list[float]:
  """Their probabilities, scaled to sum to 1."""
  top = max(logprobs)
  weights = [math.exp(value - top) for value in logprobs]
  return [weight / sum(weights) for weight in weights]


def _weighted(
    logprobs: Mapping[str, float], weights: Sequence[float]
) -> float | None:
  if not logprobs:
    return None
  shares = _shares([*logprobs.values()])
  return sum(w * s for w, s in zip(weights, shares, strict=True))
