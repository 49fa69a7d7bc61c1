"""AdamW and its learning rates, equal to those of transformers."""

from __future__ import annotations

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[Any], jax.Array]


def make_schedule(
    kind: str, *, peak: float, warmup_ratio: float, steps: int
) -> Schedule:
  """Learning rate by step: linear warm-up from 0, then decay to 0.

  Equal to transformers' schedules, whose first step has a rate of 0.
  """
  warmup = math.ceil(steps * warmup_ratio)
  return _schedule(kind, peak, warmup, 0 if kind == 'constant' else steps)


# Cached, so that equal settings are one object to jit.
@functools.lru_cache(maxsize=8)
def _schedule(kind: str, peak: float, warmup: int, steps: int) -> Schedule:
  decays = {
      'cosine': lambda done: 0.5 * (1 + jnp.cos(jnp.pi * done)),
      'linear': lambda done: 1 - done,
      'constant': jnp.ones_like,
  }
  decay = decays[kind]

  def schedule(step) -> jax.Array:
    step = jnp.asarray(step, jnp.float32)
    done = jnp.clip((step - warmup) / max(1, steps - warmup), 0, 1)
    ramp = step / max(1, warmup)
    return peak * jnp.where(step < warmup, ramp, decay(done))

  return schedule


@functools.lru_cache(maxsize=8)
def adamw(
    schedule: Schedule,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
) -> optax.GradientTransformation:
  """AdamW after clipping the gradient by its global norm."""
  return optax.chain(
      optax.clip_by_global_norm(clip_norm),
      optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay),
  )
