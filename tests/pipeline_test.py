"""Tests of skipping, resuming and refusing, with fake stages."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from calm_jax import console, guard, ledger, pipeline, records, settings
from configs import tiny

ROOT = pathlib.Path(__file__).parent.parent
FAKES = ROOT / 'tests' / 'fakes'


@pytest.fixture
def cfg(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(FAKES)
  model = tmp_path / 'model'
  model.mkdir()
  for name in ('config.json', 'model.safetensors', 'tokenizer.json'):
    (model / name).touch()
  c = tiny.get_config()
  c.model = str(model)
  return c


@pytest.fixture
def workdir(tmp_path):
  return tmp_path / 'run'


def fake_table():
  return importlib.import_module('verbs').TABLE


def run(cfg, workdir, *stages, table=None):
  """Runs fake stages; returns what was said."""
  table = table or fake_table()
  with console.console.capture() as said:
    pipeline.run(cfg, workdir, stages, table=table, package='verbs')
  return said.get()


def log(workdir):
  path = workdir / 'log'
  return path.read_text().splitlines() if path.exists() else []


def snapshot(folder):
  """Every file but the lock, with its content."""
  return {
      str(path.relative_to(folder)): path.read_bytes()
      for path in sorted(folder.rglob('*'))
      if path.is_file() and path.name != '.lock'
  }


def test_runs_in_order_and_says_so(cfg, workdir):
  said = run(cfg, workdir)
  assert [line.split()[0] for line in log(workdir)] == [
      'read',
      'sample',
      'vote',
  ]
  assert '[1/3] read: raw to rows' in said
  assert '[2/3] sample: rows to shards' in said
  assert ' s: shards 4, made 4, mean 0.1667\n' in said
  assert 'Nothing to do' not in said


def test_runs_once(cfg, workdir):
  run(cfg, workdir)
  before = snapshot(workdir)
  said = run(cfg, workdir)
  assert snapshot(workdir) == before
  assert said.count('already done, skipped') == 3
  assert 'Nothing to do' in said


def test_done_json_says_what_made_the_folder(cfg, workdir):
  run(cfg, workdir)
  read = json.loads((workdir / 'read' / 'DONE.json').read_text())
  sample = json.loads((workdir / 'sample' / 'DONE.json').read_text())
  assert read['stage'] == 'read'
  assert read['config'] == {'languages': ['en', 'fr'], 'limit': 4}
  assert read['counts'] == {'rows': 4, 'languages': 2}
  assert read['upstream'] == {}
  assert sample['counts']['lost'] == 0
  assert sample['config']['sample.top_p'] == 0.9
  assert 'limit' not in sample['config']
  assert sample['upstream'] == {'read': read['fingerprint']}
  assert sample['seconds'] >= 0
  assert sample['versions'].keys() >= {'calm_jax', 'jax', 'flax'}
  assert not list(workdir.rglob('PENDING.json'))
  assert not list(workdir.rglob('*.tmp'))


def test_a_list_of_languages_means_the_same_however_it_is_written(cfg, workdir):
  run(cfg, workdir)
  cfg.languages = ('en,fr',)
  assert 'Nothing to do' in run(cfg, workdir)


def test_other_settings_are_refused_with_field_and_values(cfg, workdir):
  run(cfg, workdir)
  before = snapshot(workdir)
  cfg.sample.m = 3
  with pytest.raises(guard.Refusal) as e:
    run(cfg, workdir)
  message = str(e.value)
  assert f'sample ({workdir / "sample"}, done)' in message
  assert 'sample.m: was 2, now 3' in message
  assert 'and what was made from it: vote\n' in message
  assert f'rm -r {workdir / "sample"} {workdir / "vote"}' in message
  assert 'read' not in message
  assert '--workdir' in message
  assert snapshot(workdir) == before


def test_following_the_remedy_works(cfg, workdir):
  run(cfg, workdir)
  cfg.sample.m = 3
  shutil.rmtree(workdir / 'sample')
  with pytest.raises(guard.Refusal, match='another result of sample'):
    run(cfg, workdir)
  shutil.rmtree(workdir / 'vote')
  run(cfg, workdir)
  assert (workdir / 'sample' / '00000').read_text() == '3'
  assert [line.split()[0] for line in log(workdir)].count('read') == 1


def test_a_field_that_no_stage_reads_changes_nothing(cfg, workdir):
  run(cfg, workdir)
  cfg.train.learning_rate = 1.0
  assert 'Nothing to do' in run(cfg, workdir)


def test_a_change_far_down_is_refused_before_anything_runs(cfg, workdir):
  run(cfg, workdir)
  shutil.rmtree(workdir / 'read')
  cfg.vote.ties = 'abstain'
  with pytest.raises(guard.Refusal, match="was 'seeded', now 'abstain'"):
    run(cfg, workdir)
  assert not (workdir / 'read').exists()


def test_files_that_a_stage_reads_count_by_content(cfg, workdir, tmp_path):
  data = tmp_path / 'data'
  data.mkdir()
  (data / 'a.jsonl').write_text('1')
  inputs = lambda cfg: {'data': ledger.digest(data)}
  read, *others = fake_table()
  table = (dataclasses.replace(read, inputs=inputs), *others)
  run(cfg, workdir, table=table)
  assert 'Nothing to do' in run(cfg, workdir, table=table)
  (data / 'a.jsonl').write_text('2')
  with pytest.raises(guard.Refusal, match=r'data: was .sha256:.*now .sha256:'):
    run(cfg, workdir, table=table)


def test_an_unfinished_stage_goes_on_under_the_same_settings(cfg, workdir):
  run(cfg, workdir, 'read')
  (workdir / 'fail').touch()
  with pytest.raises(OSError, match='disk is full'):
    run(cfg, workdir)
  assert (workdir / 'vote' / 'PENDING.json').exists()
  assert not (workdir / 'vote' / 'DONE.json').exists()
  (workdir / 'fail').unlink()
  assert 'vote: shards to votes; going on from before' in run(cfg, workdir)
  assert (workdir / 'vote' / 'DONE.json').exists()
  assert not (workdir / 'vote' / 'PENDING.json').exists()


def test_the_time_is_that_of_the_first_beginning(cfg, workdir):
  workdir.mkdir()
  (workdir / 'fail').touch()
  with pytest.raises(OSError, match='disk is full'):
    run(cfg, workdir)
  path = workdir / 'vote' / 'PENDING.json'
  pending = json.loads(path.read_text()) | {'started': '2020-01-01T00:00:00'}
  path.write_text(json.dumps(pending))
  (workdir / 'fail').unlink()
  run(cfg, workdir)
  done = json.loads((workdir / 'vote' / 'DONE.json').read_text())
  assert done['started'] == '2020-01-01T00:00:00'
  read = json.loads((workdir / 'read' / 'DONE.json').read_text())
  assert read['finished'] > read['started'] > '2020-01-01T00:00:00'


def test_an_unfinished_stage_is_refused_under_other_settings(cfg, workdir):
  workdir.mkdir()
  (workdir / 'fail').touch()
  with pytest.raises(OSError, match='disk is full'):
    run(cfg, workdir)
  cfg.vote.ties = 'abstain'
  with pytest.raises(guard.Refusal) as e:
    run(cfg, workdir)
  assert f'vote ({workdir / "vote"}, begun)' in str(e.value)
  assert "vote.ties: was 'seeded', now 'abstain'" in str(e.value)


def test_a_stage_that_failed_before_making_anything_was_never_begun(
    cfg, workdir
):
  workdir.mkdir()
  (workdir / 'fail_at_once').touch()
  with pytest.raises(OSError, match='disk is full'):
    run(cfg, workdir)
  assert not (workdir / 'vote').exists()
  assert (workdir / 'sample' / 'DONE.json').exists()
  (workdir / 'fail_at_once').unlink()
  cfg.vote.ties = 'abstain'
  said = run(cfg, workdir)
  assert 'going on' not in said
  assert (workdir / 'vote' / 'DONE.json').exists()


def idle_table():
  """Sampling is switched off by a limit of 1; vote does not mind."""
  read, sample, vote = fake_table()
  idle = lambda cfg: cfg.limit == 1
  vote = dataclasses.replace(vote, needs=('read', 'sample'))
  return read, dataclasses.replace(sample, idle=idle), vote


def test_an_idle_stage_is_passed_over(cfg, workdir):
  cfg.limit = 1
  said = run(cfg, workdir, table=idle_table())
  assert '[1/2] read' in said
  assert '[2/2] vote' in said
  assert 'sample' not in said
  assert not (workdir / 'sample').exists()
  done = json.loads((workdir / 'vote' / 'DONE.json').read_text())
  assert done['upstream'].keys() == {'read', 'sample'}
  # Its own settings are nobody's.
  cfg.sample.m = 3
  assert 'everything was done' in run(cfg, workdir, table=idle_table())
  said = run(cfg, workdir, 'sample', table=idle_table())
  assert 'switch these stages off' in said


def test_an_idle_stage_need_not_be_named(cfg, workdir):
  with pytest.raises(guard.Refusal, match='vote needs sample'):
    run(cfg, workdir, 'read', 'vote', table=idle_table())
  cfg.limit = 1
  run(cfg, workdir, 'read', 'vote', table=idle_table())
  assert (workdir / 'vote' / 'DONE.json').exists()


def test_what_an_idle_stage_left_is_not_read_by_mistake(cfg, workdir):
  run(cfg, workdir, 'read', 'sample', table=idle_table())
  shutil.rmtree(workdir / 'read')
  cfg.limit = 1
  with pytest.raises(guard.Refusal) as e:
    run(cfg, workdir, 'read', 'vote', table=idle_table())
  assert 'is switched off now' in str(e.value)
  assert f'rm -r {workdir / "sample"}' in str(e.value)
  shutil.rmtree(workdir / 'sample')
  run(cfg, workdir, 'read', 'vote', table=idle_table())


def real_example(**changes):
  """The README's --stages=read,translate,sample; returns what is refused."""
  c = tiny.get_config()
  c.model = 'org/name'
  c.update_from_flattened_dict(changes)
  plans = ledger.plan(c, pathlib.Path('none'), pipeline.STAGES)
  try:
    pipeline._refuse_missing({'read', 'translate', 'sample'}, plans)
  except guard.Refusal as e:
    return str(e)
  return ''


