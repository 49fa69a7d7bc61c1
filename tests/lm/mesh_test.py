"""One model on eight devices, however arranged: the same numbers.

In processes of their own, since the number of devices is fixed at the start.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]


def _run(module, *args):
  env = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  return subprocess.run(
      [sys.executable, '-m', module, *args],
      cwd=ROOT,
      env=env,
      check=True,
      capture_output=True,
      text=True,
  ).stdout


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  path = tmp_path_factory.mktemp('mesh') / 'mesh.json'
  _run('tools.mesh_check', f'--json={path}')
  return json.loads(path.read_text())


@pytest.mark.parametrize('mesh', ['(8, 1, 1)', '(2, 4, 1)', '(2, 2, 2)'])
def test_every_mesh_gives_the_numbers_of_one_device(found, mesh):
  row = found['meshes'][mesh]
  assert row.pop('other samples') == 0
  assert len(row) == 5
  for name, difference in row.items():
    assert difference < 1e-5, name


def test_training_changes_the_loss_and_samples_are_drawn(found):
  """Else the numbers above would be equal in any case."""
  assert len(set(found['losses'])) == len(found['losses'])
  assert found['drawn'] == 36


@pytest.mark.parametrize('mesh', ['(1, 1, 1)', '(2, 2, 2)'])
def test_a_checkpoint_goes_on_on_other_devices(found, mesh):
  row = found['resumed'][mesh]
  assert row['equal_bits']
  assert row['losses'] < 1e-5


@pytest.fixture(scope='module')
def lowered():
  return _run(
      'tools.lower',
      '--shape=llama3-8b',
      '--layers=2',
      '--devices=8',
      '--mesh=2,2,2',
      '--slots=48',
      '--length=256',
      # An adapter's factor is split by one axis only: 2 MiB at this rank.
      '--least=4',
      '--rank=64',
      '--targets=q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj',
      '--no-compile',
  )


def test_a_large_model_has_no_array_that_is_whole_on_many_devices(lowered):
  assert lowered.count('lowered in') == 3
  assert lowered.count('more not split: 0') == 3


def test_a_kv_head_that_cannot_be_split_is_told():
  text = _run(
      'tools.lower',
      '--shape=llama3-8b',
      '--layers=1',
      '--devices=16',
      '--mesh=1,1,16',
      '--slots=8',
      '--no-compile',
      '--only=prefill',
  )
  assert 'NOT SPLIT by tensor: KV cache/k_BKHS/0' in text


def _messages(program):
  text = _run(
      'tools.lower',
      '--shape=tiny',
      '--devices=8',
      '--mesh=2,2,2',
      '--slots=48',
      '--dtype=float32',
      '--json',
      f'--only={program}',
  )
  (found,) = json.loads(text)
  return found['messages']


def test_a_step_of_decoding_sends_no_weights():
  # A layer's are 147 KB, two layers and the head 420 KB.
  sent = [m['nbytes'] * m['times'] for m in _messages('decode')]
  assert max(sent) < 50_000
  assert sum(sent) < 200_000


def test_a_prefill_sends_no_cache():
  # The prompts' keys and values are 524 KB a layer; activations lie between.
  sent = _messages('prefill')
  assert max(m['nbytes'] for m in sent) <= 2 * 512 * 64 * 4
  gathered = [m['nbytes'] for m in sent if m['kind'] == 'all-gather']
  assert max(gathered) <= 64 * 128 * 4
