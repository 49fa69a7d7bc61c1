"""What must hold of the decoder without any other model to compare with."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import decoder, rope
from calm_jax.lm import lora as lora_lib

# All that a family can differ in; few configurations keep compilations few.
FULL = decoder.DecoderConfig(
    vocab_size=50,
    num_layers=2,
    model_dim=24,
    ffn_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=128,
    rope_scaling=rope.RopeScaling('llama3', 8.0, original_positions=16),
    window=4,
    qkv_bias=True,
)
SHALLOW = dataclasses.replace(
    FULL, num_layers=1, rope_scaling=None, window=None
)
TARGETS = ('q_proj', 'k_proj', 'v_proj', 'o_proj', 'down_proj')
ROWS, LENGTH, CACHE, PREFILL = 3, 9, 12, 5


@pytest.fixture(autouse=True)
def _exact_products():
  with jax.default_matmul_precision('highest'):
    yield


def _fill(tree, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), jnp.float32),
      tree,
  )


@functools.cache
def _params(cfg):
  return _fill(decoder.abstract(cfg, jnp.float32))


@functools.cache
def _lora(cfg):
  lora_cfg = lora_lib.LoraConfig(rank=2, alpha=4.0, targets=TARGETS)
  build = lambda: lora_lib.init(cfg, lora_cfg, jax.random.key(0))
  return lora_lib.scaled(_fill(jax.eval_shape(build), 1), lora_cfg.scale)


def _tokens():
  return np.random.default_rng(2).integers(0, 50, (ROWS, LENGTH), np.int32)


_forward = jax.jit(decoder.forward, static_argnums=0)


def _hidden(cfg, tokens_BT, positions_BT=None, valid_BT=None, lora=None):
  """Every token at once, each row from position 0 unless told."""
  if positions_BT is None:
    positions_BT = np.broadcast_to(
        np.arange(tokens_BT.shape[1], dtype=np.int32), tokens_BT.shape
    )
  positions_BT = jnp.asarray(positions_BT)
  mask_BTS = decoder.causal_mask(cfg, positions_BT, positions_BT)
  if valid_BT is not None:
    mask_BTS &= jnp.asarray(valid_BT)[:, None, :]
  out = _forward(
      cfg,
      _params(cfg),
      jnp.asarray(tokens_BT),
      positions_BT,
      mask_BTS,
      lora=lora,
  )
  return np.asarray(out[0])


def _at(start, stop):
  return jnp.broadcast_to(jnp.arange(start, stop), (ROWS, stop - start))


def _empty(cfg):
  return decoder.empty_cache(cfg, ROWS, CACHE, jnp.float32)


def _step(cfg, tokens_BT, positions_BT, cache, lora=None):
  mask_BTS = decoder.causal_mask(cfg, positions_BT, _at(0, CACHE))
  return _forward(
      cfg,
      _params(cfg),
      jnp.asarray(tokens_BT),
      positions_BT,
      mask_BTS,
      cache=cache,
      lora=lora,
  )


def _cached(cfg, tokens_BT, lora=None):
  """The same by a cache: a few tokens at once, then one by one."""
  out, cache = _step(
      cfg, tokens_BT[:, :PREFILL], _at(0, PREFILL), _empty(cfg), lora
  )
  outs = [out]
  for t in range(PREFILL, LENGTH):
    out, cache = _step(cfg, tokens_BT[:, t : t + 1], _at(t, t + 1), cache, lora)
    outs.append(out)
  return np.concatenate(outs, axis=1)


def test_causal_mask_sees_the_past_and_itself():
  at = jnp.arange(4)[None]
  mask_BTS = decoder.causal_mask(SHALLOW, at, at)
  np.testing.assert_array_equal(mask_BTS[0], np.tri(4, dtype=bool))


def test_a_window_counts_the_token_itself():
  cfg = dataclasses.replace(FULL, window=2)
  at = jnp.asarray([[5, 6, 7, 8]])
  mask_BTS = decoder.causal_mask(cfg, at, at)
  np.testing.assert_array_equal(
      mask_BTS[0].astype(int),
      [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]],
  )


@pytest.mark.parametrize('changed', [0, 2])
def test_a_token_reaches_no_earlier_and_no_too_far_one(changed):
  reach = FULL.num_layers * (FULL.window - 1)
  tokens_BT = _tokens()
  before = _hidden(FULL, tokens_BT)
  tokens_BT[:, changed] = (tokens_BT[:, changed] + 1) % 50
  differs_T = (before != _hidden(FULL, tokens_BT)).any(axis=(0, 2))
  at_T = np.arange(LENGTH)
  expected_T = (at_T >= changed) & (at_T <= changed + reach)
  np.testing.assert_array_equal(differs_T, expected_T)


@pytest.mark.parametrize('adapted', [False, True], ids=['base', 'lora'])
def test_cached_decoding_equals_the_full_forward_pass(adapted):
  lora = _lora(FULL) if adapted else None
  full = _hidden(FULL, _tokens(), lora=lora)
  cached = _cached(FULL, _tokens(), lora)
  np.testing.assert_allclose(cached, full, atol=2e-6)


def test_an_adapter_changes_the_answer():
  base = _hidden(FULL, _tokens())
  adapted = _hidden(FULL, _tokens(), lora=_lora(FULL))
  assert np.abs(adapted - base).max() > 0.1


def test_rows_of_a_cache_may_be_at_different_positions():
  tokens_BT, lengths_B = _tokens(), np.asarray([2, 4, 3])
  full = _hidden(FULL, tokens_BT)
  _, cache = _step(FULL, tokens_BT[:, :PREFILL], _at(0, PREFILL), _empty(FULL))
  # What a longer row left behind the end of a shorter one must not be seen.
  rows_B = np.arange(ROWS)
  next_B1 = tokens_BT[rows_B, lengths_B][:, None]
  out, _ = _step(FULL, next_B1, jnp.asarray(lengths_B[:, None]), cache)
  np.testing.assert_allclose(out[:, 0], full[rows_B, lengths_B], atol=2e-6)


def test_a_row_is_the_same_alone_and_in_a_batch():
  together = _hidden(FULL, _tokens())
  alone = _hidden(FULL, _tokens()[1:2])
  np.testing.assert_allclose(together[1:2], alone, atol=2e-6)


@pytest.mark.parametrize('side', ['left', 'right'])
def test_padding_changes_nothing(side):
  real = 5
  first = LENGTH - real if side == 'left' else 0
  here = slice(first, first + real)
  valid_BT = np.zeros((ROWS, LENGTH), bool)
  valid_BT[:, here] = True
  positions_BT = np.broadcast_to(np.arange(LENGTH) - first, (ROWS, LENGTH))
  padded = _hidden(FULL, _tokens(), np.maximum(positions_BT, 0), valid_BT)
  bare = _hidden(FULL, _tokens()[:, here])
  np.testing.assert_allclose(padded[:, here], bare, atol=2e-6)


def test_linear_scaling_slows_positions_down():
  scaling = rope.RopeScaling('linear', 2.0)
  cfg = dataclasses.replace(SHALLOW, rope_scaling=scaling)
  slow = _hidden(cfg, _tokens(), 2 * np.asarray(_at(0, LENGTH)))
  np.testing.assert_allclose(slow, _hidden(SHALLOW, _tokens()), atol=2e-5)


@pytest.mark.parametrize(
    ('original', 'same'),
    [(10**9, None), (1, rope.RopeScaling('linear', 8.0))],
    ids=['every wave is short', 'every wave is long'],
)
def test_llama3_scaling_slows_long_waves_only(original, same):
  scaling = rope.RopeScaling('llama3', 8.0, original_positions=original)
  ours = _hidden(dataclasses.replace(SHALLOW, rope_scaling=scaling), _tokens())
  other = _hidden(dataclasses.replace(SHALLOW, rope_scaling=same), _tokens())
  np.testing.assert_allclose(ours, other, atol=2e-6)


def test_the_tied_head_is_the_embedding():
  tied = dataclasses.replace(FULL, tied=True)
  params = {'embed_VD': _params(FULL)['embed_VD']}
  hidden_XD = params['embed_VD'][:4]
  np.testing.assert_allclose(
      decoder.unembed(tied, params, hidden_XD),
      decoder.unembed(FULL, {'head_DV': params['embed_VD'].T}, hidden_XD),
      atol=1e-5,
  )
