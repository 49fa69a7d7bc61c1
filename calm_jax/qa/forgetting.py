"""What training on one language after another did to those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from calm_jax.qa import lineage, metrics

Accuracies = Mapping[tuple[str, str], metrics.Estimate]  # by system, language


@dataclasses.dataclass(frozen=True)
class Kept:
  """What a system still knows of a language, against its best before."""

  lang: str
  value: float | None
  # None where none before it was trained on the language; with its 95 %
  # bootstrap interval over questions.
  change: float | None
  low: float | None
  high: float | None
  trained: bool  # whether this system was


def kept(
    systems: Sequence[lineage.System],
    answers: Mapping[str, metrics.Answers],
    langs: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> list[tuple[str, list[Kept]]]:
  """The forgetting matrix: accuracy now, and against the best before.

  The best is that of the systems which a system was trained on from, since the
  first of them that was trained on the language (Chaudhry et al. 2018); each
  resample of the questions has a best of its own. Rows are the systems of such
  chains that have `answers`, all to the same questions, in order.
  """
  found = _accuracies(answers, resamples=resamples, seed=seed)
  by_name = {system.name: system for system in systems}
  starts = {system.start for system in systems if system.trained_on}
  rows = []
  for system in systems:
    chained = system.start or system.name in starts
    if system.trained_on and chained and system.name in answers:
      chain = lineage.chain(system, by_name)
      row = [_kept(chain, lang, found) for lang in langs]
      rows.append((system.name, row))
  return rows


def _accuracies(
    answers: Mapping[str, metrics.Answers], *, resamples: int, seed: int
) -> Accuracies:
  """All from the same resamples as the scores, hence paired."""
  found: dict[tuple[str, str], metrics.Estimate] = {}
  asked = max(
      (len(given.question_ids) for given in answers.values()), default=0
  )
  times = metrics.resample(asked, count=resamples, seed=seed)
  for name, given in answers.items():
    right, scored = metrics.correct(given)
    for i, lang in enumerate(given.languages):
      if scored[i].any():
        found[name, lang] = metrics.mean(right[i], scored[i], times)
  return found


def _kept(
    chain: Sequence[lineage.System], lang: str, found: Accuracies
) -> Kept:
  *before, now = chain
  taught = [i for i, s in enumerate(before) if lang in s.trained_on]
  past = before[taught[0] :] if taught else []
  values = [found[s.name, lang] for s in past if (s.name, lang) in found]
  trained = lang in now.trained_on
  value = found.get((now.name, lang))
  if value is None or not values:
    told = None if value is None else value.value
    return Kept(lang, told, None, None, None, trained)
  change = metrics.difference(_best(values), value)
  return Kept(lang, value.value, change.value, *change.interval(), trained)


def _best(values: Sequence[metrics.Estimate]) -> metrics.Estimate:
  return metrics.Estimate(
      max(v.value for v in values),
      min(v.n for v in values),
      np.max([v.draws for v in values], axis=0),
  )
