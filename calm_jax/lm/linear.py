"""Weights at work on a mesh: the embedding, and linear maps with LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from calm_jax.lm import arithmetic, sharding


def look_up(embed_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
  """The embeddings of tokens."""
  # The embedding's width is split: each device looks up its part of it, for
  # all rows that share the parts, before they are exchanged for whole rows.
  tokens_BT = sharding.split(tokens_BT, 'BT', sharding.TOKEN)
  x_BTD = jnp.take(embed_VD, tokens_BT, axis=0)
  x_BTD = sharding.split(x_BTD, 'BTD', sharding.TOKEN)
  return sharding.split(x_BTD, 'BTD', _layout(x_BTD))


def apply(spec: str, x, weight: jax.Array, factors) -> jax.Array:
  """`x` through a weight, plus its low-rank update where there is one."""
  inputs, y_dims = spec.split('->')
  x_dims, w_dims = inputs.split(',')
  ins = sum(d not in y_dims for d in w_dims)
  layout = _layout(x)
  x = sharding.split(x, x_dims, layout)
  y = _project(x, weight, ins, w_dims, layout)
  y = sharding.split(y, y_dims, layout)
  if factors is None:
    return y
  h_BTR = arithmetic.project(x, factors['a'], inputs=ins)
  h_BTR = sharding.split(h_BTR, 'BTR', layout)
  return y + arithmetic.project(h_BTR, factors['b'])


def _layout(x_BTX: jax.Array) -> Mapping[str, Any]:
  return sharding.TOKEN if x_BTX.shape[1] == 1 else sharding.TOKENS


def _project(x, weight, ins: int, w_dims: str, layout) -> jax.Array:
  """`x` through a weight whose parts are brought together for it."""

  def product(x, weight):
    # First as it is stored: what is done to it here is not done before.
    weight = sharding.split(weight, w_dims, sharding.TOKEN)
    weight = sharding.split(weight, w_dims, layout)
    return arithmetic.project(x, weight, inputs=ins)

  # The backward pass brings them together again: all of them at once would be
  # what fsdp is to avoid.
  again = sharding.splits('fsdp') and layout is sharding.TOKENS
  return (jax.checkpoint(product) if again else product)(x, weight)
