"""Tests of the pipeline in two processes: one leads, the other joins in."""

from __future__ import annotations

import json
import signal
import time

import pytest

from calm_jax import guard

ALL = ['run/read', 'run/sample', 'run/vote']


def test_one_leads_and_both_run_what_needs_devices(joint):
  leader, other = joint.run('pipeline')
  assert joint.logs() == [ALL, ['run/sample']]
  assert leader[::2] == (0, '')
  assert other == (0, '', '')
  assert 'a word of 0' in leader[1]
  assert '[3/3] vote' in leader[1]
  done = json.loads((joint.folder / 'run' / 'sample/DONE.json').read_text())
  assert done['counts'] == {'samples': 2}


def test_what_is_done_is_skipped_by_both(joint):
  joint.run('pipeline')
  leader, other = joint.run('pipeline')
  assert joint.logs() == [ALL, ['run/sample']]
  assert 'Nothing to do' in leader[1]
  assert other == (0, '', '')


def test_whether_devices_are_needed_is_asked_of_the_config(joint):
  ended = joint.run('pipeline', limit=0)
  assert [status for status, _, _ in ended] == [0, 0]
  assert joint.logs() == [ALL, []]


@pytest.mark.parametrize('broken', [0, 1])
def test_a_failure_ends_both_and_the_stage_is_not_done(joint, broken):
  (joint.folder / f'fail{broken}').write_text('run/sample')
  ended = joint.run('pipeline')
  assert [status for status, _, _ in ended] == [1, 1]
  assert 'OSError: the disk is full' in ended[broken][2]
  assert f'process {broken} has stopped' in ended[1 - broken][2]
  assert not (joint.folder / 'run' / 'sample' / 'DONE.json').exists()
  assert not (joint.folder / 'run' / 'vote').exists()


def test_a_refusal_ends_both(joint):
  with guard.locked(joint.folder / 'run'):
    leader, other = joint.run('pipeline')
  assert leader[0] == other[0] == 1
  assert 'Refusal' in leader[2]
  assert 'process 0 has stopped' in other[2]
  assert joint.logs() == [[], []]


def test_a_signal_ends_both_although_one_only_waits(joint):
  (joint.folder / 'slow').write_text('run/read')
  processes = joint.start('pipeline')
  deadline = time.monotonic() + 60
  # The one is in its stage, the other has come to wait for its word.
  both = joint.folder / 'log0', joint.folder / 'store' / 'calm_jax+0+1'
  while not all(path.exists() for path in both):
    assert time.monotonic() < deadline
    time.sleep(0.05)
  for process in reversed(processes):
    process.send_signal(signal.SIGTERM)
  leader, other = joint.end(processes)
  assert leader[0] == other[0] == 128 + signal.SIGTERM
  assert leader[1].count('Stopped by SIGTERM') == 1
  assert other[1] == ''
