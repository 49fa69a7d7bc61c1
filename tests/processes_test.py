"""Two real processes are one run: its results, a stop, and a restart."""

from __future__ import annotations

import json
import shutil
import signal
import time

import numpy as np
import pytest
from safetensors import numpy as safetensors

from tools import hosts_check

pytestmark = pytest.mark.slow
STEPS = 30  # enough to be stopped between two of them
PATIENCE = 900  # seconds; two processes may have to share a busy core


class Runner:
  """Starts calm_jax.main with the settings that all tests share."""

  def __init__(self, model, cache):
    self._flags = [
        '--config=configs/tiny.py',
        f'--config.model={model}',
        '--config.train.epochs=10',
        '--config.train.eval_every=1000',
    ]
    self._environment = {
        'XDG_CACHE_HOME': str(cache),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }

  def start(self, workdir, *flags, processes=2, devices=1):
    """The processes of a run, each with so many devices."""
    return hosts_check.start(
        [*self._flags, *flags],
        workdir,
        processes=processes,
        devices=devices,
        environment=self._environment,
    )

  def run(self, workdir, *flags, processes=2, devices=1):
    """Runs to the end; what each process printed, and its errors."""
    started = self.start(workdir, *flags, processes=processes, devices=devices)
    return end(started)


def end(started, status=0):
  return hosts_check.finish(started, status=status, patience=PATIENCE)