def test_the_example_in_the_readme_is_not_refused():
  readme = (ROOT / 'README.md').read_text(encoding='utf-8')
  assert '--stages=read,translate,sample ' in readme
  assert real_example() == ''
  refused = real_example(**{'retrieve.backend': 'lancedb'})
  assert 'sample needs retrieve' in refused


def test_the_mark_of_the_end_comes_last(cfg, workdir):
  # read logs what it finds in its folder when it starts.
  run(cfg, workdir)
  assert log(workdir)[0] == 'read PENDING.json'
  made = (workdir / 'read' / 'rows.json').stat().st_mtime_ns
  assert (workdir / 'read' / 'DONE.json').stat().st_mtime_ns >= made


def test_files_of_unknown_origin_are_left_alone(cfg, workdir):
  (workdir / 'sample').mkdir(parents=True)
  (workdir / 'sample' / '00000').write_text('mine')
  with pytest.raises(guard.Refusal, match=r'holds files, but no DONE\.json'):
    run(cfg, workdir)
  assert (workdir / 'sample' / '00000').read_text() == 'mine'
  assert log(workdir) == []


def test_a_kill_before_the_first_mark_leaves_nothing_to_refuse(cfg, workdir):
  (workdir / 'read').mkdir(parents=True)
  (workdir / 'read' / 'PENDING.json.tmp').write_text('{"sta')
  run(cfg, workdir)
  assert (workdir / 'read' / 'DONE.json').exists()


