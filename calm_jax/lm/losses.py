"""Losses: arithmetic on log-probabilities, one value per row.

A margin is beta times what the chosen answer gains more than the rejected one;
a gap is the same per token of either answer, and without beta.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def dpo_loss(margin_B: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
  """The sigmoid loss of DPO (arXiv 2305.18290).

  `label_smoothing` is the assumed chance that a preference is the wrong way
  round (conservative DPO).
  """
  loss_B = -(1 - label_smoothing) * jax.nn.log_sigmoid(margin_B)
  return loss_B - label_smoothing * jax.nn.log_sigmoid(-margin_B)


def robust_loss(margin_B: jax.Array, *, noise: float) -> jax.Array:
  """DPO's loss without the bias of a share `noise` of flipped preferences.

  Its expectation over the noise is the loss of clean pairs (arXiv 2403.00409).
  """
  loss_B = -(1 - noise) * jax.nn.log_sigmoid(margin_B)
  loss_B += noise * jax.nn.log_sigmoid(-margin_B)
  return loss_B / (1 - 2 * noise)


def hinge_loss(margin_B: jax.Array) -> jax.Array:
  """Nothing once the margin is 1 (SLiC, arXiv 2305.10425)."""
  return jax.nn.relu(1 - margin_B)


def ipo_loss(gap_B: jax.Array, *, beta: float) -> jax.Array:
  """Pulls the gap to 1 / (2 beta), and no further (arXiv 2310.12036)."""
  return jnp.square(gap_B - 1 / (2 * beta))


def simpo_loss(gap_B: jax.Array, *, beta: float, gamma: float) -> jax.Array:
  """Wants beta times the gap above `gamma` (arXiv 2405.14734).

  The gap is of the policy alone: there is no reference.
  """
  return -jax.nn.log_sigmoid(beta * gap_B - gamma)


def sft_loss(
    logp_B: jax.Array, tokens_B: jax.Array, weight_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy as a sum and its count: their quotient is a token's mean.

  `logp_B` sums the log-probabilities of a row's `tokens_B` target tokens.
  """
  return -(weight_B * logp_B).sum(), (weight_B * tokens_B).sum()
