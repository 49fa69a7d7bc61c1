"""Attention over the tokens of a row: what its two passes have in common."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import attention


def _inputs(steps):
  rng = np.random.default_rng(0)
  draw = lambda heads: rng.standard_normal((2, steps, heads, 64), np.float32)
  mask_BTS = np.tril(np.ones((2, steps, steps), bool))
  return 3 * draw(6), draw(2), draw(2), mask_BTS


@pytest.mark.parametrize('steps', [96, 160])
def test_the_same_bits_with_and_without_a_backward_pass(steps):
  q_BTNH, k_BTKH, v_BTKH, mask_BTS = _inputs(steps)

  def loss(q_BTNH):
    out_BTNH = attention.over_tokens(q_BTNH, k_BTKH, v_BTKH, mask_BTS)
    return jnp.square(out_BTNH).sum(), out_BTNH

  alone = jax.jit(lambda q: loss(q)[1])(q_BTNH)
  _, beside = jax.jit(jax.grad(loss, has_aux=True))(q_BTNH)
  np.testing.assert_array_equal(alone, beside)


def test_it_is_a_softmax_of_what_the_mask_shows():
  q_BTNH, k_BTKH, v_BTKH, mask_BTS = _inputs(96)
  found = jax.jit(attention.over_tokens)(q_BTNH, k_BTKH, v_BTKH, mask_BTS)
  k_BTNH, v_BTNH = (np.repeat(x, 3, axis=2) for x in (k_BTKH, v_BTKH))
  scores = np.einsum('BTNH,BSNH->BNTS', q_BTNH, k_BTNH) / 8
  scores = np.where(mask_BTS[:, None], scores, -np.inf)
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  expected = np.einsum('BNTS,BSNH->BTNH', weights, v_BTNH)
  np.testing.assert_allclose(found, expected, atol=1e-5)
