"""An experiment that is killed goes on, and ends as if it had not been."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parent.parent
PATIENCE = 900  # seconds; the core may be busy
CONFIG = """
from configs import tiny

def get_config():
  c = tiny.get_config()
  c.sample.shard = 2
  c.train.epochs = 10  # enough to be killed between two steps
  c.train.eval_every = 4
  # So that both systems run the same programs.
  c.train.schedule, c.train.warmup_ratio = 'constant', 0.0
  c.systems.update({
      'base': {'train': {'method': 'none'}},
      'all': {},
      'few': {'pair': {'cap': 1}},
  })
  return c
"""
SHARED = ('read', 'translate', 'sample', 'vote')
TRAINED = ('all', 'few')


@pytest.fixture(scope='module')
def start(tiny_model, tmp_path_factory):
  """Starts the experiment in a process of its own."""
  folder = tmp_path_factory.mktemp('experiment')
  (folder / 'config.py').write_text(CONFIG)
  environment = os.environ | {
      'XLA_FLAGS': os.environ['XLA_FLAGS'].replace('count=4', 'count=1'),
      'JAX_PLATFORMS': 'cpu',
      'XDG_CACHE_HOME': str(folder),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }

  def started(workdir):
    command = [
        sys.executable,
        '-m',
        'calm_jax.main',
        f'--config={folder / "config.py"}',
        f'--config.model={tiny_model}',
        f'--workdir={workdir}',
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

  return started


@pytest.fixture(scope='module')
def undisturbed(start, tmp_path_factory):
  folder = tmp_path_factory.mktemp('undisturbed')
  finish(start(folder))
  return folder


def finish(process):
  out, err = process.communicate(timeout=PATIENCE)
  assert process.returncode == 0, (out, err)
  return out


def kill_once_there(process, path):
  """Leaves the process no time to say or save anything."""
  deadline = time.monotonic() + PATIENCE
  while not (path.exists() and path.read_text('utf-8')):
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.005)
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  folder = path.parent
  assert (folder / 'PENDING.json').exists()
  assert not (folder / 'DONE.json').exists()


def results(workdir):
  """All that a reader of the comparison is told, and what it came from."""
  names = ['compare/table.csv', 'compare/scores.jsonl', 'compare/mcnemar.jsonl']
  for system in TRAINED:
    names.append(f'systems/{system}/align/adapter/adapter_model.safetensors')
  return {name: (workdir / name).read_bytes() for name in names}


def steps(workdir, system):
  path = workdir / 'systems' / system / 'align' / 'metrics.jsonl'
  rows = map(json.loads, path.read_text('utf-8').splitlines())
  return [(row['step'], row['split'], row['loss']) for row in rows]


def test_killed_while_sampling_and_while_training(start, undisturbed, tmp_path):
  first, second = (tmp_path / 'systems' / name for name in TRAINED)
  shard = first / 'sample' / '00000.jsonl'
  kill_once_there(start(tmp_path), shard)
  kept = [shard, tmp_path / 'systems' / 'base' / 'evaluate' / 'DONE.json']
  before = [path.stat().st_mtime_ns for path in kept]

  kill_once_there(start(tmp_path), second / 'align' / 'metrics.jsonl')
  assert [path.stat().st_mtime_ns for path in kept] == before
  assert not (tmp_path / 'compare').exists()
  assert len(steps(tmp_path, 'few')) < len(steps(undisturbed, 'few'))

  said = finish(start(tmp_path))
  assert 'align: a LoRA adapter' in said
  assert 'going on from before' in said
  assert [path.stat().st_mtime_ns for path in kept] == before
  for name in SHARED:
    assert (second / name).resolve() == (first / name).resolve()
  for system in TRAINED:
    assert steps(tmp_path, system) == steps(undisturbed, system)
  assert results(tmp_path) == results(undisturbed)
  assert not list(tmp_path.rglob('PENDING.json'))
