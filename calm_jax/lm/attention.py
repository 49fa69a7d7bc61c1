"""Attention with grouped heads, over a cache and over the tokens of a row.

The products are written as batches of plain matrices, with positions and query
groups folded into one axis: einsums over both make XLA's CPU compiler transpose
the whole cache or the scores. Axes are named as in `decoder`; X is such a
folded axis.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

# Queries per block on CPU: smaller scores stay in the processor's cache.
_BLOCK, _MOST_BLOCKS = 64, 6


def append(cache, k_BTKH, v_BTKH, positions_BT):
  """Writes keys and values into a layer's (k_BKHS, v_BKSH)."""
  k_BKHS, v_BKSH = cache
  rows_B1 = jnp.arange(k_BTKH.shape[0])[:, None]
  k_BTKH, v_BTKH = k_BTKH.astype(k_BKHS.dtype), v_BTKH.astype(v_BKSH.dtype)
  return (
      k_BKHS.at[rows_B1, :, :, positions_BT].set(k_BTKH),
      v_BKSH.at[rows_B1, :, positions_BT].set(v_BTKH),
  )


def over_cache(q_BTNH, k_BKHS, v_BKSH, mask_BTS) -> jax.Array:
  """Attention over all of a layer's cache."""
  q_BKGTH = _split_heads(q_BTNH, k_BKHS.shape[1])
  out_BKGTH = _attend(q_BKGTH, k_BKHS, v_BKSH, mask_BTS)
  return _join_heads(out_BKGTH).astype(q_BTNH.dtype)


def over_tokens(q_BTNH, k_BTKH, v_BTKH, mask_BTS) -> jax.Array:
  """Attention of a row's tokens to each other, none to what is after it."""
  if jax.default_backend() != 'cpu':
    return jax.nn.dot_product_attention(
        q_BTNH, k_BTKH, v_BTKH, mask=mask_BTS[:, None]
    )
  q_BKGTH = _split_heads(q_BTNH, k_BTKH.shape[2])
  k_BKHS = jnp.transpose(k_BTKH, (0, 2, 3, 1))
  v_BKSH = jnp.transpose(v_BTKH, (0, 2, 1, 3))
  steps = q_BTNH.shape[1]
  size = block(steps)
  # The scores of a block are cheaper to compute again than to keep.
  attend = jax.checkpoint(_attend)
  blocks = []
  for start in range(0, steps, size):
    end = min(start + size, steps)
    blocks.append(
        attend(
            q_BKGTH[:, :, :, start:end],
            k_BKHS[..., :end],
            v_BKSH[:, :, :end],
            mask_BTS[:, start:end, :end],
        )
    )
  return _join_heads(jnp.concatenate(blocks, 3)).astype(q_BTNH.dtype)


def block(steps: int) -> int:
  """Queries of a block, on CPU."""
  return _BLOCK * math.ceil(steps / _BLOCK / _MOST_BLOCKS)


def _attend(q_BKGTH, k_BKHS, v_BKSH, mask_BTS) -> jax.Array:
  rows, kv_heads, groups, steps, head_dim = q_BKGTH.shape
  dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  q_BKXH = q_BKGTH.reshape(rows, kv_heads, groups * steps, head_dim)
  scores_BKXS = dot('BKXH,BKHS->BKXS', q_BKXH, k_BKHS) * head_dim**-0.5
  scores_BKGTS = jnp.where(
      mask_BTS[:, None, None],
      scores_BKXS.reshape(rows, kv_heads, groups, steps, -1),
      jnp.finfo(jnp.float32).min,
  )
  top_BKGT1 = jnp.max(scores_BKGTS, axis=-1, keepdims=True)
  weight_BKGTS = jnp.exp(scores_BKGTS - jax.lax.stop_gradient(top_BKGT1))
  total_BKGT1 = jnp.sum(weight_BKGTS, axis=-1, keepdims=True)
  weight_BKXS = weight_BKGTS.reshape(scores_BKXS.shape).astype(v_BKSH.dtype)
  out_BKXH = dot('BKXS,BKSH->BKXH', weight_BKXS, v_BKSH)
  return out_BKXH.reshape(q_BKGTH.shape) / total_BKGT1


def _split_heads(q_BTNH, kv_heads: int) -> jax.Array:
  rows, steps, heads, head_dim = q_BTNH.shape
  shape = (rows, steps, kv_heads, heads // kv_heads, head_dim)
  return jnp.transpose(q_BTNH.reshape(shape), (0, 2, 3, 1, 4))


def _join_heads(out_BKGTH) -> jax.Array:
  rows, kv_heads, groups, steps, head_dim = out_BKGTH.shape
  out_BTKGH = jnp.transpose(out_BKGTH, (0, 3, 1, 2, 4))
  return out_BTKGH.reshape(rows, steps, kv_heads * groups, head_dim)
