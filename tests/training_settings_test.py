"""How the settings of training become rows, steps and memory."""

from __future__ import annotations

import jax
import pytest

from calm_jax import training_settings
from calm_jax.lm import batches, capacity, memory, sharding
from calm_jax.lm import lora as lora_lib
from configs import base
from tools import benchmark_model

LORA = lora_lib.LoraConfig(8, 16.0, ('q_proj', 'v_proj'))


def arranged(monkeypatch, free=None, before=None, **train):
  monkeypatch.setattr(capacity, 'room', lambda mesh: free)
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  shape = benchmark_model.SHAPES['smollm2-135m']
  cfg = base.get_config()
  cfg.train.update(train)
  sizes = [(20 + 5 * (i % 9), 20 + i % 41, 20 + i % 37) for i in range(64)]
  row = lambda p, c, r: batches.Row((1,) * p, ((2,) * c, (3,) * r))
  rows = [row(*size) for size in sizes]
  return training_settings.arrange(
      cfg,
      memory.Model(shape, 'float32', mesh),
      {'train': rows, 'val': rows},
      LORA,
      before=before,
  )


def test_packed_rows_are_validated_alone(monkeypatch):
  """So their length is not that of all rows of a validation batch."""
  many = {'eval_batch_size': 64}
  alone = arranged(monkeypatch, packing=0, **many)
  packed = arranged(monkeypatch, packing=1024, **many)
  assert packed.plan.capacity == 1024
  assert packed.need.total < 1.25 * alone.need.total


@pytest.mark.parametrize(
    ('remat', 'where_tight'), [('none', 0), ('auto', 0), ('full', 384)]
)
def test_rows_are_packed_where_there_is_room(monkeypatch, remat, where_tight):
  roomy = arranged(monkeypatch, free=2**34, remat=remat)
  tight = 1.2 * (
      arranged(monkeypatch, packing=0, remat=remat).need.total
      - roomy.need.weights
  )
  assert roomy.plan.capacity == 384
  there = arranged(monkeypatch, free=int(tight), remat=remat)
  assert there.plan.capacity == where_tight


def test_what_was_chosen_before_is_kept_where_it_fits(monkeypatch):
  """Whatever would be chosen now: with less memory free, or with more."""
  roomy = arranged(monkeypatch, free=2**34)
  free = int(1.05 * (roomy.need.total - roomy.need.weights))
  tight = arranged(monkeypatch, free=free)
  assert roomy.choice != tight.choice  # 1.05 is not safely
  kept = arranged(monkeypatch, free=free, before=roomy.choice)
  assert kept.choice == roomy.choice
  kept = arranged(monkeypatch, free=2**34, before=tight.choice)
  assert kept.choice == tight.choice
  kept = arranged(monkeypatch, free=int(0.9 * free), before=roomy.choice)
  assert kept.choice != roomy.choice
