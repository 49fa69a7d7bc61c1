"""Stage: answers to the test questions before and after, and their scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import functools
import pathlib

from ml_collections import ConfigDict

from calm_jax import generation, records
from calm_jax.qa import metrics
from calm_jax.retrieval import evidence

BEFORE, AFTER = 'base', 'aligned'


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  path = workdir / 'translate' / 'test.jsonl'
  questions = list(records.read_jsonl(path, records.Question))
  decoding = generation.Decoding(
      style=cfg.prompt.style,
      shots=cfg.prompt.shots,
      two_stage=cfg.sample.answer == 'two_stage',
      samples=1,
      temperature=cfg.evaluate.temperature,
      top_p=cfg.sample.top_p,
      top_k=cfg.sample.top_k,
      max_new_tokens=cfg.evaluate.max_new_tokens,
      slots=cfg.sample.slots,
      seed=cfg.seed,
  )
  base = generation.load(
      cfg.model,
      cfg.revision,
      dtype=cfg.dtype,
      mesh=(cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor),
  )
  aligned = generation.with_adapter(base, workdir / 'align' / 'adapter')
  folder = workdir / 'evaluate'
  shown = evidence.read(workdir, 'test')
  counts: dict[str, float] = {}
  for system, policy in ((BEFORE, base), (AFTER, aligned)):
    made = generation.answer_all(
        folder / system,
        policy,
        questions,
        decoding,
        shard=cfg.sample.shard,
        title=f'evaluate {system}',
        to_record=functools.partial(_prediction, system),
        shown=shown,
    )
    counts |= {f'{system}_{name}': value for name, value in made.items()}
  predictions = {
      system: records.read_all(folder / system, '*.jsonl', records.Prediction)
      for system in (BEFORE, AFTER)
  }
  scores = compare(
      predictions,
      languages=cfg.languages,
      setting=f'{cfg.data.name} {cfg.data.test_split}',
      resamples=cfg.evaluate.bootstrap,
      seed=cfg.seed,
  )
  records.write_jsonl(folder / 'scores.jsonl', scores)
  return counts | {'scores': len(scores)}


def compare(
    predictions: dict[str, list[records.Prediction]],
    *,
    languages: Sequence[str],
    setting: str,
    resamples: int,
    seed: int,
) -> list[records.Score]:
  """Scores of each system, then of the paired difference after - before."""
  answers = {
      system: metrics.collect(rows, languages)
      for system, rows in predictions.items()
  }
  before, after = answers[BEFORE], answers[AFTER]
  if before.question_ids != after.question_ids:
    raise ValueError('the systems did not answer the same questions')
  times = metrics.resample(len(before.question_ids), count=resamples, seed=seed)
  estimates = {
      system: metrics.estimates(rows, times) for system, rows in answers.items()
  }
  estimates[f'{AFTER}-{BEFORE}'] = {
      name: metrics.difference(estimate, estimates[AFTER][name])
      for name, estimate in estimates[BEFORE].items()
      if name in estimates[AFTER]
  }
  return [
      score
      for system, rows in estimates.items()
      for score in _scores(system, setting, rows.items())
  ]


def _scores(
    system: str,
    setting: str,
    estimates: Iterable[tuple[tuple[str, str], metrics.Estimate]],
) -> list[records.Score]:
  scores = []
  for (lang, metric), estimate in estimates:
    low, high = estimate.interval()
    scores.append(
        records.Score(
            system=system,
            setting=setting,
            lang=lang,
            metric=metric,
            value=estimate.value,
            n=estimate.n,
            low=low,
            high=high,
        )
    )
  return scores


def _prediction(
    system: str, question: records.Question, sample: records.Sample
) -> records.Prediction:
  return records.Prediction(
      system=system,
      question_id=question.id,
      lang=question.lang,
      text=sample.text,
      answer=sample.answer,
      parse=sample.parse,
      gold=question.gold,
  )
