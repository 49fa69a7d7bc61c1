"""Attention with grouped heads, over a cache and over the tokens of a row.

The products are written as batches of plain matrices, with positions and query
groups folded into one axis: einsums over both make XLA's CPU compiler transpose
the whole cache or the scores. Axes are named as in `decoder`; X is such a
folded axis.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# Queries per block on CPU: smaller scores stay in the processor's cache.
_BLOCK, _MOST_BLOCKS = 64, 6


def append(cache, k_BTKH, v_BTKH, positions_BT):
  """Writes keys and values into a layer's (k_BKHS, v_BKSH).

  Not those of positions past its end, where a slot that is done may stand.
  """
  k_BKHS, v_BKSH = cache
  rows_B1 = jnp.arange(k_BTKH.shape[0])[:, None]
  k_BTKH, v_BTKH = k_BTKH.astype(k_BKHS.dtype), v_BTKH.astype(v_BKSH.dtype)
  return (
      k_BKHS.at[rows_B1, :, :, positions_BT].set(k_BTKH, mode='drop'),
      v_BKSH.at[rows_B1, :, positions_BT].set(v_BTKH, mode='drop'),
  )


def over_cache(q_BTNH, k_BKHS, v_BKSH, mask_BTS) -> jax.Array:
  """Attention over all of a layer's cache."""
  q_BKGTH = _split_heads(q_BTNH, k_BKHS.shape[1])
  out_BKGTH, _, sum_BKGT1 = _attend(q_BKGTH, k_BKHS, v_BKSH, mask_BTS)
  return _join_heads(out_BKGTH / sum_BKGT1).astype(q_BTNH.dtype)


def over_tokens(q_BTNH, k_BTKH, v_BTKH, mask_BTS) -> jax.Array:
  """Attention of a row's tokens to each other, none to what is after it."""
  if jax.default_backend() != 'cpu':
    return jax.nn.dot_product_attention(
        q_BTNH, k_BTKH, v_BTKH, mask=mask_BTS[:, None]
    )
  q_BKGTH = _split_heads(q_BTNH, k_BTKH.shape[2])
  k_BKHS = jnp.transpose(k_BTKH, (0, 2, 3, 1))
  v_BKSH = jnp.transpose(v_BTKH, (0, 2, 1, 3))
  out_BKGTH = _causal(q_BKGTH, k_BKHS, v_BKSH, mask_BTS)
  return _join_heads(out_BKGTH).astype(q_BTNH.dtype)


@jax.custom_vjp
def _causal(q_BKGTH, k_BKHS, v_BKSH, mask_BTS) -> jax.Array:
  """Block by block of queries, each over the keys up to its end."""
  return _causal_forward(q_BKGTH, k_BKHS, v_BKSH, mask_BTS)[0]


def _causal_forward(q_BKGTH, k_BKHS, v_BKSH, mask_BTS):
  outs, totals = [], []
  for start, end in _blocks(q_BKGTH.shape[3]):
    out_BKGTH, top_BKGT1, sum_BKGT1 = _attend(
        q_BKGTH[:, :, :, start:end],
        k_BKHS[..., :end],
        v_BKSH[:, :, :end],
        mask_BTS[:, start:end, :end],
    )
    total_BKGT1 = top_BKGT1 + jnp.log(sum_BKGT1)
    # Not divided by the sum: XLA would fuse the exponentials, and round them,
    # in one way where `total` is kept for a backward pass and in another where
    # it is not. In bfloat16 a policy would part from its equal, the reference.
    out_BKGTH *= jnp.exp(top_BKGT1 - total_BKGT1)
    outs.append(out_BKGTH.astype(q_BKGTH.dtype))
    totals.append(total_BKGT1)
  out_BKGTH = jnp.concatenate(outs, 3)
  kept = q_BKGTH, k_BKHS, v_BKSH, mask_BTS, out_BKGTH, tuple(totals)
  return out_BKGTH, kept


