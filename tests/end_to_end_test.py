"""All stages on a tiny random model: run, rerun, refuse, kill, resume."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from calm_jax import formats, guard, pipeline, records
from configs import tiny

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parent.parent


def config(model, **changes):
  cfg = tiny.get_config()
  cfg.model = str(model)
  cfg.update_from_flattened_dict(changes)
  return cfg


@pytest.fixture(scope='module')
def workdir(tmp_path_factory, tiny_model):
  folder = tmp_path_factory.mktemp('runs') / 'whole'
  pipeline.run(config(tiny_model), folder)
  return folder


def results(folder):
  """What a run concluded, without times."""
  names = ('sample', 'vote', 'pair', 'evaluate/base', 'evaluate/aligned')
  found = {
      str(path.relative_to(folder)): path.read_text(encoding='utf-8')
      for name in names
      for path in sorted((folder / name).glob('*.jsonl'))
  }
  assert len(found) >= 2 * len(names) - 2
  adapter = folder / 'align/adapter/adapter_model.safetensors'
  return found | {'adapter': adapter.read_bytes()}


def test_every_stage_is_done_and_what_it_promises_is_there(workdir):
  names = {stage.name for stage in pipeline.STAGES} - {'retrieve'}
  for name in names:
    done = json.loads((workdir / name / 'DONE.json').read_text())
    assert done['stage'] == name
  assert not (workdir / 'retrieve').exists()  # switched off
  for path in (
      'report/report.html',
      'report/questions.html',
      'align/adapter/adapter_config.json',
      'align/metrics.jsonl',
  ):
    assert (workdir / path).stat().st_size > 0
  assert list((workdir / 'align/tensorboard').glob('events.out.tfevents.*'))


def test_votes_and_scores_follow_from_the_samples(workdir):
  votes = list(records.read_jsonl(workdir / 'vote/votes.jsonl', records.Vote))
  assert len(votes) == 4
  assert all(
      sum(sum(c.values()) for c in v.counts.values()) == 8 // 2 for v in votes
  )
  scores = records.read_all(workdir / 'evaluate', 'scores.jsonl', records.Score)
  systems = {s.system for s in scores}
  assert systems == {'base', 'aligned', 'aligned-base'}
  assert {s.metric for s in scores} >= {'accuracy', 'consistency_2', 'ac3_2'}


def test_the_same_command_again_does_nothing(workdir, tiny_model, capfd):
  before = _written(workdir)
  pipeline.run(config(tiny_model), workdir)
  assert 'Nothing to do' in capfd.readouterr().out
  assert _written(workdir) == before


def test_a_changed_setting_names_its_stage(workdir, tiny_model):
  changed = config(tiny_model, **{'train.beta': 0.2})
  with pytest.raises(guard.Refusal, match=r'align.*\n(.*\n)*.*train\.beta'):
    pipeline.run(changed, workdir)


@pytest.mark.parametrize('method', ['dpo', 'sft'])
def test_a_file_of_pairs_takes_the_place_of_votes(
    workdir, tiny_model, tmp_path, method
):
  file = workdir / 'pair' / 'train.jsonl'
  if method == 'sft':
    rows = records.read_jsonl(file, records.Pair)
    targets = [
        records.Target(r.question_id, r.lang, r.prompt, r.chosen, r.vote_share)
        for r in rows
    ]
    file = tmp_path / 'mine.json'
    formats.write_llamafactory(file, targets)
  folder = tmp_path / 'run'
  changes = {'pair.file': str(file), 'train.method': method}
  pipeline.run(config(tiny_model, **changes), folder)
  made = {path.name for path in folder.iterdir() if path.is_dir()}
  assert not made & {'retrieve', 'sample', 'vote'}
  for name in ('pair', 'align', 'evaluate', 'report'):
    assert (folder / name / 'DONE.json').exists()
  # The base model answers as it did beside the votes.
  name = 'evaluate/base/00000.jsonl'
  assert (folder / name).read_bytes() == (workdir / name).read_bytes()
  assert (folder / 'report/questions.html').stat().st_size > 0


def test_a_run_that_was_killed_ends_as_if_nothing_had_happened(
    workdir, tiny_model, tmp_path
):
  """SIGKILL between two shards of samples, and again during training."""
  command = [
      sys.executable,
      '-m',
      'calm_jax.main',
      '--config=configs/tiny.py',
      f'--config.model={tiny_model}',
      f'--workdir={tmp_path}',
  ]
  env = os.environ | {'XDG_CACHE_HOME': str(tmp_path / 'cache')}
  env.pop('JAX_COMPILATION_CACHE_DIR')
  for evidence in ('sample/00000.jsonl', 'align/metrics.jsonl'):
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL
    ) as run:
      _wait_for(tmp_path / evidence, run)
      run.send_signal(signal.SIGKILL)
  subprocess.run(
      command, cwd=ROOT, check=True, env=env, stdout=subprocess.DEVNULL
  )
  # What was compiled before a kill was not compiled again.
  assert list((tmp_path / 'cache' / 'calm_jax' / 'xla').rglob('*-cache'))
  assert results(tmp_path) == results(workdir)


def _wait_for(path, run, seconds=240):
  end = time.monotonic() + seconds
  while not path.exists():
    assert run.poll() is None, 'the run ended before it could be killed'
    assert time.monotonic() < end, f'{path} did not appear'
    time.sleep(0.02)


def _written(folder):
  return {
      path: path.stat().st_mtime_ns
      for path in folder.rglob('*')
      if path.is_file() and path.name != '.lock'
  }