def test_a_damaged_mark_is_named(cfg, workdir):
  run(cfg, workdir)
  (workdir / 'sample' / 'DONE.json').write_text('{"stage": "sam')
  with pytest.raises(guard.Refusal, match=r'sample/DONE\.json is damaged'):
    run(cfg, workdir)


def test_some_stages_only(cfg, workdir):
  run(cfg, workdir, 'sample', 'read')
  assert [line.split()[0] for line in log(workdir)] == ['read', 'sample']
  assert not (workdir / 'vote').exists()
  said = run(cfg, workdir, 'vote')
  assert '[1/1] vote' in said
  assert log(workdir)[-1] == 'vote'


def test_some_stages_need_those_before_them(cfg, workdir):
  with pytest.raises(guard.Refusal) as e:
    run(cfg, workdir, 'sample', 'vote')
  assert 'sample needs read' in str(e.value)
  assert 'vote needs' not in str(e.value)
  run(cfg, workdir, 'read')
  cfg.limit = 3
  with pytest.raises(guard.Refusal, match='limit: was 4, now 3'):
    run(cfg, workdir, 'sample')


def test_an_unknown_stage_gets_the_nearest(cfg, workdir):
  with pytest.raises(guard.Refusal, match=r"'sampel' is no stage.*'sample'"):
    run(cfg, workdir, 'sampel')
  assert not workdir.exists()


