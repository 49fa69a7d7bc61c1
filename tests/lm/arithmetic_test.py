"""Own backward passes against those that JAX makes of the plain formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import arithmetic, attention

EPS = 1e-5


def plain_norm(x, weight):
  mean = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(mean + EPS) * weight[None, None]


def plain_attention(q_BTNH, k_BTKH, v_BTKH, mask_BTS):
  return jax.nn.dot_product_attention(
      q_BTNH, k_BTKH, v_BTKH, mask=mask_BTS[:, None]
  )


CASES = {
    'project': (
        lambda x, w: arithmetic.project(x, w),
        lambda x, w: jnp.einsum('BTD,DNH->BTNH', x, w),
        [(2, 3, 8), (8, 2, 5)],
    ),
    'project_heads': (
        lambda x, w: arithmetic.project(x, w, inputs=2),
        lambda x, w: jnp.einsum('BTNH,NHD->BTD', x, w),
        [(2, 3, 4, 5), (4, 5, 6)],
    ),
    'rms_norm': (
        lambda x, w: arithmetic.rms_norm(x, w, EPS),
        plain_norm,
        [(2, 3, 8), (8,)],
    ),
    'gated': (
        arithmetic.gated,
        lambda gate, up: jax.nn.silu(gate) * up,
        [(2, 3, 8), (2, 3, 8)],
    ),
}


def draw(shapes, seed=0):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes]


def with_gradients(function, arrays):
  """The value, and the gradients of a random mean of it."""

  @jax.jit
  def measure(arrays):
    out, pull = jax.vjp(function, *arrays)
    (weight,) = draw([out.shape], seed=1)
    return [out, *pull(weight)]

  return measure(arrays)


@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients(name):
  ours, plain, shapes = CASES[name]
  arrays = draw(shapes)
  for a, b in zip(
      with_gradients(ours, arrays), with_gradients(plain, arrays), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# One block of queries, several, and more than the most blocks of 64.
@pytest.mark.parametrize('steps', [5, 150, 400])
def test_attention_of_rows(steps):
  shapes = [(2, steps, 4, 8), (2, steps, 2, 8), (2, steps, 2, 8)]
  rng = np.random.default_rng(2)
  causal = np.tril(np.ones((steps, steps), bool))
  seen = rng.random((2, steps, steps)) < 0.7
  mask_BTS = jnp.asarray((causal & seen) | np.eye(steps, dtype=bool))
  ours = lambda q, k, v: attention.over_tokens(q, k, v, mask_BTS)
  plain = lambda q, k, v: plain_attention(q, k, v, mask_BTS)
  arrays = draw(shapes)
  for a, b in zip(
      with_gradients(ours, arrays), with_gradients(plain, arrays), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_factor_keeps_its_dtype_and_its_gradient():
  """Float32 LoRA factors meet bfloat16 activations."""
  x, w = draw([(2, 3, 8), (8, 4)])
  x = x.astype(jnp.bfloat16)
  out, pull = jax.vjp(arithmetic.project, x, w)
  assert out.dtype == jnp.bfloat16
  grad_x, grad_w = pull(out)
  assert (grad_x.dtype, grad_w.dtype) == (jnp.bfloat16, jnp.float32)
  exact = jnp.einsum('BTD,BTR->DR', x, out, preferred_element_type=jnp.float32)
  np.testing.assert_allclose(grad_w, exact, rtol=1e-6)


def _products(function, *arrays):
  """The operands of every matrix product of a gradient's program."""
  text = jax.jit(jax.grad(function)).lower(*arrays).as_text()
  return [line for line in text.splitlines() if 'dot_general' in line]


def test_no_product_mixes_dtypes():
  """A float32 gradient times a bfloat16 weight is the slow way on CPU."""
  x, w = (a.astype(jnp.bfloat16) for a in draw([(2, 3, 8), (8, 4)]))
  found = _products(lambda x: arithmetic.project(x, w).sum().astype(float), x)
  assert found
  for line in found:
    operands = line.split(' : (')[1].split(' -> ')[0]
    assert 'f32' not in operands.replace('bf16', ''), line


def test_a_frozen_weight_gets_no_gradient():
  x, w = draw([(64, 8), (8, 4)])
  text = (
      jax.jit(jax.grad(lambda x: arithmetic.project(x, w).sum()))
      .lower(x)
      .compile()
      .as_text()
  )
  assert 'f32[8,4]' not in [
      line.split(' = ')[-1].split('{')[0]
      for line in text.splitlines()
      if ' dot(' in line
  ]
