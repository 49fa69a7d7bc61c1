"""Tests of several systems in one run, with stages that take no time."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import types

import pytest

from calm_jax import (
    console,
    experiment,
    guard,
    ledger,
    pipeline,
    records,
    settings,
)
from calm_jax.lm import hosts
from configs import tiny


def _start(cfg):
  folder = pathlib.Path(cfg.adapter)
  return {'adapter': ledger.digest(folder) if cfg.adapter else ''}


def _untrained(cfg):
  return cfg.train.method == 'none'


TABLE = (
    ledger.Stage('read', 'r', needs=(), fields=('limit',)),
    ledger.Stage('vote', 'v', needs=('read',), fields=('vote.ties',)),
    ledger.Stage(
        'align',
        'a',
        needs=('vote',),
        fields=('train.beta',),
        inputs=_start,
        idle=_untrained,
    ),
    ledger.Stage(
        'evaluate', 'e', needs=('read', 'align'), fields=(), inputs=_start
    ),
)


def _read(cfg, workdir):
  (workdir / 'read' / 'rows').write_text(str(cfg.limit))


def _vote(cfg, workdir):
  (workdir / 'vote' / 'ties').write_text(cfg.vote.ties)


def _align(cfg, workdir):
  folder = workdir / 'align' / 'adapter'
  folder.mkdir()
  for name in ('adapter_config.json', 'adapter_model.safetensors'):
    (folder / name).write_text(f'{cfg.train.beta} {cfg.adapter != ""}')


def _evaluate(cfg, workdir):
  kind = 'base' if _untrained(cfg) else 'aligned'
  rows = [
      records.Prediction(kind, f'q{i}', lang, '', 'A', 'letter', 'AB'[i % 2])
      for i in range(cfg.limit)
      for lang in cfg.languages
  ]
  path = workdir / 'evaluate' / kind / '00000.jsonl'
  records.write_jsonl(path, rows)


VERBS = {'read': _read, 'vote': _vote, 'align': _align, 'evaluate': _evaluate}


@pytest.fixture
def ran(monkeypatch):
  """Which system ran which stage, in order; a stage of `ran.fails` fails."""
  log = types.SimpleNamespace(stages=[], fails=set())

  def module(name, verb):
    def run(cfg, workdir):
      stage = f'{workdir.name}/{name}'
      if stage in log.fails:
        raise OSError('the disk is full')
      verb(cfg, workdir)
      log.stages.append(stage)
      return {}

    made = types.ModuleType(f'members.{name}')
    made.__dict__['run'] = run
    return made

  monkeypatch.setitem(sys.modules, 'members', types.ModuleType('members'))
  for name, verb in VERBS.items():
    monkeypatch.setitem(sys.modules, f'members.{name}', module(name, verb))
  # Adapters of these tests are no real ones.
  monkeypatch.setattr(settings, 'problems', lambda cfg: [])
  return log


@pytest.fixture
def cfg(tmp_path):
  c = tiny.get_config()
  c.model = str(tmp_path)
  c.systems.update(
      {
          'base': {'train': {'method': 'none'}},
          'b': {},
          'c': {'vote': {'ties': 'abstain'}},
          'd': {'train': {'beta': 0.5}},
      }
  )
  return c


@pytest.fixture
def workdir(tmp_path):
  return tmp_path / 'run'


def run(cfg, workdir, *stages):
  with console.console.capture() as said:
    experiment.run(cfg, workdir, stages, table=TABLE, package='members')
  return said.get()


def member(workdir, name):
  return workdir / 'systems' / name


def test_what_systems_have_in_common_is_made_once(cfg, workdir, ran):
  said = run(cfg, workdir)
  assert '4 systems: base, b, c, d' in said
  assert 'System d, 4 of 4: evaluate.before=False, train.beta=0.5' in said
  assert ran.stages == [
      'base/read',
      'base/vote',
      'base/evaluate',
      'b/align',
      'b/evaluate',
      'c/vote',
      'c/align',
      'c/evaluate',
      'd/align',
      'd/evaluate',
  ]
  assert os.readlink(member(workdir, 'd') / 'vote') == '../base/vote'
  assert not (member(workdir, 'c') / 'vote').is_symlink()
  assert (member(workdir, 'd') / 'vote' / 'ties').read_text() == 'seeded'


def test_another_config_in_the_same_folder_finds_what_is_made(
    cfg, workdir, ran
):
  run(cfg, workdir)
  shutil.rmtree(member(workdir, 'c') / 'vote')  # c/align is of a vote gone
  before = len(ran.stages)
  cfg.systems = {
      'same_as_d': {'train': {'beta': 0.5}},
      'new': {'train': {'beta': 0.9}},
      'as_c': {'vote': {'ties': 'abstain'}},
  }
  cfg.evaluate.before = False  # as where base does it
  run(cfg, workdir)
  assert ran.stages[before:] == ['as_c/vote', 'new/align', 'new/evaluate']
  link = os.readlink(member(workdir, 'same_as_d') / 'align')
  assert link == '../d/align'


def test_a_run_is_done_once_also_when_it_was_moved(cfg, workdir, ran, tmp_path):
  run(cfg, workdir)
  ran.stages.clear()
  workdir = workdir.rename(tmp_path / 'elsewhere')
  said = run(cfg, workdir)
  assert ran.stages == []
  assert said.count('Nothing to do') == 4
  assert 'compare: the systems side by side; already done' in said


def test_the_comparison_follows_the_systems(cfg, workdir, ran):
  run(cfg, workdir)
  path = workdir / 'compare' / 'table.csv'
  assert 'late' not in path.read_text()
  cfg.systems.late = {'train': {'beta': 0.7}}
  ran.stages.clear()
  run(cfg, workdir)
  assert ran.stages == ['late/align', 'late/evaluate']
  assert 'late' in path.read_text()
  assert not list(workdir.rglob('PENDING.json'))


@pytest.mark.parametrize('stage', ['b/align', 'c/vote', 'd/evaluate'])
def test_a_run_that_failed_goes_on(cfg, workdir, ran, stage):
  ran.fails.add(stage)
  with pytest.raises(OSError, match='disk is full'):
    run(cfg, workdir)
  assert not (workdir / 'compare').exists()
  before, ran.fails = len(ran.stages), set()
  run(cfg, workdir)
  assert ran.stages[before] == stage
  assert len(set(ran.stages)) == len(ran.stages) == 10


def test_a_system_starts_from_what_another_trained(cfg, workdir, ran):
  cfg.systems.e = {'adapter': '@d'}
  run(cfg, workdir)
  adapter = member(workdir, 'e') / 'align' / 'adapter' / 'adapter_config.json'
  assert adapter.read_text() == '0.1 True'
  # Another adapter is another start: by its content, not by its path.
  shutil.rmtree(member(workdir, 'd') / 'align')
  shutil.rmtree(member(workdir, 'd') / 'evaluate')
  cfg.systems.d.train.beta = 0.6
  with pytest.raises(guard.Refusal, match=r'systems/e .*\n.*\n.*adapter: was'):
    run(cfg, workdir)


def test_some_stages_only(cfg, workdir, ran):
  cfg.systems.e = {'adapter': '@d'}
  said = run(cfg, workdir, 'read', 'vote')
  assert ran.stages == ['base/read', 'base/vote', 'c/vote']
  assert 'System e waits for @d: left out' in said
  assert not (workdir / 'compare').exists()
  run(cfg, workdir, 'align', 'evaluate')
  assert 'e/evaluate' in ran.stages
  ran.stages.clear()
  run(cfg, workdir, 'compare')
  assert ran.stages == []
  assert (workdir / 'compare' / 'DONE.json').exists()


def test_what_was_translated_and_its_cost_are_one_for_all(cfg, workdir, ran):
  run(cfg, workdir)
  assert not (workdir / 'translations').exists()  # nothing is to be kept
  cfg.translate.backend = 'google'
  run(cfg, workdir)
  kept = member(workdir, 'b') / 'translations' / 'google_ledger.jsonl'
  kept.write_text('spent')
  for folder in (workdir, member(workdir, 'd')):
    path = folder / 'translations' / 'google_ledger.jsonl'
    assert path.read_text() == 'spent'
  assert run(cfg, workdir).count('Nothing to do') == 4


def test_what_lies_in_the_way_is_refused_and_kept(cfg, workdir, ran):
  foreign = member(workdir, 'b') / 'read' / 'mine.txt'
  foreign.parent.mkdir(parents=True)
  foreign.write_text('mine')
  with pytest.raises(guard.Refusal, match=r'systems/b/read'):
    run(cfg, workdir)
  assert foreign.read_text() == 'mine'
  assert 'b/align' not in ran.stages


def test_a_link_to_what_is_gone_is_told(cfg, workdir, ran):
  run(cfg, workdir)
  cfg.systems = {'b': {}}  # base, which made it, is no system any more
  shutil.rmtree(member(workdir, 'base') / 'read')
  with pytest.raises(guard.Refusal, match=r'rm .*systems/b/read'):
    run(cfg, workdir)
  (member(workdir, 'b') / 'read').unlink()


def test_other_settings_are_refused(cfg, workdir, ran):
  run(cfg, workdir)
  ran.stages.clear()
  cfg.systems.d.train.beta = 0.6
  with pytest.raises(guard.Refusal, match=r'train\.beta: was 0\.5, now 0\.6'):
    run(cfg, workdir)
  assert ran.stages == []


def test_one_run_at_a_time(cfg, workdir, ran):
  with guard.locked(workdir):
    with pytest.raises(guard.Refusal, match='in use by process'):
      run(cfg, workdir)
  assert ran.stages == []


def test_without_systems_it_is_the_pipeline(cfg, workdir, ran):
  cfg.systems = {}
  run(cfg, workdir)
  assert ran.stages == [f'run/{stage.name}' for stage in TABLE]
  assert not (workdir / 'systems').exists()


def test_other_processes_follow_the_leader_from_system_to_system(
    cfg, workdir, monkeypatch
):
  said, ran = iter(['b', 'e', '']), []
  monkeypatch.setattr(hosts, 'is_leader', lambda: False)
  monkeypatch.setattr(hosts, 'from_leader', lambda name: next(said))

  def joined(own, folder, stages, *, table, package):
    ran.append((folder.name, own.adapter))

  monkeypatch.setattr(pipeline, 'run', joined)
  cfg.systems.e = {'adapter': '@d'}
  experiment.run(cfg, workdir)
  adapter = str(member(workdir, 'd') / 'align' / 'adapter')
  assert ran == [('b', ''), ('e', adapter)]
  assert not workdir.exists()
