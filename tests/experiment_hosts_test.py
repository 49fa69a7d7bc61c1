"""Several systems in two processes: both run the same stages of the same."""

from __future__ import annotations

import os

import pytest


def test_systems_are_run_together_and_shared_by_the_leader(joint):
  leader, other = joint.run('experiment')
  assert leader[::2] == other[::2] == (0, '')
  assert joint.logs() == [
      ['a/read', 'a/sample', 'a/vote', 'b/sample', 'b/vote'],
      ['a/sample', 'b/sample'],
  ]
  linked = joint.folder / 'run' / 'systems' / 'c' / 'sample'
  assert os.readlink(linked) == '../a/sample'
  assert (joint.folder / 'run' / 'compare' / 'DONE.json').exists()


@pytest.mark.parametrize('stage', ['a/read', 'b/sample'])
def test_a_failure_ends_both_and_the_run_goes_on(joint, stage):
  (joint.folder / 'fail0').write_text(stage)
  leader, other = joint.run('experiment')
  assert leader[0] == other[0] == 1
  assert 'the disk is full' in leader[2]
  (joint.folder / 'fail0').unlink()
  leader, other = joint.run('experiment')
  assert leader[::2] == other[::2] == (0, '')
  ran = joint.logs()[0]
  assert ran.count('b/sample') == 1 + (stage == 'b/sample')
  assert ran.count('a/sample') == 1
