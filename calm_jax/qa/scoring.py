"""Predictions to scores: every metric of every system, and the differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from calm_jax import records
from calm_jax.qa import metrics

Estimates = Mapping[tuple[str, str], metrics.Estimate]


def score(
    predictions: Mapping[str, Iterable[records.Prediction]],
    *,
    languages: Sequence[str],
    setting: str,
    resamples: int,
    seed: int,
) -> list[records.Score]:
  """Scores of each system, then of its paired difference to the first.

  Raises:
    ValueError: the systems did not answer the same questions.
  """
  answers = {
      system: metrics.collect(rows, languages)
      for system, rows in predictions.items()
  }
  first, *others = answers
  for system in others:
    if answers[system].question_ids != answers[first].question_ids:
      raise ValueError(
          f'{system} and {first} did not answer the same questions'
      )
  ids = answers[first].question_ids
  times = metrics.resample(len(ids), count=resamples, seed=seed)
  found = {
      system: metrics.estimates(rows, times) for system, rows in answers.items()
  }
  for system in others:
    found[f'{system}-{first}'] = _difference(found[first], found[system])
  return [
      _score(system, setting, key, estimate)
      for system, rows in found.items()
      for key, estimate in rows.items()
  ]


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
