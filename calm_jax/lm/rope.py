"""Rotary position embeddings, as Llama turns and stretches them.

Su et al. 2021 (arXiv 2104.09864). Array names: B batch, T query position,
H head dim; X stands for the heads.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Stretched rotary frequencies: 'llama3' (3.1 and later) or 'linear'."""

  kind: str
  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_positions: int = 8192


class Turns(NamedTuple):
  """Cosines and sines of every position, in float32."""

  cos_BTH: jax.Array
  sin_BTH: jax.Array


def turns(
    positions_BT: jax.Array,
    *,
    head_dim: int,
    theta: float,
    scaling: RopeScaling | None,
) -> Turns:
  """How far positions turn; a frequency serves the two halves of a head."""
  exponents_H = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  freqs_H = 1.0 / theta**exponents_H
  if scaling is not None:
    freqs_H = _scale_frequencies(scaling, freqs_H)
  # float32: bf16 rounds position 257 to 256.
  angles_BTH = positions_BT[..., None].astype(jnp.float32) * freqs_H[None, None]
  angles_BTH = jnp.concatenate([angles_BTH, angles_BTH], axis=-1)
  # In a loop, or XLA would compute them anew wherever they are used.
  functions = (jnp.cos, jnp.sin)
  cos_BTH, sin_BTH = jax.lax.map(
      lambda i: jax.lax.switch(i, functions, angles_BTH), jnp.arange(2)
  )
  return Turns(cos_BTH, sin_BTH)


def rotate(x_BTXH: jax.Array, by: Turns) -> jax.Array:
  """Queries or keys, turned; computed in float32, given back as they came."""
  x32_BTXH = x_BTXH.astype(jnp.float32)
  left, right = jnp.split(x32_BTXH, 2, axis=-1)
  turned_BTXH = jnp.concatenate([-right, left], axis=-1)
  cos_BT1H = by.cos_BTH[:, :, None]
  sin_BT1H = by.sin_BTH[:, :, None]
  return (x32_BTXH * cos_BT1H + turned_BTXH * sin_BT1H).astype(x_BTXH.dtype)


def _scale_frequencies(scaling: RopeScaling, freqs_H: jax.Array) -> jax.Array:
  """Slows low frequencies, keeps high ones, blends between (Llama 3.1)."""
  if scaling.kind == 'linear':
    return freqs_H / scaling.factor
  turns_H = scaling.original_positions * freqs_H / (2 * jnp.pi)
  span = scaling.high_freq_factor - scaling.low_freq_factor
  keep_H = jnp.clip((turns_H - scaling.low_freq_factor) / span, 0, 1)
  return freqs_H * (keep_H + (1 - keep_H) / scaling.factor)
