"""Plans against numbers worked by hand."""

from __future__ import annotations

import dataclasses

import jax
import pytest

from calm_jax.lm import lora as lora_lib
from calm_jax.lm import memory, planner, sharding
from tools import benchmark_model

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
  programs = planner.sampling_programs(on(LLAMA, 'bfloat16'), job)
  parts = dict(programs['decoding'].parts)
  assert parts['weights'] == 2 * 8_030_261_248
  assert parts['KV cache'] == 256 * 1024 * 128 * 1024
  assert 0.3 * GIB < parts['decoding'] < 0.5 * GIB  # three times the logits


def test_a_mesh_divides_weights_rows_and_heads(accelerator):
  job = memory.Sampling(256, 1024, 512, prompts=21, width=512)
  one = dict(planner.sampling(on(LLAMA, 'bfloat16'), job).parts)
  four = dict(planner.sampling(on(LLAMA, 'bfloat16', (1, 2, 2)), job).parts)
  norms = 2 * 4096 * 65  # whole on every device
  assert four['weights'] - norms == (one['weights'] - norms) // 4
  assert four['KV cache'] == one['KV cache'] // 4


def test_what_training_takes_on_an_accelerator(accelerator):
  """One pair of 1,024 tokens: no need to compute layers twice in 80 GB."""
  job = memory.Training(1, 2, 1024, 512, chunk=256, remat=False)
  once = planner.training(on(LLAMA, 'bfloat16'), job, lora=LORA)
  twice = planner.training(
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
  more = planner.sampling(model, job, lora=factors).weights
  sizes = [x.nbytes for x in jax.tree.leaves(factors)]
  assert more - planner.sampling(model, job).weights == sum(sizes)


def test_more_of_anything_takes_more():
  job = memory.Sampling(8, 128, 16, prompts=1, width=64)
  less = planner.sampling(on(TINY), job).total
  for change in ({'slots': 16}, {'length': 256}, {'max_new_tokens': 64}):
    assert planner.sampling(on(TINY), job._replace(**change)).total > less


def test_a_cpu_copies_values_of_narrow_heads_and_what_is_read_across():
  """What XLA's compiler does not count, and no accelerator has."""
  job = memory.Sampling(96, 1024, 16, prompts=1, width=64)
  parts = dict(planner.sampling_programs(on(TINY), job)['decoding'].parts)
  assert parts['packing'] == 96 * 1024 * 2 * 16 * 4
  wide = dataclasses.replace(TINY, head_dim=64)
  parts = dict(planner.sampling_programs(on(wide), job)['decoding'].parts)
  assert parts['packing'] == 0
  job = memory.Training(2, 2, 64, 256, chunk=128, remat=False)
  step = planner.training_programs(on(TINY), job, lora=LORA)['step']
  assert dict(step.parts)['packing'] == 2 * 128 * 512 * 4 // 2


def test_no_accelerator_copies_them(accelerator):
  job = memory.Sampling(96, 1024, 16, prompts=1, width=64)
  for need in planner.sampling_programs(on(TINY), job).values():
    assert 'packing' not in dict(need.parts)
