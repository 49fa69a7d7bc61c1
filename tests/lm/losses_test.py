"""Losses against numbers worked by hand."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import losses


def _dpo(margins, **options):
  margin_B = jnp.asarray(margins, jnp.float32)
  zero_B = jnp.zeros_like(margin_B)
  # Chosen gains 2 x, rejected gains x, the reference is off by 3 on both.
  return losses.dpo_loss(
      2 * margin_B + 3, margin_B + 3, zero_B + 3, zero_B + 3, **options
  )


def test_dpo_of_margins_0_and_1():
  loss_B, margin_B = _dpo([0.0, 10.0], beta=0.1)
  np.testing.assert_allclose(margin_B, [0, 1], atol=1e-6)
  expected = [math.log(2), math.log(1 + math.exp(-1))]
  np.testing.assert_allclose(loss_B, expected, rtol=1e-6)


def test_dpo_prefers_the_chosen_side():
  right, wrong = _dpo([5.0, -5.0], beta=0.2)[0]
  assert right < math.log(2) < wrong


def test_label_smoothing_mixes_both_directions():
  expected = 0.9 * math.log1p(math.exp(-1)) + 0.1 * math.log1p(math.e)
  loss_B, _ = _dpo([2.0], beta=0.5, label_smoothing=0.1)
  assert float(loss_B[0]) == pytest.approx(expected, rel=1e-6)


def test_dpo_stays_finite_far_out():
  loss_B, _ = _dpo([1e4, -1e4], beta=1.0)
  np.testing.assert_allclose(loss_B, [0, 1e4])


def test_sft_is_a_mean_over_tokens_not_rows():
  total, count = losses.sft_loss(
      jnp.array([-4.0, -9.0, -100.0]),
      jnp.array([1.0, 3.0, 5.0]),
      jnp.array([1.0, 1.0, 0.0]),
  )
  assert (float(total), float(count)) == (13.0, 4.0)
