"""A decoder as the sampler's four functions."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from calm_jax.lm import decoder, sharding, slots


def decoder_steps(
    cfg: decoder.DecoderConfig, dtype: Any, mesh: Mesh | None = None
) -> slots.Steps:
  """The functions of a decoder on a mesh, or on one device.

  `weights` is (params, scaled lora).
  """
  steps = _decoder_steps(cfg, jnp.dtype(dtype))
  return steps if mesh is None or mesh.size == 1 else _spread(steps, mesh)


@functools.lru_cache(maxsize=8)
def _spread(steps: slots.Steps, mesh: Mesh) -> slots.Steps:
  """The same functions, with slots and prompts over the rows of a mesh."""
  parts = sharding.rows(mesh)

  def empty(rows: int, length: int):
    made = steps.empty(rows, length)
    return jax.tree.map(lambda x: sharding.pin(mesh, x, 'BK..'), made)

  def insert(cache, entries, row_R, source_R):
    # The sampler puts a prompt's samples where the prompt is: no part of the
    # rows has to know of another.
    fold = lambda x, dims: sharding.split(
        x.reshape(parts, -1, *x.shape[1:]), dims
    )
    first_P = jnp.arange(parts)[:, None]
    filled = jax.vmap(steps.insert)(
        jax.tree.map(lambda x: fold(x, 'B.K..'), cache),
        jax.tree.map(lambda x: fold(x, 'B..K.'), entries),
        fold(row_R, 'B.') - first_P * (cache.v_BKSH[0].shape[0] // parts),
        fold(source_R, 'B.') - first_P * (entries.v_BTKH[0].shape[0] // parts),
    )
    return jax.tree.map(
        lambda x: sharding.split(x.reshape(-1, *x.shape[2:]), 'BK..'), filled
    )

  on = lambda function: sharding.on(mesh, function)
  return slots.Steps(
      empty,
      on(steps.prefill),
      on(insert),
      on(steps.decode),
      steps.cut,
      on(_lay),
      parts,
  )


def _lay(state: slots.State) -> slots.State:
  """The cache by rows and heads, all else by rows."""
  by_rows = lambda x: sharding.split(x, 'B' + '.' * (x.ndim - 1))
  rest = jax.tree.map(by_rows, state._replace(cache=()))
  by_heads = lambda x: sharding.split(x, 'BK..')
  return rest._replace(cache=jax.tree.map(by_heads, state.cache))


# Cached, so that equal settings are one object to jit.
@functools.lru_cache(maxsize=8)
def _decoder_steps(cfg: decoder.DecoderConfig, dtype: Any) -> slots.Steps:
  # A bfloat16 scatter on CPU converts the whole cache twice, at every step.
  cache_dtype = jnp.float32 if jax.default_backend() == 'cpu' else dtype

  def empty(rows, length):
    return decoder.empty_cache(cfg, rows, length, cache_dtype)

  def prefill(weights, tokens_PT):
    params, lora = weights
    positions_PT = jnp.broadcast_to(
        jnp.arange(tokens_PT.shape[1]), tokens_PT.shape
    )
    mask = decoder.causal_mask(cfg, positions_PT, positions_PT)
    return decoder.forward(
        cfg, params, tokens_PT, positions_PT, mask, lora=lora
    )[1]

  def insert(cache, entries, row_R, source_R):
    def put_keys(to_BKHS, from_PTKH):
      from_RKHT = jnp.transpose(from_PTKH, (0, 2, 3, 1))[source_R]
      width = from_RKHT.shape[3]
      return to_BKHS.at[row_R, :, :, :width].set(from_RKHT, mode='drop')

    def put_values(to_BKSH, from_PTKH):
      from_RKTH = jnp.transpose(from_PTKH, (0, 2, 1, 3))[source_R]
      width = from_RKTH.shape[2]
      return to_BKSH.at[row_R, :, :width].set(from_RKTH, mode='drop')

    return decoder.KVCache(
        jax.tree.map(put_keys, cache.k_BKHS, entries.k_BTKH),
        jax.tree.map(put_values, cache.v_BKSH, entries.v_BTKH),
    )

  def decode(weights, cache, token_B, position_B):
    params, lora = weights
    rows, _, length, _ = cache.v_BKSH[0].shape
    positions_B1 = position_B[:, None]
    keys_BS = jnp.broadcast_to(jnp.arange(length), (rows, length))
    mask = decoder.causal_mask(cfg, positions_B1, keys_BS)
    hidden_B1D, cache = decoder.forward(
        cfg,
        params,
        token_B[:, None],
        positions_B1,
        mask,
        cache=cache,
        lora=lora,
    )
    logits_BV = decoder.unembed(cfg, params, hidden_B1D[:, 0])
    return sharding.split(logits_BV, 'BV', sharding.DRAWS), cache

  return slots.Steps(empty, prefill, insert, decode, _cut)


def _cut(cache: decoder.KVCache, length: int) -> decoder.KVCache:
  return decoder.KVCache(
      slots.replaced(cache.k_BKHS, lambda x: first(x, length, 3)),
      slots.replaced(cache.v_BKSH, lambda x: first(x, length, 2)),
  )


@functools.partial(jax.jit, static_argnums=(1, 2))
def first(x: jax.Array, length: int, axis: int) -> jax.Array:
  """The first `length` of an axis."""
  return jax.lax.slice_in_dim(x, 0, length, axis=axis)