@pytest.fixture(scope='module')
def runner(ending_model, tmp_path_factory):
  return Runner(ending_model, tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def one(runner, tmp_path_factory):
  """What a process with two devices makes of everything."""
  folder = tmp_path_factory.mktemp('one')
  runner.run(folder, processes=1, devices=2)
  return folder


@pytest.fixture(scope='module')
def two(runner, tmp_path_factory):
  """What two processes with one device each make of it, and say."""
  folder = tmp_path_factory.mktemp('two')
  return folder, runner.run(folder)


def rows(path):
  return [json.loads(line) for line in path.read_text('utf-8').splitlines()]


def metrics(folder):
  """The training's journal by step and split, without times."""
  lines = rows(folder / 'align' / 'metrics.jsonl')
  found = {(line.pop('step'), line.pop('split')): line for line in lines}
  assert len(found) == len(lines)
  return {key: {**line, 'tokens_per_second': 0} for key, line in found.items()}


def adapter(folder):
  path = folder / 'align' / 'adapter' / 'adapter_model.safetensors'
  return safetensors.load_file(path)


def assert_near(folder, other, *, within):
  """Training came to the same adapter, step by step."""
  lines, expected = metrics(folder), metrics(other)
  assert lines.keys() == expected.keys()
  for key, line in lines.items():
    assert line == pytest.approx(expected[key], rel=within, abs=within), key
  factors, expected = adapter(folder), adapter(other)
  assert factors.keys() == expected.keys()
  for name, factor in factors.items():
    np.testing.assert_allclose(factor, expected[name], atol=within)


def counts(folder, stage):
  return json.loads((folder / stage / 'DONE.json').read_text())['counts']


def copy(source, target, *stages):
  for stage in stages:
    shutil.copytree(source / stage, target / stage)


BEFORE_TRAINING = ('read', 'translate', 'sample', 'vote', 'pair')


def test_two_processes_come_to_the_results_of_one(one, two):
  folder, _ = two
  compared = list(hosts_check.compare(one, folder))
  assert all(row.records for row in compared)
  assert [row for row in compared if not row.sound] == []
  # Sums over rows of a batch may end in other bits on another mesh.
  may_differ = 'sample', 'align'
  for row in compared:
    if not row.what.startswith(may_differ):
      assert row.same == row.records, row
  assert counts(folder, 'report') == counts(one, 'report')


def test_both_had_a_part_in_it_and_one_wrote_and_spoke(two):
  folder, ((said, _), (whispered, _)) = two
  assert whispered == ''
  assert said.count('2 shards for 2 processes') == 3
  assert said.count('[6/8] align') == 1
  assert len(metrics(folder)) == STEPS + 1
  assert len(list((folder / 'align/tensorboard').glob('events*'))) == 1
  sampled = counts(folder, 'sample')
  assert sampled['processes'] == 2
  drawn = [rows(folder / f'sample/{number:05d}.jsonl') for number in range(2)]
  tokens = [sum(sample['tokens'] for sample in part) for part in drawn]
  assert min(tokens) > 0
  assert sampled['tokens_drawn_now'] == sampled['tokens'] == sum(tokens)


@pytest.mark.parametrize('asked', [0, 1])
def test_a_signal_to_one_stops_both_and_they_go_on(
    runner, two, tmp_path, asked
):
  folder, _ = two
  copy(folder, tmp_path, *BEFORE_TRAINING)
  started = runner.start(tmp_path, '--stages=align')
  wait_for_a_step(tmp_path / 'align' / 'metrics.jsonl', started)
  started[asked].send_signal(signal.SIGTERM)
  (said, _), _ = end(started, 128 + signal.SIGTERM)
  assert said.count('Stopped by SIGTERM') == 1
  (saved,) = (tmp_path / 'align' / 'checkpoints').iterdir()
  done = int(saved.name)
  assert done < STEPS
  assert [*metrics(tmp_path)] == [(n, 'train') for n in range(1, done + 1)]
  assert not (tmp_path / 'align' / 'adapter').exists()
  (said, _), _ = runner.run(tmp_path, '--stages=align')
  assert f'goes on after step {done}' in said
  assert metrics(tmp_path) == metrics(folder)
  for name, factor in adapter(tmp_path).items():
    np.testing.assert_array_equal(factor, adapter(folder)[name])


def wait_for_a_step(path, started):
  deadline = time.monotonic() + PATIENCE
  while not (path.exists() and path.read_text()):
    assert all(process.poll() is None for process in started), end(started, 0)
    assert time.monotonic() < deadline
    time.sleep(0.01)


def begun(folder, stage):
  """As if the stage had been killed before its end."""
  (folder / stage / 'DONE.json').rename(folder / stage / 'PENDING.json')


def test_one_process_finishes_what_two_began(runner, two, tmp_path):
  folder, _ = two
  copy(folder, tmp_path, 'read', 'translate', 'sample')
  begun(tmp_path, 'sample')
  made_by_process_1 = tmp_path / 'sample' / '00001.jsonl'
  made_by_process_1.unlink()
  kept = tmp_path / 'sample' / '00000.jsonl'
  before = kept.stat().st_mtime_ns
  runner.run(tmp_path, '--stages=sample', processes=1)
  assert kept.stat().st_mtime_ns == before
  # On the same devices not even the last bit differs.
  original = folder / 'sample' / '00001.jsonl'
  assert made_by_process_1.read_bytes() == original.read_bytes()
  assert counts(tmp_path, 'sample')['processes'] == 1


def test_two_processes_finish_what_one_began_and_one_idles(
    runner, one, tmp_path
):
  copy(one, tmp_path, 'read', 'translate', 'sample')
  begun(tmp_path, 'sample')
  lost = tmp_path / 'sample' / '00000.jsonl'
  texts = [sample['text'] for sample in rows(lost)]
  lost.unlink()
  (said, _), _ = runner.run(tmp_path, '--stages=sample')
  assert '1 shards for 2 processes; 1 idle' in said
  assert [sample['text'] for sample in rows(lost)] == texts


def test_a_model_spread_over_both_trains_the_same(runner, two, tmp_path):
  folder, _ = two
  copy(folder, tmp_path, *BEFORE_TRAINING)
  mesh = ('--config.mesh.data=1', '--config.mesh.fsdp=2')
  runner.run(tmp_path, '--stages=align', *mesh)
  assert_near(tmp_path, folder, within=1e-5)
  (said, _), _ = runner.run(tmp_path, '--stages=evaluate', *mesh)
  assert 'each process samples alone: mesh fsdp=1, not 2' in said
  for number in range(2):
    name = f'evaluate/aligned/{number:05d}.jsonl'
    assert rows(tmp_path / name) == rows(folder / name)


def test_process_0_translates_while_the_other_waits(runner, two, tmp_path):
  folder, _ = two
  copy(folder, tmp_path, 'read', 'translate', 'sample', 'vote')
  (said, _), (whispered, _) = runner.run(
      tmp_path, '--stages=pair', '--config.translate.backend=model'
  )
  assert '[1/1] pair' in said
  assert whispered == ''
  translated = rows(tmp_path / 'translations' / 'model.jsonl')
  keys = [row['key'] for row in translated]
  assert len(set(keys)) == len(keys) > 0
