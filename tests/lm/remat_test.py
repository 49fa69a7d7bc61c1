"""Layers are computed twice only where memory asks for it."""

from __future__ import annotations

import jax
import pytest

from calm_jax.lm import capacity, memory, planner, remat, sharding
from calm_jax.lm import lora as lora_lib
from tools import benchmark_model

LORA = lora_lib.LoraConfig(8, 16.0, ('q_proj', 'v_proj'))
JOB = memory.Training(4, 8, 640, 256, chunk=256, remat=False)


@pytest.fixture
def model():
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  return memory.Model(benchmark_model.SHAPES['smollm2-135m'], 'float32', mesh)


def beside(model, remat, **changes):
  """What a job takes beside the weights."""
  job = JOB._replace(remat=remat, **changes)
  need = planner.training(model, job, lora=LORA)
  return need.total - need.weights


def choose(model, free, asked='auto'):
  return remat.choose(model, JOB, asked=asked, lora=LORA, free=free)


def test_memory_decides(model):
  none, full = beside(model, False), beside(model, True)
  assert full < none / 2
  assert not choose(model, 2 * none)
  assert choose(model, none)  # not safely once
  assert choose(model, full + 1)
  assert not choose(model, None)


def test_what_is_asked_for_is_done(model):
  none, full = beside(model, False), beside(model, True)
  assert choose(model, 2 * none, 'full')
  assert not choose(model, none + 1, 'none')
  with pytest.raises(ValueError, match=r'fits with train\.remat=auto or full'):
    choose(model, 2 * full, 'none')


def test_the_largest_batch_that_fits_is_named(model):
  one = beside(model, True, rows=2, eval_rows=2)
  with pytest.raises(ValueError, match=r'rows of 640 tokens') as e:
    choose(model, int(one / 0.85) + 1)
  assert str(e.value).endswith('train.eval_batch_size that fit are 2')


@pytest.mark.parametrize(('asked', 'twice'), [('none', False), ('full', True)])
def test_the_need_is_that_of_what_is_asked_for(model, asked, twice):
  one = beside(model, True, rows=2, eval_rows=2)
  with pytest.raises(ValueError, match='needs') as e:
    choose(model, int(one / 0.85) + 1, asked)
  need = planner.training(model, JOB._replace(remat=twice), lora=LORA)
  assert f'needs {need},' in str(e.value)
  also = '' if twice else ', with train.remat=auto or full'
  assert str(e.value).endswith(f'that fit are 2{also}')


def test_or_the_longest_row(model):
  row = beside(model, True, rows=1, eval_rows=1, length=320)
  with pytest.raises(ValueError, match='One row fits with up to 320 tokens'):
    choose(model, int(row / 0.85) + 1)


def test_or_that_nothing_does(model):
  with pytest.raises(ValueError, match='Not even a row of 64 tokens'):
    choose(model, 2**20)


def test_what_is_chosen_is_said(model, monkeypatch, capsys):
  monkeypatch.setattr(capacity, 'room', lambda mesh: 2**40)
  job = memory.Training(1, 2, 224, 128, chunk=256, remat=False)
  twice, need = remat.settle(model, job, asked='auto', lora=LORA)
  assert not twice
  assert 'computed once: rows of 224 tokens' in capsys.readouterr().out
  assert need == planner.training(model, job, lora=LORA)


def test_a_job_may_fit_without(model, monkeypatch):
  none = beside(model, False)
  for free, fits in ((None, True), (2 * none, True), (none, False)):
    monkeypatch.setattr(capacity, 'room', lambda mesh, free=free: free)
    assert remat.fits(model, JOB, asked='auto', lora=LORA) == fits


def test_the_sequences_of_a_row_take_as_much_as_rows(
    model, monkeypatch, capsys
):
  free = 2**40
  monkeypatch.setattr(capacity, 'room', lambda mesh: free)
  job = memory.Training(1, 2, 192, 96, chunk=256, remat=False, sequences=2)
  settle = lambda: remat.settle(model, job, asked='auto', lora=LORA)
  _, need = settle()
  assert 'once: pairs of 2 rows of 192 tokens' in capsys.readouterr().out
  rows = memory.Training(2, 4, 192, 96, chunk=256, remat=False)
  assert need == planner.training(model, rows, lora=LORA)
  free = beside(model, True, rows=2, eval_rows=2, length=64, completion=96)
  free = int(free / 0.85) + 1
  with pytest.raises(ValueError, match='One pair fits with up to 64 tokens'):
    settle()
