"""A stage that goes on has the slots it began with."""

from __future__ import annotations

import json

import jax
import pytest

from calm_jax.lm import batching, capacity, memory, sampler, sharding
from tools import benchmark_model

PARTS = [
    [sampler.Request((1,) * 20, (1, 2, 3))] * 30,
    [sampler.Request((1,) * 90, (1, 2, 3))] * 5,
]


@pytest.fixture
def model():
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  return memory.Model(benchmark_model.SHAPES['tiny'], 'float32', mesh)


def settle(folder, model, slots='auto'):
  return batching.settle(folder, model, PARTS, slots=slots, max_new_tokens=16)


def test_the_number_is_recorded_and_used_again(tmp_path, model, monkeypatch):
  first = settle(tmp_path, model)
  assert first.slots == 48
  assert json.loads((tmp_path / 'slots.json').read_text()) == {'slots': 48}
  monkeypatch.setattr(capacity, '_USEFUL_CPU', 12)
  assert settle(tmp_path, model).slots == 48
  assert settle(tmp_path / 'other', model).slots == 12


def test_slots_that_are_asked_for_are_not_recorded(tmp_path, model):
  assert settle(tmp_path, model, 7).slots == 7
  assert not list(tmp_path.iterdir())


def test_what_is_chosen_is_said(tmp_path, model, capsys):
  found = settle(tmp_path, model)
  said = ' '.join(capsys.readouterr().out.split())
  assert '48 slots, 0.0' in said
  assert 'prefill widths 32 96, cache of 128 positions: 7 programs' in said
  assert found.programs == 7  # decoding also in half of the slots


def test_too_little_memory_is_told_before_any_program(
    tmp_path, model, monkeypatch
):
  monkeypatch.setattr(capacity, 'room', lambda mesh: 2**20)
  with pytest.raises(ValueError, match=r'sample\.slots = 512 does not fit'):
    settle(tmp_path, model, 512)


def test_without_a_folder_nothing_is_kept(model):
  assert settle(None, model).slots == 48
