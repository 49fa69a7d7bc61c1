"""The planner against processes that run; workspace_test against XLA's word."""

from __future__ import annotations

import pathlib

import pytest

from calm_jax.lm import memory
from tools import memory_table


def test_every_program_of_every_model_is_a_task():
  found = list(memory_table.tasks(['tiny'], ['float32'], memory_table.KINDS, 1))
  assert len(found) == len(set(found)) == 3 + 3 + 6 + 6
  assert {task.layers for task in found} == {1}
  assert [task.job.remat for task in found[-2:]] == [False, True]


def test_a_ratio_is_of_the_best_that_is_known():
  row = memory_table.Row('x', planned=30, packing=10, compiled=20)
  assert row.ratio == 1.0
  assert row._replace(resident=60).ratio == 0.5


@pytest.mark.slow
@pytest.mark.skipif(
    not pathlib.Path('/proc/self/clear_refs').exists(),
    reason='needs the peak that Linux keeps',
)
def test_a_process_takes_what_is_planned():
  jobs = {
      'decode': memory.Sampling(96, 1024, 128, 8, 512),
      'prefill': memory.Sampling(96, 1024, 128, 8, 512),
      'train': memory.Training(1, 1, 1024, 512, 256, remat=True),
  }
  tasks = [
      memory_table.Task('tiny', 0, 'float32', kind, job)
      for kind, job in jobs.items()
  ]
  for row in memory_table.rows(tasks, measure=True):
    assert row.resident
    assert row.ratio == pytest.approx(1, abs=0.15), row
    # What XLA counts is not all of it.
    assert row.resident > 1.05 * row.compiled
