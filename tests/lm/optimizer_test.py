"""Learning rates against numbers worked by hand."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from calm_jax.lm import optimizer as optimizers


@pytest.mark.parametrize(
    ('kind', 'rates'),
    [
        ('cosine', [0, 1, 2, 1, 0]),
        ('linear', [0, 1, 2, 1, 0]),
        ('constant', [0, 1, 2, 2, 2]),
    ],
)
def test_schedules(kind, rates):
  """A warm-up of 2 in 10 steps; the first rate is 0."""
  schedule = optimizers.make_schedule(
      kind, peak=2.0, warmup_ratio=0.15, steps=10
  )
  found = schedule(jnp.array([0, 1, 2, 6, 10]))
  assert found.tolist() == pytest.approx(rates, abs=1e-6)


def test_no_warm_up_starts_at_the_peak():
  schedule = optimizers.make_schedule(
      'cosine', peak=2.0, warmup_ratio=0.0, steps=10
  )
  assert float(schedule(0)) == 2.0


def test_a_quarter_of_a_cosine():
  schedule = optimizers.make_schedule(
      'cosine', peak=1.0, warmup_ratio=0.0, steps=8
  )
  assert float(schedule(2)) == pytest.approx((1 + 2**-0.5) / 2)


def test_gradients_are_clipped_before_adam_sees_them():
  optimizer = optimizers.adamw(
      lambda _: 0.1, b1=0.9, b2=0.999, eps=10.0, weight_decay=0.0, clip_norm=1.0
  )
  params = jnp.zeros(2)
  grads = jnp.array([30.0, 40.0])
  update, _ = optimizer.update(grads, optimizer.init(params), params)
  # Clipped to (0.6, 0.8); Adam's first update is then g / (g + eps).
  expected = [-0.1 * 0.6 / 10.6, -0.1 * 0.8 / 10.8]
  assert update.tolist() == pytest.approx(expected, rel=1e-5)


def test_equal_settings_are_one_object_so_that_programs_are_shared():
  def made(kind, steps):
    schedule = optimizers.make_schedule(
        kind, peak=1e-3, warmup_ratio=0.0, steps=steps
    )
    fixed = {'b1': 0.9, 'b2': 0.999, 'eps': 1e-8}
    return optimizers.adamw(schedule, **fixed, weight_decay=0.0, clip_norm=1.0)

  assert made('cosine', 9) is made('cosine', 9)
  assert made('cosine', 9) is not made('cosine', 8)
  assert made('constant', 9) is made('constant', 8)
