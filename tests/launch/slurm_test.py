"""Tests of slurm.sh with stand-ins; those of srun start real processes."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Two tasks, as on two nodes: the first is process 0.
SRUN = """
printf '%s\\n' "$SRUN_CPUS_PER_TASK" >"$STUBS/cpus"
while [[ $1 == --* ]]; do shift; done
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=localhost SLURM_LOCALID=0
pids=()
for i in 0 1; do
  SLURM_PROCID=$i "$@" >"$STUBS/out$i" 2>"$STUBS/err$i" &
  pids+=($!)
  echo $! >"$STUBS/pid$i"
done
status=0
for pid in "${pids[@]}"; do
  wait "$pid"
  one=$?
  ((one > status)) && status=$one
done
exit "$status"
"""
SCANCEL = 'kill -TERM "$(cat "$STUBS/pid0")" "$(cat "$STUBS/pid1")"'
SCONTROL = 'echo "$@" >>"$STUBS/scontrol.log"'

# In place of Python: ends with a status, or waits for SIGTERM to do so.
PYTHON = """
trap 'exit $AT_SIGTERM' TERM
echo "$@"
touch "$STUBS/started$SLURM_PROCID"
if [[ $AT_ONCE ]]; then
  exit "$AT_ONCE"
fi
sleep 60 &
wait
"""


@pytest.fixture
def slurm(stubs, stub, environment):
  """The environment of a batch script, and a stub for every command."""
  stub(stubs, 'srun', SRUN)
  stub(stubs, 'scancel', SCANCEL)
  stub(stubs, 'scontrol', SCONTROL)
  return environment(
      SLURM_JOB_ID=str(free_job_id()),
      SLURM_GPUS_ON_NODE='4',
      SLURM_CPUS_PER_TASK='3',
      JAX_PLATFORMS='cpu',
      PYTHON=stub(stubs, 'fake_python', PYTHON),
      AT_SIGTERM='143',
      AT_ONCE='',
  )


def free_job_id():
  """A job whose port, which JAX makes of its number, is free."""
  for number in range(4096):
    with socket.socket() as s:
      try:
        s.bind(('localhost', 61440 + number))
        return number
      except OSError:
        continue
  raise AssertionError('no free port')


@pytest.fixture
def batch(slurm, stubs, wait_for):
  """Starts the script; returns once both of its tasks are running."""

  def start(**variables):
    process = subprocess.Popen(
        [ROOT / 'launch' / 'slurm.sh'],
        cwd=ROOT,
        env=slurm | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(stubs / 'started0', stubs / 'started1', stubs / 'pid1')
    return process

  return start


def requeued(slurm):
  path = pathlib.Path(slurm['STUBS']) / 'scontrol.log'
  return path.read_text() if path.exists() else ''


def signal_tasks(slurm):
  for index in range(2):
    pid = int((pathlib.Path(slurm['STUBS']) / f'pid{index}').read_text())
    os.kill(pid, signal.SIGTERM)


def test_slurm_passes_on_what_the_processes_need(slurm, stubs, launch):
  done = launch('slurm.sh', '--workdir=a b', env=slurm | {'AT_ONCE': '0'})
  assert done.returncode == 0, done.stderr
  for index in range(2):
    said = (stubs / f'out{index}').read_text()
    assert said == '-m calm_jax.main --workdir=a b --coordinator=auto\n'
  assert (stubs / 'cpus').read_text() == '3\n'
  assert requeued(slurm) == ''


def test_slurm_asks_for_sbatch(slurm, launch):
  del slurm['SLURM_JOB_ID']
  done = launch('slurm.sh', env=slurm)
  assert done.returncode == 1
  assert 'submit this script with sbatch' in done.stderr


# A task that is killed in a collective cannot choose its status.
@pytest.mark.parametrize('status', ['143', '137'])
def test_a_slurm_job_that_runs_out_of_time_comes_back(slurm, batch, status):
  process = batch(AT_SIGTERM=status)
  process.send_signal(signal.SIGUSR1)
  said, _ = process.communicate(timeout=30)
  assert process.returncode == int(status), said
  assert requeued(slurm) == f'requeue {slurm["SLURM_JOB_ID"]}\n'


def test_a_preempted_slurm_job_comes_back(slurm, batch):
  process = batch()
  signal_tasks(slurm)
  process.communicate(timeout=30)
  assert process.returncode == 143
  assert requeued(slurm) == f'requeue {slurm["SLURM_JOB_ID"]}\n'


def test_a_cancelled_slurm_job_does_not_come_back(slurm, batch):
  process = batch()
  process.terminate()
  process.wait(30)
  signal_tasks(slurm)
  process.communicate(timeout=30)
  assert requeued(slurm) == ''


@pytest.mark.parametrize('status', ['1', '137'])
def test_a_slurm_job_that_fails_does_not_come_back(slurm, launch, status):
  done = launch('slurm.sh', env=slurm | {'AT_ONCE': status})
  assert done.returncode == int(status)
  assert requeued(slurm) == ''


def test_a_slurm_job_that_ends_in_time_does_not_come_back(slurm, batch):
  process = batch(AT_SIGTERM='0')
  process.send_signal(signal.SIGUSR1)
  process.communicate(timeout=30)
  assert process.returncode == 0
  assert requeued(slurm) == ''


def test_a_slurm_job_does_not_come_back_for_ever(slurm, batch):
  process = batch(SLURM_RESTART_COUNT='50')
  process.send_signal(signal.SIGUSR1)
  said, _ = process.communicate(timeout=30)
  assert process.returncode == 143
  assert 'after 50 restarts' in said
  assert requeued(slurm) == ''


PSUM = """
import json, os, sys
from calm_jax.lm import hosts
hosts.connect('auto')
import jax
from jax.experimental import multihost_utils
own = jax.numpy.float32(hosts.process_index() + 1)
total = multihost_utils.process_allgather(own).sum()
print(json.dumps({
    'process': [hosts.process_index(), hosts.process_count()],
    'sum': float(total),
    'gpus': os.environ['JAX_LOCAL_DEVICE_IDS'],
    'arguments': sys.argv[1:],
}), file=sys.stderr)
"""


@pytest.mark.slow
def test_processes_that_slurm_starts_compute_together(
    slurm, stubs, stub, launch
):
  (stubs / 'psum.py').write_text(PSUM)
  python = f'PYTHONPATH={ROOT} exec {sys.executable} {stubs}/psum.py "$@"'
  slurm |= {'PYTHON': stub(stubs, 'python_psum', python)}
  done = launch('slurm.sh', '--stages=read', env=slurm)
  said = [(stubs / f'err{index}').read_text() for index in range(2)]
  assert done.returncode == 0, said
  for index in range(2):
    assert json.loads(said[index].splitlines()[-1]) == {
        'process': [index, 2],
        'sum': 3.0,
        'gpus': '0,1,2,3',
        'arguments': [
            '-m',
            'calm_jax.main',
            '--stages=read',
            '--coordinator=auto',
        ],
    }


@pytest.mark.slow
def test_slurm_runs_all_stages_in_two_real_processes(
    slurm, stubs, launch, tmp_path, tiny_model
):
  quick = (
      '--xla_backend_optimization_level=0'
      ' --xla_llvm_disable_expensive_passes=true'
  )
  done = launch(
      'slurm.sh',
      '--config=configs/tiny.py',
      f'--config.model={tiny_model}',
      f'--workdir={tmp_path / "run"}',
      env=slurm | {'PYTHON': sys.executable, 'XLA_FLAGS': quick},
      timeout=900,
  )
  outputs = [(stubs / f'out{index}').read_text() for index in range(2)]
  errors = [(stubs / f'err{index}').read_text() for index in range(2)]
  assert done.returncode == 0, errors
  assert '[8/8] report' in outputs[0]
  assert '2 shards for 2 processes' in outputs[0]
  # The line that is there is a library's, of how devices talk.
  assert [x for x in outputs[1].splitlines() if x[:6] != '[Gloo]'] == []
  for stage in ('sample', 'align', 'evaluate', 'report'):
    assert (tmp_path / 'run' / stage / 'DONE.json').exists()
