"""Scores of labels against plain softmax, and their gradient."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import decoder, labels

CFG = decoder.DecoderConfig(
    vocab_size=50,
    num_layers=1,
    model_dim=8,
    ffn_dim=8,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=64,
)


def plain(cfg, params, hidden_BCD, labels_BC):
  logits_BCV = decoder.unembed(cfg, params, hidden_BCD)
  logp_BCV = jax.nn.log_softmax(logits_BCV)
  logp_BC = jnp.take_along_axis(logp_BCV, labels_BC[..., None], -1)[..., 0]
  return logp_BC, logits_BCV.mean(-1)


@pytest.mark.parametrize('tied', [False, True])
@pytest.mark.parametrize('chunk', [3, 7, 100])
def test_scores_and_gradient(tied, chunk):
  cfg = dataclasses.replace(CFG, tied=tied)
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  params = {'embed_VD': draw(50, 8)} if tied else {'head_DV': draw(8, 50)}
  hidden_BCD, factor_BC = draw(2, 7, 8), draw(2, 7)
  labels_BC = jnp.asarray(rng.integers(0, 50, (2, 7)))

  def measure(function):
    def loss(hidden_BCD):
      logp_BC, mean_BC = function(hidden_BCD)
      return (factor_BC * logp_BC).sum(), (logp_BC, mean_BC)

    return jax.jit(jax.grad(loss, has_aux=True))(hidden_BCD)

  ours = measure(
      lambda h: labels.scores(cfg, params, h, labels_BC, chunk=chunk)
  )
  expected = measure(lambda h: plain(cfg, params, h, labels_BC))
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
      ours,
      expected,
  )