def _causal_backward(kept, grad_BKGTH):
  # The scores are cheaper to compute again than to keep.
  q_BKGTH, k_BKHS, v_BKSH, mask_BTS, out_BKGTH, totals = kept
  steps = q_BKGTH.shape[3]
  mean_BKGT = _dot('BKGTH,BKGTH->BKGT', grad_BKGTH, out_BKGTH)
  q_grads, zero = [], jnp.float32(0)
  k_grad_BKHS, v_grad_BKSH = zero, zero
  for (start, end), total_BKGT1 in zip(_blocks(steps), totals, strict=True):
    here = slice(start, end)
    q_BKXH = _fold(q_BKGTH[:, :, :, here])
    grad_BKXH = _fold(grad_BKGTH[:, :, :, here])
    k_BKHZ, v_BKZH = k_BKHS[..., :end], v_BKSH[:, :, :end]
    scores_BKGTZ = _scores(
        q_BKGTH[:, :, :, here], k_BKHZ, mask_BTS[:, here, :end]
    )
    weight_BKXZ = _fold(jnp.exp(scores_BKGTZ - total_BKGT1))
    slope_BKXZ = _dot('BKXH,BKZH->BKXZ', grad_BKXH, v_BKZH)
    slope_BKXZ -= _fold(mean_BKGT[:, :, :, here, None])
    slope_BKXZ *= weight_BKXZ * q_BKGTH.shape[-1] ** -0.5
    slope_BKXZ = slope_BKXZ.astype(q_BKGTH.dtype)
    q_grad_BKXH = _dot('BKXZ,BKHZ->BKXH', slope_BKXZ, k_BKHZ)
    q_grads.append(q_grad_BKXH.reshape(grad_BKGTH[:, :, :, here].shape))
    after = (0, steps - end)
    k_grad_BKHS += jnp.pad(
        _dot('BKXH,BKXZ->BKHZ', q_BKXH, slope_BKXZ), [(0, 0)] * 3 + [after]
    )
    v_grad_BKSH += jnp.pad(
        _dot('BKXZ,BKXH->BKZH', weight_BKXZ.astype(v_BKSH.dtype), grad_BKXH),
        [(0, 0)] * 2 + [after, (0, 0)],
    )
  return (
      jnp.concatenate(q_grads, 3).astype(q_BKGTH.dtype),
      k_grad_BKHS.astype(k_BKHS.dtype),
      v_grad_BKSH.astype(v_BKSH.dtype),
      None,
  )


_causal.defvjp(_causal_forward, _causal_backward)


def computed(length: int) -> float:
  """Of a row's scores of all tokens with all, the part that is computed."""
  if jax.default_backend() != 'cpu':
    return 1.0
  scores = sum((end - start) * end for start, end in _blocks(length))
  return scores / length**2


def _blocks(steps: int) -> list[tuple[int, int]]:
  size = _BLOCK * math.ceil(steps / _BLOCK / _MOST_BLOCKS)
  return [(i, min(i + size, steps)) for i in range(0, steps, size)]


def _attend(q_BKGTH, k_BKHS, v_BKSH, mask_BTS) -> tuple[jax.Array, ...]:
  """The values' weighted sum, the highest score, and the weights' sum."""
  scores_BKGTS = _scores(q_BKGTH, k_BKHS, mask_BTS)
  top_BKGT1 = jnp.max(scores_BKGTS, axis=-1, keepdims=True)
  weight_BKGTS = jnp.exp(scores_BKGTS - top_BKGT1)
  sum_BKGT1 = jnp.sum(weight_BKGTS, axis=-1, keepdims=True)
  weight_BKXS = _fold(weight_BKGTS).astype(v_BKSH.dtype)
  out_BKXH = _dot('BKXS,BKSH->BKXH', weight_BKXS, v_BKSH)
  return out_BKXH.reshape(q_BKGTH.shape), top_BKGT1, sum_BKGT1


def _scores(q_BKGTH, k_BKHS, mask_BTS) -> jax.Array:
  scores_BKXS = _dot('BKXH,BKHS->BKXS', _fold(q_BKGTH), k_BKHS)
  scores_BKXS *= q_BKGTH.shape[-1] ** -0.5
  scores_BKGTS = scores_BKXS.reshape(*q_BKGTH.shape[:-1], -1)
  least = jnp.finfo(jnp.float32).min
  return jnp.where(mask_BTS[:, None, None], scores_BKGTS, least)


def _dot(spec: str, x, y) -> jax.Array:
  return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32)


def _fold(x_BKGTH) -> jax.Array:
  rows, kv_heads, groups, steps, size = x_BKGTH.shape
  return x_BKGTH.reshape(rows, kv_heads, groups * steps, size)


def _split_heads(q_BTNH, kv_heads: int) -> jax.Array:
  rows, steps, heads, head_dim = q_BTNH.shape
  shape = (rows, steps, kv_heads, heads // kv_heads, head_dim)
  return jnp.transpose(q_BTNH.reshape(shape), (0, 2, 3, 1, 4))


def _join_heads(out_BKGTH) -> jax.Array:
  rows, kv_heads, groups, steps, head_dim = out_BKGTH.shape
  out_BTKGH = jnp.transpose(out_BKGTH, (0, 3, 1, 2, 4))
  return out_BTKGH.reshape(rows, steps, kv_heads * groups, head_dim)
