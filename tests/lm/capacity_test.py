"""What fits: the choice of slots, and what is said where nothing does."""

from __future__ import annotations

import types

import jax
import pytest

from calm_jax.lm import capacity, memory, sharding

MIB = 2**20


def need(slots):
  """100 MiB of weights, and 1 MiB a slot."""
  return memory.Need.of({'weights': 100 * MIB, 'KV cache': slots * MIB})


def choose(asked, free, *, samples=3, answers=1000, parts=1):
  mesh = sharding.make_mesh(parts, 1, 1, devices=jax.devices()[:parts])
  return capacity.choose_slots(
      asked, need, mesh, samples=samples, answers=answers, free=free
  )


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({}, 48),  # more are of no use on a CPU
        ({'samples': 5}, 45),
        ({'parts': 4}, 48),
        ({'parts': 4, 'samples': 5}, 40),
        ({'answers': 10}, 12),
        ({'free': 20 * MIB}, 15),  # 85 % of 20, by 3
        ({'free': None}, 48),
    ],
)
def test_automatic_slots(changes, expected):
  assert choose('auto', **({'free': 1000 * MIB} | changes)) == expected


def test_on_an_accelerator_each_device_has_its_256(monkeypatch):
  mesh = types.SimpleNamespace(
      shape={'data': 8, 'fsdp': 1, 'tensor': 1},
      devices=types.SimpleNamespace(
          flat=[types.SimpleNamespace(platform='gpu')]
      ),
  )
  slots = capacity.choose_slots(
      'auto', need, mesh, samples=3, answers=10**6, free=10**5 * MIB
  )
  assert slots == 2040  # the multiple of 24 below 2,048


def test_slots_that_are_asked_for_fill_the_mesh():
  assert choose(50, 1000 * MIB) == 50
  assert choose(50, 1000 * MIB, parts=4) == 52
  assert choose(50, None) == 50


def test_too_many_slots_are_an_error_with_the_parts_and_the_largest():
  with pytest.raises(ValueError, match='does not fit') as e:
    choose(512, 200 * MIB)
  assert str(e.value) == (
      'sample.slots = 512 does not fit: a device needs 0.60 GiB (weights 0.10,'
      ' KV cache 0.50) and 0.20 GiB are free beside the weights. The largest'
      ' number that fits is 170'
  )


@pytest.mark.parametrize('asked', ['auto', 4])
def test_where_not_even_one_prompt_fits(asked):
  with pytest.raises(ValueError, match='use more devices'):
    choose(asked, 2 * MIB)


def test_running_out_of_memory_is_explained():
  error = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory\nmore')
  with (
      pytest.raises(ValueError, match='ran out of memory') as e,
      capacity.explained(lambda: need(7), 'Use less'),
  ):
    raise error
  assert 'Out of memory); planned were 0.10 GiB' in str(e.value)
  assert str(e.value).endswith('Use less')


def test_other_errors_are_left_alone():
  with (
      pytest.raises(jax.errors.JaxRuntimeError),
      capacity.explained(lambda: need(7), 'Use less'),
  ):
    raise jax.errors.JaxRuntimeError('INTERNAL: something else')


def test_room_is_that_of_the_fullest_device():
  def device(limit, used):
    stats = {'bytes_limit': limit, 'bytes_in_use': used}
    return types.SimpleNamespace(memory_stats=lambda: stats, platform='gpu')

  mesh = types.SimpleNamespace(local_devices=[device(90, 10), device(90, 30)])
  assert capacity.room(mesh) == 60


def test_room_is_unknown_where_a_device_tells_nothing():
  silent = types.SimpleNamespace(memory_stats=lambda: None, platform='tpu')
  assert capacity.room(types.SimpleNamespace(local_devices=[silent])) is None


def test_simulated_devices_share_the_machine():
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  free = capacity.room(mesh)
  assert free is not None
  assert MIB < free < 2**50 / jax.local_device_count()
