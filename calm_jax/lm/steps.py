"""A decoder as the sampler's four functions."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from calm_jax.lm import decoder, slots


def decoder_steps(cfg: decoder.DecoderConfig, dtype: Any) -> slots.Steps:
  """The four functions of a decoder; `weights` is (params, scaled lora)."""
  return _decoder_steps(cfg, jnp.dtype(dtype))


@functools.lru_cache(maxsize=8)
def _decoder_steps(cfg: decoder.DecoderConfig, dtype: Any) -> slots.Steps:
  # This function is cached, so that equal settings are one object to jit.
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
    return decoder.unembed(cfg, params, hidden_B1D[:, 0]), cache

  return slots.Steps(empty, prefill, insert, decode)
