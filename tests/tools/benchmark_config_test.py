"""A config's settings as flags of the benchmark."""

from __future__ import annotations

from absl import flags
import pytest

from configs import base
from tools import benchmark_config


def parsed(*args):
  values = flags.FlagValues()
  for name in ('model', 'shape', 'dtype'):
    flags.DEFINE_string(name, None, '', flag_values=values)
  for name in ('samples', 'max_new_tokens', 'batch', 'slots'):
    flags.DEFINE_integer(name, 1, '', flag_values=values)
  values(['benchmark', *args])
  return values


@pytest.fixture
def config():
  c = base.get_config()
  c.model, c.sample.m, c.sample.slots = 'folder', 5, 24
  return c


def test_a_config_says_what_is_not_given_by_hand(config):
  values = parsed('--dtype=float32')
  benchmark_config.apply(values, config)
  assert (values.model, values.samples, values.slots) == ('folder', 5, 24)
  assert values.dtype == 'float32'
  assert values.max_new_tokens == config.sample.max_new_tokens


def test_random_weights_take_the_place_of_its_model(config):
  values = parsed('--shape=tiny')
  benchmark_config.apply(values, config)
  assert values.model is None


def test_automatic_slots_are_left_to_the_benchmark(config):
  config.sample.slots = 'auto'
  values = parsed()
  benchmark_config.apply(values, config)
  assert values.slots == 1