def test_wrong_settings_are_all_told_before_any_work(cfg, workdir):
  cfg.sample.m = 0
  cfg.sample.top_p = float('nan')
  with pytest.raises(settings.ConfigError) as e:
    run(cfg, workdir)
  assert 'sample.m' in str(e.value)
  assert 'sample.top_p' in str(e.value)
  assert not workdir.exists()


def test_a_machine_that_does_not_fit_is_told_before_any_work(cfg, workdir):
  read, sample, vote = fake_table()
  sample = dataclasses.replace(sample, on_devices=lambda cfg: True)
  table = (read, sample, vote)
  cfg.mesh.data = 3
  with pytest.raises(settings.ConfigError, match='does not fit'):
    run(cfg, workdir, table=table)
  assert log(workdir) == []
  run(cfg, workdir, 'read', table=table)
  assert log(workdir) == ['read PENDING.json']


def test_one_run_a_folder(cfg, workdir):
  with guard.locked(workdir):
    with pytest.raises(guard.Refusal, match=f'process {os.getpid()} on'):
      run(cfg, workdir)
    assert log(workdir) == []
  run(cfg, workdir)


def test_the_end_shows_scores_and_paths(cfg, workdir):
  score = records.Score('base', 'greedy', 'en', 'accuracy', 50.0, 2, 0.0, 100.0)
  records.write_jsonl(workdir / 'evaluate' / 'scores.jsonl', [score])
  report = ledger.Stage('report', 'a page', needs=('vote',), fields=())
  (workdir / 'align').mkdir()
  said = run(cfg, workdir, table=(*fake_table(), report))
  for text in (
      'accuracy',
      f'{workdir}/report/report.html',
      f'{workdir}/align/adapter',
      f'{workdir}/align/metrics.jsonl',
      f'tensorboard --logdir {workdir}/align/tensorboard',
  ):
    assert text in said


def start(cfg, workdir, seconds_per_shard):
  """The fake stages in a process of their own."""
  command = 'import verbs; verbs.main()'
  return subprocess.Popen(
      [sys.executable, '-c', command, cfg.model, str(workdir)],
      env=os.environ
      | {
          'PYTHONPATH': f'{FAKES}{os.pathsep}{ROOT}',
          'SECONDS_PER_SHARD': str(seconds_per_shard),
      },
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
  )


def stop_in_the_middle(cfg, workdir, number):
  """Signals a run in its second stage; returns status, output and shards."""
  process = start(cfg, workdir, seconds_per_shard=0.5)
  deadline = time.monotonic() + 60
  while not (workdir / 'sample' / '00000').exists():
    assert time.monotonic() < deadline, 'the first shard never came'
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.02)
  process.send_signal(number)
  output, _ = process.communicate(timeout=60)
  made = len(list((workdir / 'sample').glob('0*')))
  assert made < 4, 'it was not stopped in the middle'
  return process.returncode, output, made


def test_a_killed_run_goes_on_where_it_was(cfg, workdir):
  status, _, made = stop_in_the_middle(cfg, workdir, signal.SIGKILL)
  assert status == -signal.SIGKILL
  assert not (workdir / 'sample' / 'DONE.json').exists()
  said = run(cfg, workdir)
  assert 'sample: rows to shards; going on from before' in said
  assert log(workdir) == ['read PENDING.json', f'sample {4 - made}', 'vote']


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_ends_with_a_line(cfg, workdir, number):
  status, output, made = stop_in_the_middle(cfg, workdir, number)
  assert status == 128 + number
  assert f'Stopped by {number.name}' in output
  assert 'the same command goes on' in output
  assert 'Traceback' not in output
  run(cfg, workdir)
  assert f'sample {4 - made}' in log(workdir)
