"""What programs take beside their arguments, against what XLA says."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from calm_jax.lm import memory, sharding
from tools import benchmark_model, memory_programs, memory_table

TINY = benchmark_model.SHAPES['tiny']


def on(cfg, dtype='float32'):
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  return memory.Model(cfg, dtype, mesh)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('kind', ['decode', 'prefill'])
def test_sampling_is_as_planned(kind, dtype):
  job = memory.Sampling(24, 256, 64, prompts=2, width=128)
  row = memory_table.row(memory_programs.of(kind, on(TINY, dtype), job))
  assert row.ratio == pytest.approx(1, abs=0.15), row


@pytest.mark.slow
@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('kind', ['train', 'packed'])
def test_training_is_as_planned(kind, dtype, remat):
  cfg = dataclasses.replace(TINY, model_dim=128, ffn_dim=384, num_layers=3)
  job = memory.Training(2, 2, 256, 128, chunk=256, remat=remat)
  row = memory_table.row(memory_programs.of(kind, on(cfg, dtype), job))
  assert row.ratio == pytest.approx(1, abs=0.15), row


def test_layers_that_are_computed_twice_are_not_kept():
  """On CPU too, whose compiler would compute them in advance."""
  cfg = dataclasses.replace(TINY, num_layers=6)
  job = memory.Training(2, 2, 512, 64, chunk=256, remat=False)
  once, twice = (
      memory_table.row(
          memory_programs.train(
              on(cfg), job._replace(remat=again), accumulation=1
          )
      )
      for again in (False, True)
  )
  assert twice.compiled < 0.6 * once.compiled
