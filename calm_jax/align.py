"""Stage 7, pairs to a LoRA adapter: a preference loss on pairs, or SFT."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
import pathlib

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict
import msgspec
import numpy as np

from calm_jax import (
    console,
    ledger,
    monitor,
    records,
    training_data,
    training_settings,
)
from calm_jax.lm import (
    batches,
    capacity,
    checkpoint,
    decoder,
    hosts,
    layouts,
    loop,
    memory,
    reference,
    sharding,
    training,
)
from calm_jax.lm import journal as journal_lib
from calm_jax.lm import lora as lora_lib
from calm_jax.lm import policy as policy_lib
from calm_jax.retrieval import selfrag

Counts = dict[str, int | float]

_CHOICE = 'choice.json'  # what `auto` stood for in this training

# The newest of these are among the counts of the stage.
_TOLD = ('loss', 'rewards/accuracies', 'agreement', 'consistency', 'unparsed')


class _Kept(msgspec.Struct):
  """The file of that name."""

  fingerprint: str  # of what is trained on
  choice: training_settings.Choice


def run(cfg: ConfigDict, workdir: pathlib.Path) -> Counts:
  """Trains an adapter on pair/; goes on from the newest checkpoint.

  Several processes train together, on one mesh of all their devices; the leader
  writes all but the checkpoints, to which each adds its part.
  """
  folder = workdir / 'align'
  mesh = sharding.make_mesh(cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor)
  policy = policy_lib.load(
      cfg.model,
      cfg.revision,
      dtype=cfg.dtype,
      template=cfg.prompt.template,
      place=sharding.place(mesh),
  )
  rows, counts = _read_rows(cfg, workdir / 'pair', policy.tokenizer)
  fingerprint = _fingerprint(cfg, policy, rows)
  hosts.agree('what to train on', fingerprint)
  lora, lora_cfg = _start(cfg, policy.cfg)
  start = sharding.place_tree(mesh, lora)
  model = memory.Model(policy.cfg, cfg.dtype, mesh)
  path = folder / _CHOICE
  arranged = _arrange(cfg, model, rows, lora_cfg, path, fingerprint)
  counts['sequences_per_row'] = arranged.rows['train'][0].sequences
  counts['packed_tokens'] = arranged.plan.capacity
  counts['remat'] = int(arranged.remat)
  save = functools.partial(_save, lora_cfg=lora_cfg, base_model=cfg.model)
  with capacity.explained(
      lambda: arranged.need,
      'Lower train.batch_size, train.max_length or train.packing, or set'
      ' train.remat=full',
  ):
    job, optimizer = _job(cfg, mesh, policy, start, arranged, folder)
    job = _watched(cfg, workdir, policy, job)
    fresh = training.TrainState(jnp.int32(0), lora, optimizer.init(lora))
    fresh = sharding.place_tree(mesh, fresh)
    with checkpoint.Checkpoints(
        folder / 'checkpoints',
        keep=cfg.train.keep,
        fingerprint=fingerprint,
    ) as checkpoints:
      state, last = _train(job, fresh, checkpoints, folder)
      best = checkpoints.restore_best(fresh)
      if best is not None:
        save(folder / 'adapter_best', best.lora)
        counts['best_step'] = int(best.step)
      # Whoever stops for want of a better step wants the best.
      chosen = best if best is not None and cfg.train.patience else state
      save(folder / 'adapter', chosen.lora)
  counts['steps'] = int(state.step)
  if state.step < job.plan.steps:
    counts['steps_planned'] = job.plan.steps
  return counts | {
      f'{split}_{name}': metrics[name]
      for split, metrics in last.items()
      for name in _TOLD
      if name in metrics
  }


def _arrange(
    cfg: ConfigDict,
    model: memory.Model,
    rows: Mapping[str, list[batches.Row]],
    lora: lora_lib.LoraConfig,
    path: pathlib.Path,
    fingerprint: str,
) -> training_settings.Arrangement:
  """Rows and steps, as in the run that goes on where `path` tells of one."""
  text = path.read_text('utf-8', 'replace') if path.exists() else ''
  text = hosts.from_leader('what was chosen before', text)
  before = None
  try:
    kept = msgspec.json.decode(text, type=_Kept)
    if kept.fingerprint == fingerprint:
      before = kept.choice
  except msgspec.DecodeError:
    pass  # there is none, or it is damaged
  arranged = training_settings.arrange(cfg, model, rows, lora, before=before)
  if hosts.is_leader():
    kept = records.to_json(_Kept(fingerprint, arranged.choice))
    records.write_text(path, f'{kept.decode()}\n')
  return arranged


def _start(
    cfg: ConfigDict, model: decoder.DecoderConfig
) -> tuple[decoder.Params, lora_lib.LoraConfig]:
  """New factors, or those of the adapter that the run starts with."""
  if cfg.adapter:
    return lora_lib.load_peft(pathlib.Path(cfg.adapter), model)
  lora_cfg = lora_lib.LoraConfig(
      cfg.lora.rank, cfg.lora.alpha, tuple(cfg.lora.targets)
  )
  return lora_lib.init(model, lora_cfg, jax.random.key(cfg.seed)), lora_cfg


def _read_rows(cfg: ConfigDict, folder: pathlib.Path, tokenizer):
  """The rows of both splits and their counts."""
  kept = cfg.selfrag.mode != 'off' and cfg.selfrag.keep_tokens
  return training_data.read(
      folder,
      tokenizer,
      method=cfg.train.method,
      max_length=cfg.train.max_length,
      weighting=cfg.train.weighting,
      marks=selfrag.TOKENS if kept else (),
  )


def _job(
    cfg: ConfigDict,
    mesh: Mesh,
    policy: policy_lib.Policy,
    start: decoder.Params,
    arranged: training_settings.Arrangement,
    folder: pathlib.Path,
):
  """The programs and the data of the run, and its optimiser."""
  parts = sharding.rows(mesh)
  rows, plan = arranged.rows, arranged.plan
  objective = training_settings.objective(cfg, twice=arranged.remat)
  schedule, optimizer = training_settings.optimizer(cfg, steps=plan.steps)
  eval_batch = cfg.train.eval_batch_size * parts
  if objective.has_reference:
    data = training_data.with_reference(
        _reference(cfg, mesh, policy, objective, start),
        rows,
        {
            'train': layouts.train(plan, rows['train']),
            'val': layouts.val(rows['val'], eval_batch),
        },
        folder / 'reference',
        identity=_reference_identity(cfg, policy),
        dtype=cfg.dtype,
    )
  else:
    data = {split: loop.Data(found) for split, found in rows.items()}
  job = loop.Job(
      mesh=mesh,
      params=policy.params,
      plan=plan,
      train=data['train'],
      val=data['val'],
      step=training.make_step(policy.cfg, objective, optimizer, mesh),
      evaluate=training.make_evaluation(policy.cfg, objective, mesh),
      schedule=schedule,
      eval_batch=eval_batch,
      eval_every=cfg.train.eval_every,
  )
  return job, optimizer


def _watched(
    cfg: ConfigDict, workdir: pathlib.Path, policy: policy_lib.Policy, job
) -> loop.Job:
  """The job with what it watches, and held-out questions if they are asked."""
  job = dataclasses.replace(
      job, watched=cfg.train.monitor_metric, patience=cfg.train.patience
  )
  if not cfg.train.monitor:
    return job
  model = monitor.load(cfg, policy, job.mesh)
  measure = monitor.build(cfg, workdir, model)
  return dataclasses.replace(job, monitor=measure)


def _reference(cfg, mesh, policy, objective, start: decoder.Params):
  """What scores a batch: the model, with the adapter where that is asked."""
  program = training.make_reference(policy.cfg, objective, mesh)
  lora = start if cfg.train.reference == 'start' else None

  def score(batch: batches.Batch) -> np.ndarray:
    placed = sharding.place_batch(mesh, batch)
    return np.asarray(program(lora, policy.params, placed))

  return score


def _reference_identity(cfg: ConfigDict, policy: policy_lib.Policy) -> str:
  started = cfg.train.reference == 'start'
  return policy.identity + (_adapter_identity(cfg) if started else '')


def _adapter_identity(cfg: ConfigDict) -> str:
  return ledger.digest(pathlib.Path(cfg.adapter)) if cfg.adapter else ''


def _train(
    job: loop.Job,
    fresh: training.TrainState,
    checkpoints: checkpoint.Checkpoints,
    folder: pathlib.Path,
) -> tuple[training.TrainState, dict[str, Mapping[str, float]]]:
  """Trains to the end; with the newest metrics of each split."""
  state = checkpoints.restore(fresh)
  if state is None:
    # A copy: the first step takes the buffers of its state.
    state = jax.tree.map(jnp.copy, fresh)
  elif int(state.step) < job.plan.steps:
    console.say(f'  goes on after step {int(state.step)}')
  with (
      journal_lib.Journal(folder, step=int(state.step)) as journal,
      console.progress('align', job.plan.steps) as bar,
  ):
    state = loop.run(
        job,
        state,
        journal=journal,
        checkpoints=checkpoints,
        advance=bar.advance,
    )
    return state, journal.last


def _save(
    folder: pathlib.Path,
    lora: decoder.Params,
    lora_cfg: lora_lib.LoraConfig,
    base_model: str,
) -> None:
  lora = sharding.fetch(lora)
  if hosts.is_leader():
    lora_lib.save_peft(folder, lora, lora_cfg, base_model=base_model)


def _fingerprint(cfg, policy: policy_lib.Policy, rows) -> str:
  """What a checkpoint was trained on: model, rows, and how."""
  start = policy.identity + _adapter_identity(cfg)
  keys = [
      reference.key(found, identity=start, dtype=cfg.dtype, layout=())
      for found in rows.values()
  ]
  text = json.dumps([keys, cfg.train.to_dict(), cfg.lora.to_dict(), cfg.seed])
  return hashlib.sha256(text.encode()).hexdigest()[:16]
