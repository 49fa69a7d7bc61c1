"""Losses against numbers worked by hand."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import losses

RIGHT, WRONG = math.log1p(math.exp(-1)), math.log1p(math.e)  # margins 1, -1


def _array(*values):
  return jnp.asarray(values, jnp.float32)


def test_dpo_of_margins_0_and_1():
  loss_B = losses.dpo_loss(_array(0, 1, -1))
  np.testing.assert_allclose(loss_B, [math.log(2), RIGHT, WRONG], rtol=1e-6)


def test_label_smoothing_mixes_both_directions():
  loss_B = losses.dpo_loss(_array(1), label_smoothing=0.1)
  np.testing.assert_allclose(loss_B, [0.9 * RIGHT + 0.1 * WRONG], rtol=1e-6)


def test_dpo_stays_finite_far_out():
  np.testing.assert_allclose(losses.dpo_loss(_array(1e4, -1e4)), [0, 1e4])


def test_robust_takes_the_noise_out_of_the_mean():
  loss_B = losses.robust_loss(_array(1, -1), noise=0.25)
  expected = [1.5 * RIGHT - 0.5 * WRONG, 1.5 * WRONG - 0.5 * RIGHT]
  np.testing.assert_allclose(loss_B, expected, rtol=1e-6)
  # Three of four pairs are right: on average the loss of a clean pair.
  noisy = 0.75 * loss_B[0] + 0.25 * loss_B[1]
  assert float(noisy) == pytest.approx(RIGHT, rel=1e-6)


def test_hinge_ends_at_a_margin_of_1():
  loss_B = losses.hinge_loss(_array(-1, 0.25, 1, 7))
  np.testing.assert_allclose(loss_B, [2, 0.75, 0, 0])


def test_ipo_aims_at_one_gap_from_both_sides():
  loss_B = losses.ipo_loss(_array(0, 5, 8), beta=0.1)
  np.testing.assert_allclose(loss_B, [25, 0, 9], atol=1e-5)


def test_simpo_asks_for_gamma():
  loss_B = losses.simpo_loss(_array(0.25, 0.75), beta=2.0, gamma=0.5)
  np.testing.assert_allclose(loss_B, [math.log(2), RIGHT], rtol=1e-6)


def test_sft_is_a_mean_over_tokens_not_rows():
  total, count = losses.sft_loss(
      jnp.array([-4.0, -9.0, -100.0]),
      jnp.array([1.0, 3.0, 5.0]),
      jnp.array([1.0, 1.0, 0.0]),
  )
  assert (float(total), float(count)) == (13.0, 4.0)
