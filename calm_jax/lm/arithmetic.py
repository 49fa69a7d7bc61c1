"""The decoder's arithmetic, with backward passes that keep and move less.

JAX's own backward passes multiply bfloat16 weights with float32 gradients,
which is slow, and keep most intermediate values. Axes are named as in
`decoder`; X is any number of leading dimensions, I inputs, O outputs.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp


def project(x: jax.Array, weight: jax.Array, *, inputs: int = 1) -> jax.Array:
  """`x` [X, inputs...] times a weight [inputs..., outputs...], in x's dtype."""
  lead = x.shape[: x.ndim - inputs]
  size = math.prod(weight.shape[:inputs])
  # Plain matrices: else XLA's CPU compiler transposes the weights every time.
  y_XO = _multiply(x.reshape(*lead, size), weight.reshape(size, -1))
  return y_XO.reshape(*lead, *weight.shape[inputs:])


@jax.custom_vjp
def _multiply(x_XI, weight_IO):
  return _dot(x_XI, weight_IO.astype(x_XI.dtype), -1, 0).astype(x_XI.dtype)


def _multiply_forward(x_XI, weight_IO):
  return _multiply(x_XI, weight_IO), (x_XI, weight_IO)


def _multiply_backward(kept, grad_XO):
  x_XI, weight_IO = kept
  lead = tuple(range(x_XI.ndim - 1))
  weight = weight_IO.astype(x_XI.dtype)
  grad_XI = _dot(grad_XO, weight, -1, 1).astype(x_XI.dtype)
  # Of a frozen weight nobody asks for it, and nothing is computed.
  grad_IO = _dot(x_XI, grad_XO, lead, lead).astype(weight_IO.dtype)
  return grad_XI, grad_IO


_multiply.defvjp(_multiply_forward, _multiply_backward)


def _dot(x, y, x_axes, y_axes) -> jax.Array:
  # Without a float32 accumulator a bf16 dot on CPU is 2.5-10 times slower.
  return jnp.tensordot(
      x, y, (x_axes, y_axes), preferred_element_type=jnp.float32
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x_XD: jax.Array, weight_D: jax.Array, eps: float) -> jax.Array:
  return _rms_norm_forward(x_XD, weight_D, eps)[0]


def _rms_norm_forward(x_XD, weight_D, eps):
  scale_X1 = jax.lax.rsqrt(_mean_product(x_XD, x_XD) + eps)
  normed_XD = (x_XD.astype(jnp.float32) * scale_X1).astype(x_XD.dtype)
  return normed_XD * _along(weight_D, x_XD), (x_XD, weight_D, scale_X1)


def _rms_norm_backward(eps, kept, grad_XD):
  del eps
  x_XD, weight_D, scale_X1 = kept
  x32_XD, grad32_XD = (x.astype(jnp.float32) for x in (x_XD, grad_XD))
  inner_XD = grad32_XD * _along(weight_D, x_XD).astype(jnp.float32)
  shift_X1 = jnp.square(scale_X1) * _mean_product(inner_XD, x32_XD)
  back_XD = scale_X1 * (inner_XD - shift_X1 * x32_XD)
  lead = tuple(range(x_XD.ndim - 1))
  grad_D = (grad32_XD * x32_XD * scale_X1).sum(lead)
  return back_XD.astype(x_XD.dtype), grad_D.astype(weight_D.dtype)


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


def _along(weight_D, x_XD) -> jax.Array:
  return jnp.expand_dims(weight_D, range(x_XD.ndim - 1))


def _mean_product(x_XD, y_XD) -> jax.Array:
  # Not a product and a sum, which take ten times as long on CPU.
  x32_XD, y32_XD = (x.astype(jnp.float32) for x in (x_XD, y_XD))
  sum_X = jnp.einsum('...D,...D->...', x32_XD, y32_XD)
  return sum_X[..., None] / x_XD.shape[-1]


@jax.custom_vjp
def gated(gate_XF: jax.Array, up_XF: jax.Array) -> jax.Array:
  """silu(gate) * up."""
  return jax.nn.silu(gate_XF) * up_XF


def _gated_forward(gate_XF, up_XF):
  return gated(gate_XF, up_XF), (gate_XF, up_XF)


def _gated_backward(kept, grad_XF):
  gate_XF, up_XF, grad32_XF = (x.astype(jnp.float32) for x in (*kept, grad_XF))
  # The sigmoid: written as in the forward pass, XLA would keep it from there.
  open_XF = 0.5 + 0.5 * jnp.tanh(0.5 * gate_XF)
  silu_XF = gate_XF * open_XF
  slope_XF = open_XF + silu_XF * (1 - open_XF)
  dtype = grad_XF.dtype
  return (
      (grad32_XF * up_XF * slope_XF).astype(dtype),
      (grad32_XF * silu_XF).astype(dtype),
  )


gated.defvjp(_gated_forward, _gated_backward)
