"""The growth of costs, on sizes that take no time."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from calm_jax import records
from tools import cost_growth
from tools import cost_growth_data as data

ROOT = pathlib.Path(__file__).parents[2]
# Questions are so many, samples nine times more.
COUNT = 20


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """A made-up run after all its stages, and what each of them took."""
  folder = tmp_path_factory.mktemp('growth')
  data.write_raw(folder / 'raw', COUNT)
  took = {'read': cost_growth._stage('read', str(folder))}
  run = folder / 'run'
  shutil.copytree(run / 'read', run / 'translate')
  assert data.write_samples(run / 'sample', COUNT) == 9 * COUNT
  data.write_predictions(run / 'evaluate', COUNT)
  for stage in ('vote', 'pair', 'report'):
    took[stage] = cost_growth._stage(stage, str(folder))
  return folder, took


def test_every_stage_did_its_work(root):
  folder, took = root
  assert tuple(took) == cost_growth.STAGES
  for row in took.values():
    assert row['seconds'] > 0
    assert row['memory'] > 10e6
  votes = list(
      records.read_jsonl(folder / 'run' / 'vote' / 'votes.jsonl', records.Vote)
  )
  assert len(votes) == COUNT
  assert sum(v.winner is not None for v in votes) > COUNT // 2
  lines = (folder / 'run' / 'pair' / 'train.jsonl').read_text('utf-8')
  assert lines.count('\n') > COUNT
  assert (folder / 'run' / 'report' / 'report.html').exists()


def test_votes_and_pairs_are_timed_without_their_files(root):
  folder, took = root
  decided = cost_growth.decide(str(folder))
  assert 0 < decided < took['vote']['cpu_seconds'] + took['pair']['cpu_seconds']


def test_a_size_is_the_beginning_of_a_larger_one(tmp_path):
  for name, count in (('small', 3), ('large', 5)):
    data.write_samples(tmp_path / name, count)
  small, large = (
      (tmp_path / name / '00000.jsonl').read_text('utf-8')
      for name in ('small', 'large')
  )
  assert large.startswith(small)


def test_the_middle_of_runs_is_told_with_them():
  runs = [{'n': 9, 'seconds': {'vote': s}} for s in (3.0, 1.0, 2.0)]
  assert cost_growth.middle(runs) == {
      'n': 9,
      'seconds': {'vote': 2.0},
      'runs': runs,
  }


@pytest.mark.slow
def test_it_writes_what_it_measured(tmp_path):
  path = tmp_path / 'growth.json'
  done = subprocess.run(
      [
          *(sys.executable, '-m', 'tools.cost_growth', f'--json={path}'),
          *('--requests=12', '--samples=90', '--repeats=1'),
      ],
      cwd=ROOT,
      env=os.environ | {'XLA_FLAGS': ''},
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  found = json.loads(path.read_text())
  assert [row['requests'] for row in found['sampling']] == [12]
  (row,) = found['stages']
  assert row['samples'] == 90
  assert set(row['seconds']) == set(cost_growth.STAGES)
  assert row['vote_pair_samples_per_second'] > 0
  assert '90 samples' in done.stdout
