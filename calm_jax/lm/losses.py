"""Losses: arithmetic on log-probabilities, one value per row."""

from __future__ import annotations

import jax


def dpo_loss(
    policy_chosen_B: jax.Array,
    policy_rejected_B: jax.Array,
    ref_chosen_B: jax.Array,
    ref_rejected_B: jax.Array,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """The sigmoid loss of DPO (arXiv 2305.18290) and its margin, per pair.

  `label_smoothing` is the assumed chance that a preference is the wrong way
  round (conservative DPO).
  """
  chosen_B = policy_chosen_B - ref_chosen_B
  rejected_B = policy_rejected_B - ref_rejected_B
  margin_B = beta * (chosen_B - rejected_B)
  loss_B = -(1 - label_smoothing) * jax.nn.log_sigmoid(margin_B)
  loss_B -= label_smoothing * jax.nn.log_sigmoid(-margin_B)
  return loss_B, margin_B


def sft_loss(
    logp_B: jax.Array, tokens_B: jax.Array, weight_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy as a sum and its count: their quotient is a token's mean.

  `logp_B` sums the log-probabilities of a row's `tokens_B` target tokens.
  """
  return -(weight_B * logp_B).sum(), (weight_B * tokens_B).sum()
