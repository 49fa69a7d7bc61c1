"""How systems descend from each other, and what that did to their languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import pathlib

import numpy as np

from calm_jax import records
from calm_jax.qa import metrics

Accuracies = Mapping[tuple[str, str], metrics.Estimate]  # by system, language


@dataclasses.dataclass(frozen=True)
class System:
  """One system: where its folders are, and how it came about.

  `trained_on` are the languages that were sampled and trained on, none where
  nothing was trained; `start` is the system that it was trained on from.
  """

  name: str
  folder: pathlib.Path
  setting: str
  languages: tuple[str, ...]
  trained_on: tuple[str, ...]
  start: str = ''


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
    systems: Sequence[System],
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
      chain = _chain(system, by_name)
      row = [_kept(chain, lang, found) for lang in langs]
      rows.append((system.name, row))
  return rows


def growth(
    systems: Iterable[System],
    scores: Iterable[records.Score],
    setting: str,
    wanted: Sequence[str],
) -> dict[int, dict[str, float]]:
  """Metrics over languages by the number of languages trained on.

  Only of systems that start anew: the others have seen what came before, too.
  Empty where all were trained on as many.
  """
  sizes = {s.name: len(s.trained_on) for s in systems if not s.start}
  points: dict[int, dict[str, float]] = {}
  for score in scores:
    shown = score.metric in wanted and score.lang == 'all'
    if score.setting == setting and shown and score.system in sizes:
      points.setdefault(sizes[score.system], {})[score.metric] = score.value
  return points if len(points.keys() - {0}) > 1 else {}


def _chain(system: System, by_name: Mapping[str, System]) -> list[System]:
  """What a system was trained on from, the first of it first, then itself."""
  chain = [system]
  while chain[0].start in by_name:
    chain.insert(0, by_name[chain[0].start])
  return chain


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


def _kept(chain: Sequence[System], lang: str, found: Accuracies) -> Kept:
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
