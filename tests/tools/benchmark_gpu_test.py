"""tools/benchmark_gpu.sh around a stand-in for the benchmark, and a trial."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / 'tools' / 'benchmark_gpu.sh'

# Measures nothing; imports no torch where there is none to be.
STUB = f"""#!/usr/bin/env bash
case "$1" in
  -m)
    echo "$@" >>"$CALLS"
    [[ $* != *"$BROKEN"* ]] || {{ echo boom; exit 3; }}
    for flag; do
      if [[ $flag == --json=* ]]; then
        echo '{{"device": {{"name": "NVIDIA H100 80GB"}}}}' >"${{flag#--json=}}"
      fi
    done ;;
  -c) [[ -n $PEERS ]] ;;
  *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def run(tmp_path):
  def script(broken='nothing is', peers='yes'):
    stub = tmp_path / 'python'
    stub.write_text(STUB)
    stub.chmod(0o755)
    settings = {
        'PYTHON': str(stub),
        'OUT': str(tmp_path / 'out'),
        'CALLS': str(tmp_path / 'calls'),
        'BROKEN': broken,
        'PEERS': peers,
    }
    done = subprocess.run(
        [SCRIPT], env=os.environ | settings, capture_output=True, check=False
    )
    written = list((tmp_path / 'out').glob('*'))
    calls = (tmp_path / 'calls').read_text().splitlines()
    return done.returncode, written, calls

  return script


def test_every_part_ends_in_one_file(run):
  status, (path,), calls = run()
  assert status == 0
  assert re.fullmatch(r'\d{4}-\d\d-\d\d-nvidia-h100-80gb\.json', path.name)
  parts = json.loads(path.read_text())
  assert set(parts) == {'sampling', 'training', 'sampling_hf', 'training_trl'}
  assert len(calls) == 4
  assert all('--shape=llama3-8b' in call for call in calls)
  assert all('--device=gpu' in call for call in calls)


def test_without_torch_there_are_no_peers(run):
  status, (path,), _ = run(peers='')
  assert status == 0
  parts = json.loads(path.read_text())
  assert {name for name, part in parts.items() if 'device' in part} == {
      'sampling',
      'training',
  }
  assert parts['training_trl']['status'] == 0
  assert 'needs datasets, peft' in parts['training_trl']['output']


def test_a_part_that_fails_is_told_and_the_others_go_on(run):
  status, (path,), calls = run(broken='--job=training')
  assert status == 1
  assert len(calls) == 4
  parts = json.loads(path.read_text())
  assert parts['training'] == {'status': 3, 'output': 'boom\n'}
  assert parts['sampling_hf']['device']['name'] == 'NVIDIA H100 80GB'


def test_nothing_measured_is_nothing_written(run):
  status, written, _ = run(broken='--job')
  assert (status, written) == (1, [])


def test_the_limits_of_all_parts_are_under_ten_minutes():
  text = SCRIPT.read_text()
  limits = re.findall(r'^ *part \w+ (\d+) ', text, re.M)
  (killed,) = re.findall(r'--kill-after=(\d+)', text)
  assert len(limits) == 4
  assert sum(map(int, limits)) + 4 * int(killed) < 600


@pytest.mark.slow
def test_a_tiny_trial_on_cpu(tmp_path):
  """With a Python that imports none of its peers."""
  python = tmp_path / 'python'
  python.write_text(
      f'#!/usr/bin/env bash\n[[ $1 != -c ]] && exec {sys.executable} "$@"\n'
  )
  python.chmod(0o755)
  run = tried(tmp_path, python)
  assert set(run) == {'sampling', 'training'}
  for part in run.values():
    assert 0 < part['ours']['roofline'] < 1


@pytest.mark.parity
def test_a_tiny_trial_beside_its_peers(tmp_path):
  pytest.importorskip('torch')
  run = tried(tmp_path, sys.executable)
  assert run['sampling_hf']['ratio'] > 0
  assert run['training_trl']['ratio'] > 0


def tried(folder, python):
  """The parts that were measured in a tiny trial on CPU."""
  settings = {
      'DIMENSIONS': 'tiny',
      'DEVICE': 'cpu',
      'PYTHON': str(python),
      'OUT': str(folder),
      'XLA_FLAGS': '',
      'PYTHONWARNINGS': 'ignore',
  }
  done = subprocess.run(
      [SCRIPT],
      env=os.environ | settings,
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  (path,) = folder.glob('*.json')
  parts = json.loads(path.read_text())
  return {name: part for name, part in parts.items() if 'device' in part}
