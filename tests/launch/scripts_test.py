"""Tests of the other launch scripts, with stand-ins for what they call."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[2] / 'launch'
SCRIPTS = sorted(path.name for path in LAUNCH.glob('*.sh'))


@pytest.mark.parametrize('name', SCRIPTS)
def test_every_script_says_what_it_takes(name):
  text = (LAUNCH / name).read_text()
  header = text[: text.index('set -euo pipefail')]
  for word in (f'launch/{name}', '--workdir=', 'Costs ', 'Writes ', 'Stop '):
    assert word in header
  assert f'({name})' in (LAUNCH / 'README.md').read_text()


@pytest.mark.parametrize('name', SCRIPTS)
def test_shellcheck_finds_nothing(name):
  beside = str(pathlib.Path(sys.executable).parent)
  shellcheck = shutil.which(
      'shellcheck', path=beside + ':' + os.environ['PATH']
  )
  if shellcheck is None:
    pytest.skip('shellcheck is not installed')
  done = subprocess.run(
      [shellcheck, LAUNCH / name], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stdout


def test_one_machine_uses_its_gpus(stubs, stub, environment, launch):
  stub(stubs, 'nvidia-smi', 'echo GPU 0')
  told = 'echo "$CUDA_VISIBLE_DEVICES $JAX_PLATFORMS"; printf "%s\\n" "$@"'
  env = environment(GPUS='0,2', PYTHON=stub(stubs, 'fake', told))
  done = launch('one_machine.sh', '--workdir=a b', env=env)
  assert done.stdout.splitlines() == [
      '0,2 cuda,cpu',
      '-m',
      'calm_jax.main',
      '--workdir=a b',
  ]


def test_one_machine_without_gpus_says_so(stubs, stub, environment, launch):
  stub(stubs, 'nvidia-smi', 'exit 9')
  env = environment(PYTHON=stub(stubs, 'fake', 'echo no'))
  done = launch('one_machine.sh', '--workdir=a', env=env)
  assert done.returncode == 1
  assert 'finds no GPU' in done.stderr
  assert done.stdout == ''


ARGUMENTS = ('--workdir=/runs/a b', "--config.model=it's", '--config.x="$HOME"')


@pytest.fixture
def manifest(stubs, stub, environment, launch):
  """What would be applied, as kubectl reads it."""

  def make(**variables):
    env = environment(IMAGE='here/calm:1', CLAIM='disk', **variables)
    stub(stubs, 'kubectl', 'echo "$@" >"$STUBS/kubectl.log"; cat')
    done = launch('kubernetes.sh', *ARGUMENTS, env=env)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)

  return make


def pod_of(spec):
  (job,) = spec['spec']['replicatedJobs']
  return job['template']['spec']['template']['spec']


def test_kubernetes_starts_a_pod_per_node(manifest, stubs):
  spec = manifest(NODES='3', GPUS='4', NAME='x', ACCELERATOR='nvidia-l4')
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


def test_a_pod_runs_the_command_with_its_number(
    manifest, stubs, stub, environment
):
  spec = manifest(NODES='2')
  (container,) = pod_of(spec)['containers']
  values = {e['name']: e['value'] for e in container['env'] if 'value' in e}
  assert values['JAX_PLATFORMS'] == 'cuda,cpu'
  stub(stubs, 'python', 'printf "%s\\n" "$@"')
  done = subprocess.run(
      container['command'] + container['args'],
      env=environment(JOB_COMPLETION_INDEX='1', **values),
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


def test_kubernetes_can_only_print(stubs, stub, environment, launch):
  stub(stubs, 'kubectl', 'touch "$STUBS/applied"')
  env = environment(IMAGE='a', CLAIM='b', DRY_RUN='1')
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
def tpu(stubs, stub, environment):
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
  return environment(TPU='slice', ZONE='here')


def test_a_tpu_slice_is_set_up(tpu, stubs, launch):
  done = launch('tpu_vm.sh', 'setup', '10.0.0.2:/a share', env=tpu)
  assert done.returncode == 0, done.stderr
  for index in range(2):
    home = stubs / f'vm{index}'
    assert (home / 'calm_jax' / 'calm_jax' / 'main.py').exists()
    did = (home / 'did').read_text()
    assert 'sudo mount 10.0.0.2:/a share /mnt/runs\n' in did
    assert 'uv pip install -q --python=.venv -e .[tpu]\n' in did
  assert 'compute tpus tpu-vm scp' in (stubs / 'gcloud.log').read_text()


def test_a_tpu_slice_runs_on_all_vms_until_it_is_stopped(
    tpu, stubs, launch, wait_for
):
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
    tpu, stubs, launch, arguments, missing, said
):
  tpu.pop(missing, None)
  done = launch('tpu_vm.sh', *arguments, env=tpu)
  assert done.returncode == 1
  assert said in done.stderr
  assert not (stubs / 'gcloud.log').exists()
