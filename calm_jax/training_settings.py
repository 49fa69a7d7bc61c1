"""The settings of training as the models' library takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import functools
import math
from typing import Literal, NamedTuple

from ml_collections import ConfigDict
import msgspec
import optax

from calm_jax.lm import (
    batches,
    layouts,
    memory,
    plans,
    remat,
    sharding,
    training,
)
from calm_jax.lm import lora as lora_lib
from calm_jax.lm import optimizer as optimizers


def objective(cfg: ConfigDict, *, twice: bool) -> training.Objective:
  """What is minimised; with layers computed `twice` to save memory."""
  train = cfg.train
  return training.Objective(
      train.method,
      cfg.lora.alpha / cfg.lora.rank,
      beta=train.beta,
      label_smoothing=train.label_smoothing,
      loss=train.loss,
      sft_weight=train.sft_weight,
      simpo_gamma=train.simpo_gamma,
      remat=twice,
  )


class Choice(msgspec.Struct, frozen=True):
  """Settings of training in place of `auto`, as memory allowed them."""

  packing: int
  remat: Literal['none', 'full']


class Arrangement(NamedTuple):
  """Rows, the steps over those to train on, and how a step computes them."""

  rows: dict[str, list[batches.Row]]  # of each split
  plan: plans.Plan
  remat: bool  # compute each layer again in the backward pass
  need: memory.Need  # of a device

  @property
  def choice(self) -> Choice:
    return Choice(self.plan.capacity, 'full' if self.remat else 'none')


def arrange(
    cfg: ConfigDict,
    model: memory.Model,
    rows: Mapping[str, Sequence[batches.Row]],
    lora: lora_lib.LoraConfig,
    *,
    shapes: int | None = None,
    before: Choice | None = None,
) -> Arrangement:
  """As asked, or as is cheapest and fits; `shapes` are compiled, None: auto.

  A run that goes on keeps the choice of `before` where it still fits, however
  much memory is free now: what changes, changes the rounding.

  Raises:
    ValueError: training does not fit on a device, or not as it is asked for.
  """
  settled = layouts.settle(model.cfg, rows, asked=cfg.train.layout)
  parts = sharding.rows(model.mesh)
  plan = functools.partial(_plan, cfg, settled['train'], parts)
  job = lambda found: _job(cfg, settled, found, parts)
  fits = functools.partial(remat.fits, model, lora=lora)
  asked = cfg.train
  if before is not None:
    again = job(plan(before.packing))
    if fits(again, asked=before.remat, safely=False):
      asked = before
  found = layouts.pack(
      model.cfg,
      settled['train'],
      plan,
      asked=asked.packing,
      fits=lambda found: fits(job(found), asked=asked.remat),
      shapes=shapes,
  )
  twice, need = remat.settle(model, job(found), asked=asked.remat, lora=lora)
  return Arrangement(settled, found, twice, need)


def optimizer(
    cfg: ConfigDict, *, steps: int
) -> tuple[optimizers.Schedule, optax.GradientTransformation]:
  """The learning rate over so many steps, and what uses it."""
  train = cfg.train
  schedule = optimizers.make_schedule(
      train.schedule,
      peak=train.learning_rate,
      warmup_ratio=train.warmup_ratio,
      steps=steps,
  )
  return schedule, optimizers.adamw(
      schedule,
      b1=train.adam_b1,
      b2=train.adam_b2,
      eps=train.adam_eps,
      weight_decay=train.weight_decay,
      clip_norm=train.clip_norm,
  )


def _plan(
    cfg: ConfigDict, rows: Sequence[batches.Row], parts: int, capacity: int
) -> plans.Plan:
  """The steps over rows that are split into `parts` devices."""
  return plans.Plan(
      num_rows=len(rows),
      batch=cfg.train.batch_size * parts,
      accumulation=cfg.train.accumulation,
      epochs=cfg.train.epochs,
      seed=cfg.seed,
      lengths=batches.lengths(rows),
      window=cfg.train.length_window,
      capacity=capacity,
  )


def _job(
    cfg: ConfigDict,
    rows: Mapping[str, Sequence[batches.Row]],
    plan: plans.Plan,
    parts: int,
) -> memory.Training:
  shape = layouts.longest(rows, plan)
  # Rows are validated alone: of packed rows' length they would be fewer.
  alone = max(max(batches.lengths(found)) for found in rows.values() if found)
  evaluated = math.ceil(cfg.train.eval_batch_size * alone / shape.length)
  return memory.Training(
      rows=cfg.train.batch_size * parts,
      eval_rows=(evaluated if plan.capacity else cfg.train.eval_batch_size)
      * parts,
      length=shape.length,
      completion=shape.completion,
      chunk=training.Objective.chunk,
      remat=False,
      sequences=shape.sequences,
  )
