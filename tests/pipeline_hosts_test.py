"""Tests of the pipeline in two processes: one leads, the other joins in.

Their store is a folder here, so that they need no jax and take no time.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from calm_jax import guard

ROOT = pathlib.Path(__file__).parent.parent

# A package of fake stages: read and vote need no devices, sample does.
FILES = {
    '__init__.py': """
        import contextlib, os, pathlib, sys, time
        from calm_jax import ledger, pipeline
        from calm_jax.lm import hosts
        from configs import tiny

        def log(workdir, name):
          path = workdir / f'log{hosts.process_index()}'
          with path.open('a') as f:
            f.write(name + '\\n')

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
                # The other process may delete it meanwhile.
                with contextlib.suppress(FileNotFoundError):
                  found.append((path.name.replace('+', '/'), path.read_text()))
            return found

        TABLE = (
            ledger.Stage('read', 'r', needs=(), fields=('limit',)),
            ledger.Stage('sample', 's', needs=('read',), fields=(),
                         on_devices=lambda cfg: cfg.limit > 0),
            ledger.Stage('vote', 'v', needs=('sample',), fields=()),
        )

        def main(folder, index, limit):
          store = Folder(pathlib.Path(folder) / 'store')
          hosts._meetings = hosts.Meetings(store, index=index, count=2)
          cfg = tiny.get_config()
          cfg.model, cfg.limit = str(pathlib.Path(folder) / 'model'), limit
          workdir = pathlib.Path(folder) / 'run'
          try:
            pipeline.run(cfg, workdir, table=TABLE, package='joint')
          except Exception as e:
            sys.exit(f'{type(e).__name__}: {e}')
    """,
    'read.py': """
        import joint, time
        def run(cfg, workdir):
          joint.log(workdir, 'read')
          time.sleep(20 * (workdir.parent / 'slow').exists())
          return {}
    """,
    'sample.py': """
        import joint
        from calm_jax import console
        from calm_jax.lm import hosts
        def run(cfg, workdir):
          joint.log(workdir, 'sample')
          console.say(f'a word of {hosts.process_index()}')
          if not cfg.limit:
            return {}
          # Neither fails before both are here.
          hosts.barrier('in sample')
          if (workdir.parent / f'fail{hosts.process_index()}').exists():
            raise OSError('the disk is full')
          return {'samples': len(hosts.gather('counts'))}
    """,
    'vote.py': """
        import joint
        def run(cfg, workdir):
          assert (workdir / 'sample' / 'DONE.json').exists()
          joint.log(workdir, 'vote')
          return {}
    """,
}


@pytest.fixture
def folder(tmp_path):
  package = tmp_path / 'code' / 'joint'
  package.mkdir(parents=True)
  for name, text in FILES.items():
    (package / name).write_text(textwrap.dedent(text))
  (tmp_path / 'model').mkdir()
  for name in ('config.json', 'model.safetensors', 'tokenizer.json'):
    (tmp_path / 'model' / name).touch()
  (tmp_path / 'store').mkdir()
  return tmp_path


def start(folder, *, limit=4):
  """Both processes, the leader first."""
  path = f'{folder / "code"}{os.pathsep}{ROOT}'
  return [
      subprocess.Popen(
          [
              sys.executable,
              '-c',
              f'import joint; joint.main({str(folder)!r}, {index}, {limit})',
          ],
          env=os.environ | {'PYTHONPATH': path},
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
          text=True,
      )
      for index in range(2)
  ]


def end(processes):
  """The exit status, output and errors of each."""
  try:
    said = [process.communicate(timeout=60) for process in processes]
  finally:
    for process in processes:
      process.kill()
  return [
      (process.returncode, out, err)
      for process, (out, err) in zip(processes, said, strict=True)
  ]


def logs(folder):
  paths = [folder / 'run' / f'log{index}' for index in range(2)]
  return [p.read_text().split() if p.exists() else [] for p in paths]


def test_one_leads_and_both_run_what_needs_devices(folder):
  leader, other = end(start(folder))
  assert logs(folder) == [['read', 'sample', 'vote'], ['sample']]
  assert leader[::2] == (0, '')
  assert other == (0, '', '')
  assert 'a word of 0' in leader[1]
  assert '[3/3] vote' in leader[1]
  done = json.loads((folder / 'run' / 'sample' / 'DONE.json').read_text())
  assert done['counts'] == {'samples': 2}


def test_what_is_done_is_skipped_by_both(folder):
  end(start(folder))
  for path in (folder / 'store').iterdir():
    path.unlink()
  leader, other = end(start(folder))
  assert logs(folder) == [['read', 'sample', 'vote'], ['sample']]
  assert 'Nothing to do' in leader[1]
  assert other == (0, '', '')


def test_whether_devices_are_needed_is_asked_of_the_config(folder):
  ended = end(start(folder, limit=0))
  assert [status for status, _, _ in ended] == [0, 0]
  assert logs(folder) == [['read', 'sample', 'vote'], []]


@pytest.mark.parametrize('broken', [0, 1])
def test_a_failure_ends_both_and_the_stage_is_not_done(folder, broken):
  (folder / f'fail{broken}').touch()
  ended = end(start(folder))
  assert [status for status, _, _ in ended] == [1, 1]
  assert 'OSError: the disk is full' in ended[broken][2]
  assert f'process {broken} has stopped' in ended[1 - broken][2]
  assert not (folder / 'run' / 'sample' / 'DONE.json').exists()
  assert not (folder / 'run' / 'vote').exists()


def test_a_refusal_ends_both(folder):
  with guard.locked(folder / 'run'):
    leader, other = end(start(folder))
  assert leader[0] == other[0] == 1
  assert 'Refusal' in leader[2]
  assert 'process 0 has stopped' in other[2]
  assert logs(folder) == [[], []]


def test_a_signal_ends_both_although_one_only_waits(folder):
  (folder / 'slow').touch()
  processes = start(folder)
  deadline = time.monotonic() + 30
  # The one is in its stage, the other has come to wait for its word.
  both = folder / 'run' / 'log0', folder / 'store' / 'calm_jax+0+1'
  while not all(path.exists() for path in both):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  for process in reversed(processes):
    process.send_signal(signal.SIGTERM)
  leader, other = end(processes)
  assert leader[0] == other[0] == 128 + signal.SIGTERM
  assert leader[1].count('Stopped by SIGTERM') == 1
  assert other[1] == ''
