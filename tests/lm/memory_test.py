"""Planned memory against numbers worked by hand, and against XLA's."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from calm_jax.lm import decoder, memory, sharding
from calm_jax.lm import lora as lora_lib
from tools import benchmark_model, memory_table

TINY = benchmark_model.SHAPES['tiny']
LLAMA = benchmark_model.SHAPES['llama3-8b']
LORA = lora_lib.LoraConfig(8, 16.0, ('q_proj', 'v_proj'))
GIB = 2**30


def on(cfg, dtype='float32', mesh=(1, 1, 1)):
  count = mesh[0] * mesh[1] * mesh[2]
  devices = jax.devices()[:count]
  return memory.Model(cfg, dtype, sharding.make_mesh(*mesh, devices=devices))


@pytest.fixture
def accelerator(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')


def test_weights_and_cache_of_a_known_model(accelerator):
  """8.03 billion parameters; 128 KiB of keys and values a position."""
  job = memory.Sampling(256, 1024, 512, prompts=21, width=512)
  programs = memory.sampling_programs(on(LLAMA, 'bfloat16'), job)
  parts = dict(programs['decoding'].parts)
  assert parts['weights'] == 2 * 8_030_261_248
  assert parts['KV cache'] == 256 * 1024 * 128 * 1024
  assert 0.3 * GIB < parts['decoding'] < 0.5 * GIB  # three times the logits


def test_a_mesh_divides_weights_rows_and_heads(accelerator):
  job = memory.Sampling(256, 1024, 512, prompts=21, width=512)
  one = dict(memory.sampling(on(LLAMA, 'bfloat16'), job).parts)
  four = dict(memory.sampling(on(LLAMA, 'bfloat16', (1, 2, 2)), job).parts)
  norms = 2 * 4096 * 65  # whole on every device
  assert four['weights'] - norms == (one['weights'] - norms) // 4
  assert four['KV cache'] == one['KV cache'] // 4


def test_what_training_takes_on_an_accelerator(accelerator):
  """One pair of 1,024 tokens: no need to compute layers twice in 80 GB."""
  job = memory.Training(1, 2, 1024, 512, chunk=256, remat=False)
  once = memory.training(on(LLAMA, 'bfloat16'), job, lora=LORA)
  twice = memory.training(
      on(LLAMA, 'bfloat16'), job._replace(remat=True), lora=LORA
  )
  assert 20 * GIB < once.total < 30 * GIB
  assert 15.5 * GIB < twice.total < 18 * GIB
  adapter = 4 * 32 * 8 * (4096 + 4096 + 4096 + 1024)
  assert dict(once.parts)['adapter and Adam'] == 3 * adapter


def test_an_adapter_that_is_sampled_from_counts_with_the_weights():
  model = on(TINY)
  factors = lora_lib.init(TINY, LORA, jax.random.key(0))
  job = memory.Sampling(8, 128, 16, prompts=1, width=64)
  more = memory.sampling(model, job, lora=factors).weights
  sizes = [x.nbytes for x in jax.tree.leaves(factors)]
  assert more - memory.sampling(model, job).weights == sum(sizes)


def test_more_of_anything_takes_more():
  job = memory.Sampling(8, 128, 16, prompts=1, width=64)
  less = memory.sampling(on(TINY), job).total
  for change in ({'slots': 16}, {'length': 256}, {'max_new_tokens': 64}):
    assert memory.sampling(on(TINY), job._replace(**change)).total > less


def test_the_largest_that_fits():
  assert memory.largest(lambda n: n <= 37, most=100) == 37
  assert memory.largest(lambda n: True, most=100) == 100
  assert memory.largest(lambda n: False, most=100) == 0


def test_a_need_names_its_parts():
  need = memory.Need.of({'weights': 3 * GIB, 'KV cache': GIB // 2})
  assert str(need) == '3.50 GiB (weights 3.00, KV cache 0.50)'


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_sampling_is_as_planned(dtype):
  job = memory.Sampling(24, 256, 64, prompts=2, width=128)
  for row in memory_table.sampling_rows(on(TINY, dtype), job):
    assert row.ratio == pytest.approx(1, abs=0.15), row


@pytest.mark.slow
@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_training_is_as_planned(dtype, remat):
  cfg = dataclasses.replace(TINY, model_dim=128, ffn_dim=384, num_layers=3)
  job = memory.Training(2, 2, 256, 128, chunk=256, remat=remat)
  row = memory_table.training_row(on(cfg, dtype), job, accumulation=2)
  assert row.ratio == pytest.approx(1, abs=0.15), row


def test_layers_that_are_computed_twice_are_not_kept():
  """On CPU too, whose compiler would compute them in advance."""
  cfg = dataclasses.replace(TINY, num_layers=6)
  job = memory.Training(2, 2, 512, 64, chunk=256, remat=False)
  once = memory_table.training_row(on(cfg), job, accumulation=1)
  twice = memory_table.training_row(
      on(cfg), job._replace(remat=True), accumulation=1
  )
  assert twice.compiled < 0.6 * once.compiled


def test_tree_bytes_are_of_one_device():
  model = on(TINY, mesh=(2, 1, 2))
  tree = decoder.abstract(TINY, jnp.float32)
  whole = sum(4 * x.size for x in jax.tree.leaves(tree))
  norms = 4 * 64 * 5
  assert memory.tree_bytes(model.mesh, tree) == (whole - norms) // 2 + norms
