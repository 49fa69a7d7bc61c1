"""Several systems in two processes: both run the same stages of the same."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Their store is a folder here, so that they need no jax and take no time.
SCRIPT = """
import contextlib, pathlib, sys, types
from calm_jax import experiment, ledger, settings
from calm_jax.lm import hosts
from configs import tiny

class Folder:
  def __init__(self, path):
    self.path = path
  def key_value_set(self, key, value):
    path = self.path / key.replace('/', '+')
    path.with_suffix('.new').write_text(value)
    path.with_suffix('.new').rename(path)
  def key_value_delete(self, key):
    (self.path / key.replace('/', '+')).unlink()
  def key_value_dir_get(self, folder):
    found = []
    for path in self.path.iterdir():
      if path.suffix != '.new':
        with contextlib.suppress(FileNotFoundError):
          found.append((path.name.replace('+', '/'), path.read_text()))
    return found

folder, index, fails = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def run(name):
  def verb(cfg, workdir):
    stage = f'{workdir.name}/{name}'
    with (folder / f'log{index}').open('a') as f:
      f.write(stage + '\\n')
    if name == 'sample':
      hosts.barrier('in sample')  # both must be here
    if stage == fails:
      raise OSError('the disk is full')
    return {}
  return verb

for name in ('read', 'sample'):
  module = types.ModuleType(f'joint.{name}')
  module.run = run(name)
  sys.modules[f'joint.{name}'] = module
sys.modules['joint'] = types.ModuleType('joint')
settings.problems = lambda cfg: []
settings.check_machine = lambda cfg: None
table = (
    ledger.Stage('read', 'r', needs=(), fields=()),
    ledger.Stage('sample', 's', needs=('read',), fields=('limit',),
                 on_devices=lambda cfg: True),
)
store = Folder(folder / 'store')
hosts._meetings = hosts.Meetings(store, index=index, count=2)
cfg = tiny.get_config()
cfg.systems.update({'a': {}, 'b': {'limit': 9}, 'c': {}})
try:
  experiment.run(cfg, folder / 'run', table=table, package='joint')
except Exception as e:
  sys.exit(f'{type(e).__name__}: {e}')
"""


def run(folder, *, fails='nothing'):
  """Both processes to their ends: what each said last."""
  (folder / 'store').mkdir(exist_ok=True)
  started = [
      subprocess.Popen(
          [sys.executable, '-c', SCRIPT, str(folder), str(index), fails],
          cwd=ROOT,
          env=os.environ | {'PYTHONPATH': str(ROOT)},
          stderr=subprocess.PIPE,
          stdout=subprocess.DEVNULL,
          text=True,
      )
      for index in (0, 1)
  ]
  return [process.communicate(timeout=240)[1] for process in started]


def log(folder, index):
  return (folder / f'log{index}').read_text().split()


def test_systems_are_run_together_and_shared_by_the_leader(tmp_path):
  assert run(tmp_path) == ['', '']
  assert log(tmp_path, 0) == ['a/read', 'a/sample', 'b/sample']
  assert log(tmp_path, 1) == ['a/sample', 'b/sample']
  linked = tmp_path / 'run' / 'systems' / 'c' / 'sample'
  assert os.readlink(linked) == '../a/sample'
  assert (tmp_path / 'run' / 'compare' / 'DONE.json').exists()


@pytest.mark.parametrize('stage', ['a/read', 'b/sample'])
def test_a_failure_ends_both_and_the_run_goes_on(tmp_path, stage):
  first, _ = run(tmp_path, fails=stage)
  assert 'the disk is full' in first
  for path in (tmp_path / 'store').iterdir():
    path.unlink()
  assert run(tmp_path) == ['', '']
  assert log(tmp_path, 0).count('b/sample') == 1 + (stage == 'b/sample')
  assert log(tmp_path, 0).count('a/sample') == 1
