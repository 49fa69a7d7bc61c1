"""The settings of training as the models' library takes them."""

from __future__ import annotations

from collections.abc import Sequence

from ml_collections import ConfigDict
import optax

from calm_jax.lm import batches, training
from calm_jax.lm import optimizer as optimizers


def objective(cfg: ConfigDict, *, remat: bool) -> training.Objective:
  """What is minimised; `remat` computes layers again to save memory."""
  train = cfg.train
  return training.Objective(
      train.method,
      cfg.lora.alpha / cfg.lora.rank,
      beta=train.beta,
      label_smoothing=train.label_smoothing,
      loss=train.loss,
      sft_weight=train.sft_weight,
      simpo_gamma=train.simpo_gamma,
      remat=remat,
  )


def plan(
    cfg: ConfigDict, rows: Sequence[batches.Row], *, parts: int
) -> batches.Plan:
  """The steps over rows that are split into `parts` devices."""
  return batches.Plan(
      num_rows=len(rows),
      batch=cfg.train.batch_size * parts,
      accumulation=cfg.train.accumulation,
      epochs=cfg.train.epochs,
      seed=cfg.seed,
      lengths=batches.lengths(rows),
      window=cfg.train.length_window,
  )


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
