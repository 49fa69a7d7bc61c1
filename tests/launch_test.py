"""Tests of the launch scripts, with stand-ins for the clusters' commands."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
LAUNCH = ROOT / 'launch'
SCRIPTS = sorted(path.name for path in LAUNCH.glob('*.sh'))

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
def stubs(tmp_path):
  folder = tmp_path / 'stubs'
  folder.mkdir()
  return folder


def stub(stubs, name, text):
  path = stubs / name
  path.write_text(f'#!/usr/bin/env bash\n{text.strip()}\n')
  path.chmod(0o755)
  return str(path)


def environment(stubs, **variables):
  """The environment of a script, with the stubs before all else."""
  path = f'{stubs}{os.pathsep}{os.environ["PATH"]}'
  kept = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  return kept | {'PATH': path, 'STUBS': str(stubs)} | variables


def launch(script, *arguments, env):
  return subprocess.run(
      [LAUNCH / script, *arguments],
      cwd=ROOT,
      env=env,
      capture_output=True,
      text=True,
      timeout=150,
      check=False,
  )


def wait_for(*paths):
  deadline = time.monotonic() + 30
  while not all(path.exists() for path in paths):
    assert time.monotonic() < deadline, paths
    time.sleep(0.02)


@pytest.mark.parametrize('name', SCRIPTS)
def test_every_script_says_what_it_takes(name):
  text = (LAUNCH / name).read_text()
  header = text[: text.index('set -euo pipefail')]
  for word in (f'launch/{name}', '--workdir=', 'Costs ', 'Writes ', 'Stop '):
    assert word in header
  assert f'({name})' in (LAUNCH / 'README.md').read_text()


@pytest.mark.parametrize('name', SCRIPTS)
def test_shellcheck_finds_nothing(name):
  if shutil.which('shellcheck') is None:
    pytest.skip('shellcheck is not installed')
  done = subprocess.run(
      ['shellcheck', LAUNCH / name], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stdout


@pytest.fixture
def slurm(stubs):
  """The environment of a batch script, and a stub for every command."""
  stub(stubs, 'srun', SRUN)
  stub(stubs, 'scancel', SCANCEL)
  stub(stubs, 'scontrol', SCONTROL)
  return environment(
      stubs,
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


def batch(slurm, *arguments):
  """A batch script that is running, once both of its tasks are."""
  stubs = pathlib.Path(slurm['STUBS'])
  process = subprocess.Popen(
      [LAUNCH / 'slurm.sh', *arguments],
      cwd=ROOT,
      env=slurm,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
  )
  wait_for(stubs / 'started0', stubs / 'started1', stubs / 'pid1')
  return process


def requeued(slurm):
  path = pathlib.Path(slurm['STUBS']) / 'scontrol.log'
  return path.read_text() if path.exists() else ''


def signal_tasks(slurm):
  for index in range(2):
    pid = int((pathlib.Path(slurm['STUBS']) / f'pid{index}').read_text())
    os.kill(pid, signal.SIGTERM)


def test_slurm_passes_on_what_the_processes_need(slurm, stubs):
  done = launch('slurm.sh', '--workdir=a b', env=slurm | {'AT_ONCE': '0'})
  assert done.returncode == 0, done.stderr
  for index in range(2):
    said = (stubs / f'out{index}').read_text()
    assert said == '-m calm_jax.main --workdir=a b --coordinator=auto\n'
  assert (stubs / 'cpus').read_text() == '3\n'
  assert requeued(slurm) == ''


def test_slurm_asks_for_sbatch(slurm):
  del slurm['SLURM_JOB_ID']
  done = launch('slurm.sh', env=slurm)
  assert done.returncode == 1
  assert 'submit this script with sbatch' in done.stderr


# A task that is killed in a collective cannot choose its status.
@pytest.mark.parametrize('status', ['143', '137'])
def test_a_slurm_job_that_runs_out_of_time_comes_back(slurm, status):
  process = batch(slurm | {'AT_SIGTERM': status})
  process.send_signal(signal.SIGUSR1)
  said, _ = process.communicate(timeout=30)
  assert process.returncode == int(status), said
  assert requeued(slurm) == f'requeue {slurm["SLURM_JOB_ID"]}\n'


def test_a_preempted_slurm_job_comes_back(slurm):
  process = batch(slurm)
  signal_tasks(slurm)
  process.communicate(timeout=30)
  assert process.returncode == 143
  assert requeued(slurm) == f'requeue {slurm["SLURM_JOB_ID"]}\n'


def test_a_cancelled_slurm_job_does_not_come_back(slurm):
  process = batch(slurm)
  process.terminate()
  process.wait(30)
  signal_tasks(slurm)
  process.communicate(timeout=30)
  assert requeued(slurm) == ''


@pytest.mark.parametrize('status', ['1', '137'])
def test_a_slurm_job_that_fails_does_not_come_back(slurm, status):
  done = launch('slurm.sh', env=slurm | {'AT_ONCE': status})
  assert done.returncode == int(status)
  assert requeued(slurm) == ''


def test_a_slurm_job_that_ends_in_time_does_not_come_back(slurm):
  process = batch(slurm | {'AT_SIGTERM': '0'})
  process.send_signal(signal.SIGUSR1)
  process.communicate(timeout=30)
  assert process.returncode == 0
  assert requeued(slurm) == ''


def test_a_slurm_job_does_not_come_back_for_ever(slurm):
  process = batch(slurm | {'SLURM_RESTART_COUNT': '50'})
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
def test_processes_that_slurm_starts_compute_together(slurm, stubs):
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
def test_slurm_runs_stages_in_two_real_processes(
    slurm, stubs, tmp_path, tiny_model
):
  done = launch(
      'slurm.sh',
      '--config=configs/tiny.py',
      f'--config.model={tiny_model}',
      f'--workdir={tmp_path / "run"}',
      '--stages=read,translate',
      env=slurm | {'PYTHON': sys.executable},
  )
  outputs = [(stubs / f'out{index}').read_text() for index in range(2)]
  errors = [(stubs / f'err{index}').read_text() for index in range(2)]
  assert done.returncode == 0, errors
  assert '[2/2] translate' in outputs[0]
  assert outputs[1] == ''
  assert errors == ['', '']
  for stage in ('read', 'translate'):
    assert (tmp_path / 'run' / stage / 'DONE.json').exists()


def test_one_machine_uses_its_gpus(stubs):
  stub(stubs, 'nvidia-smi', 'echo GPU 0')
  told = 'echo "$CUDA_VISIBLE_DEVICES $JAX_PLATFORMS"; printf "%s\\n" "$@"'
  env = environment(stubs, GPUS='0,2', PYTHON=stub(stubs, 'fake', told))
  done = launch('one_machine.sh', '--workdir=a b', env=env)
  assert done.stdout.splitlines() == [
      '0,2 cuda,cpu',
      '-m',
      'calm_jax.main',
      '--workdir=a b',
  ]


def test_one_machine_without_gpus_says_so(stubs):
  stub(stubs, 'nvidia-smi', 'exit 9')
  env = environment(stubs, PYTHON=stub(stubs, 'fake', 'echo no'))
  done = launch('one_machine.sh', '--workdir=a', env=env)
  assert done.returncode == 1
  assert 'finds no GPU' in done.stderr
  assert done.stdout == ''


ARGUMENTS = ('--workdir=/runs/a b', "--config.model=it's", '--config.x="$HOME"')


def manifest(stubs, **variables):
  env = environment(stubs, IMAGE='here/calm:1', CLAIM='disk', **variables)
  stub(stubs, 'kubectl', 'echo "$@" >"$STUBS/kubectl.log"; cat')
  done = launch('kubernetes.sh', *ARGUMENTS, env=env)
  assert done.returncode == 0, done.stderr
  return yaml.safe_load(done.stdout)


def pod_of(spec):
  (job,) = spec['spec']['replicatedJobs']
  return job['template']['spec']['template']['spec']


def test_kubernetes_starts_a_pod_per_node(stubs):
  spec = manifest(stubs, NODES='3', GPUS='4', NAME='x', ACCELERATOR='nvidia-l4')
  assert (stubs / 'kubectl.log').read_text() == 'apply --filename=-\n'
  assert spec['kind'] == 'JobSet'
  assert spec['metadata']['name'] == 'x'
  (job,) = spec['spec']['replicatedJobs']
  assert job['template']['spec']['completions'] == 3
  assert job['template']['spec']['parallelism'] == 3
  pod = pod_of(spec)
  (container,) = pod['containers']
  assert container['image'] == 'here/calm:1'
  assert container['resources']['limits'] == {'nvidia.com/gpu': 4}
  selector = {'cloud.google.com/gke-accelerator': 'nvidia-l4'}
  assert pod['nodeSelector'] == selector
  claims = [v.get('persistentVolumeClaim') for v in pod['volumes']]
  assert {'claimName': 'disk'} in claims
  mounted = {m['name'] for m in container['volumeMounts']}
  assert mounted == {v['name'] for v in pod['volumes']}


def test_a_pod_runs_the_command_with_its_number(stubs):
  spec = manifest(stubs, NODES='2')
  (container,) = pod_of(spec)['containers']
  values = {e['name']: e['value'] for e in container['env'] if 'value' in e}
  assert values['JAX_PLATFORMS'] == 'cuda,cpu'
  stub(stubs, 'python', 'printf "%s\\n" "$@"')
  done = subprocess.run(
      container['command'] + container['args'],
      env=environment(stubs, JOB_COMPLETION_INDEX='1', **values),
      capture_output=True,
      text=True,
      check=True,
  )
  assert done.stdout.splitlines() == [
      '-m',
      'calm_jax.main',
      *ARGUMENTS,
      '--coordinator=calm-host-0-0.calm:8476',
      '--num_processes=2',
      '--process_id=1',
  ]


def test_kubernetes_can_only_print(stubs):
  stub(stubs, 'kubectl', 'touch "$STUBS/applied"')
  env = environment(stubs, IMAGE='a', CLAIM='b', DRY_RUN='1')
  done = launch('kubernetes.sh', env=env)
  assert yaml.safe_load(done.stdout)['metadata'] == {'name': 'calm'}
  assert not (stubs / 'applied').exists()


# Two VMs are two home folders here.
GCLOUD = """
for argument in "$@"; do
  case $argument in
    --worker=0) vms=0 ;;
    --worker=all) vms='0 1' ;;
    --command=*) command=${argument#--command=} ;;
  esac
done
echo "$1 $2 $3 $4 $5" >>"$STUBS/gcloud.log"
if [[ $4 == scp ]]; then
  for vm in $vms; do cp "$5" "$STUBS/vm$vm/${6#*:}"; done
  exit
fi
for vm in $vms; do (cd "$STUBS/vm$vm" && HOME=$PWD bash -c "$command"); done
"""
# In place of what the VMs need to be set up.
TOOLS = {
    'sudo': 'echo "sudo $*" >>"$HOME/did"',
    'mountpoint': 'exit 1',
    'python3': 'echo "python3 $*" >>"$HOME/did"',
}
VM_PYTHON = """
trap 'echo stopped; exit 143' TERM
printf '%s|' "$JAX_PLATFORMS" "$@"
touch "$HOME/started"
sleep 60 &
wait
"""


@pytest.fixture
def tpu(stubs):
  stub(stubs, 'gcloud', GCLOUD)
  for name, text in TOOLS.items():
    stub(stubs, name, text)
  for index in range(2):
    home = stubs / f'vm{index}'
    folder = home / 'calm_jax' / '.venv' / 'bin'
    folder.mkdir(parents=True)
    stub(folder, 'python', VM_PYTHON)
    (home / '.local' / 'bin').mkdir(parents=True)
    stub(home / '.local' / 'bin', 'uv', 'echo "uv $*" >>"$HOME/did"')
  return environment(stubs, TPU='slice', ZONE='here')


def test_a_tpu_slice_is_set_up(tpu, stubs):
  done = launch('tpu_vm.sh', 'setup', '10.0.0.2:/a share', env=tpu)
  assert done.returncode == 0, done.stderr
  for index in range(2):
    home = stubs / f'vm{index}'
    assert (home / 'calm_jax' / 'calm_jax' / 'main.py').exists()
    did = (home / 'did').read_text()
    assert 'sudo mount 10.0.0.2:/a share /mnt/runs\n' in did
    assert 'uv pip install -q --python=.venv -e .[tpu]\n' in did
  assert 'compute tpus tpu-vm scp' in (stubs / 'gcloud.log').read_text()


def test_a_tpu_slice_runs_on_all_vms_until_it_is_stopped(tpu, stubs):
  homes = [stubs / f'vm{index}' for index in range(2)]
  try:
    done = launch('tpu_vm.sh', 'run', '--workdir=/a b', '--x=$y', env=tpu)
    assert done.returncode == 0, done.stderr
    wait_for(*(home / 'started' for home in homes))
    again = launch('tpu_vm.sh', 'run', '--workdir=/a b', env=tpu)
    assert again.returncode != 0
    assert 'a run is going on' in again.stderr
  finally:
    launch('tpu_vm.sh', 'stop', env=tpu)
  told = 'tpu,cpu|-m|calm_jax.main|--workdir=/a b|--x=$y|--coordinator=auto|'
  deadline = time.monotonic() + 20
  for home in homes:
    log = home / 'calm_jax.log'
    while 'stopped' not in log.read_text():
      assert time.monotonic() < deadline
      time.sleep(0.02)
    assert log.read_text() == told + 'stopped\n'


@pytest.mark.parametrize(
    ('arguments', 'missing', 'said'),
    [
        (['run'], 'TPU', 'TPU: is not set'),
        (['run'], 'ZONE', 'ZONE: is not set'),
        ([], '', 'use setup, run, log or stop'),
        (['start'], '', 'use setup, run, log or stop'),
        (['setup'], '', 'setup needs the NFS share'),
    ],
)
def test_a_tpu_command_that_lacks_something(
    tpu, stubs, arguments, missing, said
):
  tpu.pop(missing, None)
  done = launch('tpu_vm.sh', *arguments, env=tpu)
  assert done.returncode == 1
  assert said in done.stderr
  assert not (stubs / 'gcloud.log').exists()
