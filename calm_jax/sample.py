"""Stage: m answers per question and language, drawn from the model."""

from __future__ import annotations

import functools
import pathlib

from ml_collections import ConfigDict

from calm_jax import asking, generation, records, reflection
from calm_jax.lm import hosts
from calm_jax.retrieval import evidence, selfrag


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  path = workdir / 'translate' / 'train.jsonl'
  langs = cfg.sample.languages or cfg.languages
  rows = records.read_jsonl(path, records.Question)
  questions = [q for q in rows if q.lang in langs]
  decoding = asking.Decoding(
      style=cfg.prompt.style,
      shots=cfg.prompt.shots,
      two_stage=cfg.sample.answer == 'two_stage',
      samples=cfg.sample.m,
      temperature=cfg.sample.temperature,
      top_p=cfg.sample.top_p,
      top_k=cfg.sample.top_k,
      max_new_tokens=cfg.sample.max_new_tokens,
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
  folder = workdir / 'sample'
  answer_all = generation.answer_all
  if cfg.selfrag.mode != 'off':
    answer_all = functools.partial(
        reflection.answer_all, settings=selfrag.Settings(**cfg.selfrag)
    )
  counts = answer_all(
      folder,
      policy,
      questions,
      decoding,
      shard=cfg.sample.shard,
      title='sample',
      to_record=lambda question, sample: sample,
      shown=evidence.read(workdir, 'train'),
  )
  if not hosts.is_leader():
    return {}  # process 0 counts what all have written
  found = dict.fromkeys(('unparsed', 'cut_at_max_new_tokens', 'tokens'), 0)
  # One at a time: there may be millions.
  for s in records.read_each(folder, '*.jsonl', records.Sample):
    found['unparsed'] += s.answer is None
    found['cut_at_max_new_tokens'] += s.stop_reason == 'length'
    found['tokens'] += s.tokens
  return counts | found
