"""Systems side by side: every metric of each, differences, and tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import itertools

from calm_jax import records
from calm_jax.qa import metrics

Systems = Mapping[str, metrics.Answers]  # of the same questions
Estimates = Mapping[tuple[str, str], metrics.Estimate]


def score(
    systems: Systems, *, setting: str, resamples: int, seed: int
) -> list[records.Score]:
  """Scores of each system, then of its paired difference to the first.

  Raises:
    ValueError: the systems did not answer the same questions.
  """
  first, *others = systems
  ids = systems[first].question_ids
  for system in others:
    if systems[system].question_ids != ids:
      raise ValueError(f'{system} and {first} answered different questions')
  times = metrics.resample(len(ids), count=resamples, seed=seed)
  found = {
      system: metrics.estimates(answers, times)
      for system, answers in systems.items()
  }
  for system in others:
    found[f'{system}-{first}'] = _difference(found[first], found[system])
  return [
      _score(system, setting, key, estimate)
      for system, rows in found.items()
      for key, estimate in rows.items()
  ]


def contrasts(systems: Systems, *, setting: str) -> list[records.Contrast]:
  """Every two systems, in each language that both answered in, and in all."""
  found = []
  for first, second in itertools.combinations(systems, 2):
    one, other = systems[first], systems[second]
    counts = dict(_discordant(one, other))
    if not counts:
      continue
    n, a, b = (sum(column) for column in zip(*counts.values(), strict=True))
    counts['all'] = n, a, b
    found += [
        records.Contrast(
            setting, first, second, lang, n, a, b, metrics.mcnemar(a, b)
        )
        for lang, (n, a, b) in counts.items()
    ]
  return found


def _discordant(
    one: metrics.Answers, other: metrics.Answers
) -> Iterator[tuple[str, tuple[int, int, int]]]:
  """Per language: questions, and those only one of the two got right."""
  right, scored = metrics.correct(one)
  right_too, scored_too = metrics.correct(other)
  for i, lang in enumerate(one.languages):
    if lang in other.languages:
      j = other.languages.index(lang)
      both = scored[i] & scored_too[j]
      only = right[i] & ~right_too[j] & both
      only_other = ~right[i] & right_too[j] & both
      yield lang, (int(both.sum()), int(only.sum()), int(only_other.sum()))


def _difference(
    before: Estimates, after: Estimates
) -> dict[tuple[str, str], metrics.Estimate]:
  return {
      key: metrics.difference(estimate, after[key])
      for key, estimate in before.items()
      if key in after
  }


def _score(
    system: str,
    setting: str,
    key: tuple[str, str],
    estimate: metrics.Estimate,
) -> records.Score:
  low, high = estimate.interval()
  lang, metric = key
  return records.Score(
      system, setting, lang, metric, estimate.value, estimate.n, low, high
  )
