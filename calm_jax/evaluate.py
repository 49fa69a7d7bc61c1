"""Stage: answers to the test questions before and after, and their scores."""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
import functools
import pathlib

from ml_collections import ConfigDict

from calm_jax import asking, generation, records, reflection
from calm_jax.lm import hosts
from calm_jax.qa import metrics, scoring
from calm_jax.retrieval import evidence, selfrag

BEFORE, AFTER = 'base', 'aligned'


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  path = workdir / 'translate' / 'test.jsonl'
  questions = list(records.read_jsonl(path, records.Question))
  decoding = asking.Decoding(
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
  policy = generation.load(
      cfg.model,
      cfg.revision,
      dtype=cfg.dtype,
      mesh=(cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor),
      adapter=cfg.adapter,
      template=cfg.prompt.template,
  )
  policies = {BEFORE: policy} if cfg.evaluate.before else {}
  if cfg.train.method != 'none':
    adapter = workdir / 'align' / 'adapter'
    policies[AFTER] = generation.with_adapter(policy, adapter)
  folder = workdir / 'evaluate'
  shown = evidence.read(workdir, 'test')
  counts: dict[str, float] = {}
  for system, policy in policies.items():
    answer_all = generation.answer_all
    if cfg.selfrag.mode != 'off':
      answer_all = functools.partial(
          reflection.answer_all,
          settings=selfrag.Settings(**cfg.selfrag),
          system=system,
      )
    made = answer_all(
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
    # In bfloat16 an answer depends on the batch around it: compare like with
    # like.
    slots = int(made.get('slots', 0)) or decoding.slots
    decoding = dataclasses.replace(decoding, slots=slots)
  if not hosts.is_leader():
    return {}  # process 0 scores what all have written
  return counts | {'scores': _score(cfg, folder, policies)}


def _score(
    cfg: ConfigDict, folder: pathlib.Path, systems: Iterable[str]
) -> int:
  """Writes scores.jsonl from what the systems answered; returns how many."""
  answers = {
      system: metrics.collect(
          records.read_all(folder / system, '*.jsonl', records.Prediction),
          cfg.languages,
      )
      for system in systems
  }
  scores = scoring.score(
      answers,
      setting=f'{cfg.data.name} {cfg.data.test_split}',
      resamples=cfg.evaluate.bootstrap,
      seed=cfg.seed,
  )
  return records.write_jsonl(folder / 'scores.jsonl', scores)


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
