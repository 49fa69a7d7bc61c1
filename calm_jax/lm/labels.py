"""Log-probabilities of given tokens, without all their logits at once.

The gradient of a token's log-probability is known up to one factor as soon as
its logits are: it is computed with them, so that a backward pass neither keeps
logits nor multiplies by the vocabulary a third time.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from calm_jax.lm import decoder


def scores(
    cfg: decoder.DecoderConfig,
    params: decoder.Params,
    hidden_BCD: jax.Array,
    labels_BC: jax.Array,
    *,
    chunk: int,
) -> tuple[jax.Array, jax.Array]:
  """Log-probability of each label, and its logits' mean, `chunk` at a time.

  The output head is frozen, and the mean a metric: neither has a gradient.
  """
  rows, length = labels_BC.shape
  count = math.ceil(length / chunk)
  width = math.ceil(length / count)
  pad = count * width - length
  name = 'embed_VD' if cfg.tied else 'head_DV'
  head = {name: params[name]}

  def split(x):
    x = jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(rows, count, width, *x.shape[2:]), 1, 0)

  def score(_, x):
    return None, _chunk(cfg, head, *x)

  parts = split(hidden_BCD), split(labels_BC)
  _, found = jax.lax.scan(score, None, parts)
  join = lambda x: jnp.moveaxis(x, 0, 1).reshape(rows, -1)[:, :length]
  logp_BC, mean_BC = jax.tree.map(join, found)
  return logp_BC, mean_BC


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunk(cfg, head, hidden_BCD, labels_BC):
  return _measure(cfg, head, hidden_BCD, labels_BC)[0]


def _chunk_forward(cfg, head, hidden_BCD, labels_BC):
  found, error_BCV = _measure(cfg, head, hidden_BCD, labels_BC)
  (weight,) = head.values()
  slope_BCD = jnp.einsum(
      'BCV,VD->BCD' if cfg.tied else 'BCV,DV->BCD',
      error_BCV.astype(weight.dtype),
      weight,
      preferred_element_type=jnp.float32,
  )
  return found, slope_BCD.astype(hidden_BCD.dtype)


def _chunk_backward(cfg, slope_BCD, grads):
  del cfg
  grad_BCD = grads[0][..., None] * slope_BCD
  return None, grad_BCD.astype(slope_BCD.dtype), None


_chunk.defvjp(_chunk_forward, _chunk_backward)


def _measure(cfg, head, hidden_BCD, labels_BC):
  """The two scores, and what the labels lack in probability."""
  logits_BCV = decoder.unembed(cfg, head, hidden_BCD)
  top_BC1 = logits_BCV.max(-1, keepdims=True)
  weight_BCV = jnp.exp(logits_BCV - top_BC1)
  total_BC1 = weight_BCV.sum(-1, keepdims=True)
  # Not a gather: the vocabulary may be spread over devices.
  hit_BCV = labels_BC[..., None] == jnp.arange(cfg.vocab_size)[None, None]
  label_BC = jnp.where(hit_BCV, logits_BCV, 0).sum(-1)
  logp_BC = label_BC - (top_BC1 + jnp.log(total_BC1))[..., 0]
  return (logp_BC, logits_BCV.mean(-1)), hit_BCV - weight_BCV / total_BC1
