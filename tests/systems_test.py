"""Tests of the systems of one run: what each is, and what cannot be."""

from __future__ import annotations

import pathlib

from ml_collections import ConfigDict
import pytest

from calm_jax import settings, systems
from configs import tiny


@pytest.fixture
def cfg(tmp_path):
  """Three systems; nothing is wrong but what a test adds."""
  c = tiny.get_config()
  folder = tmp_path / 'model'
  folder.mkdir()
  for name in ('config.json', 'model.safetensors', 'tokenizer.json'):
    (folder / name).touch()
  c.model = str(folder)
  c.systems.update(
      {
          'sft': {'train': {'method': 'sft', 'learning_rate': 5e-5}},
          'base': {'train': {'method': 'none'}},
          'calm': {},
      }
  )
  return c


def error(cfg, check=systems.check):
  with pytest.raises(settings.ConfigError) as e:
    check(cfg)
  return str(e.value)


def test_a_config_without_systems_is_one_run():
  assert systems.expand(tiny.get_config()) == {}


def test_a_system_is_the_config_and_its_own_fields(cfg):
  cfg.train.beta, cfg.paper = 0.3, 'table1_llama_xcsqa'
  found = systems.expand(cfg)
  assert found['calm'].train.method == 'dpo'
  assert found['sft'].train.method == 'sft'
  assert found['sft'].train.learning_rate == 5e-5
  assert {c.train.beta for c in found.values()} == {0.3}
  # Whole configs: the pipeline sees no other system in them.
  for own in found.values():
    assert settings.problems(own) == []
    assert own.systems.to_dict() == {}
    assert (own.order, own.rounds, own.paper) == ((), 1, '')
  assert cfg.systems.sft.to_dict() == {
      'train': {'method': 'sft', 'learning_rate': 5e-5}
  }


def test_base_comes_first_and_others_by_name(cfg):
  assert list(systems.expand(cfg)) == ['base', 'calm', 'sft']
  cfg.order = ('calm,sft',)  # as a flag hands it over
  assert list(systems.expand(cfg)) == ['calm', 'sft', 'base']


def test_a_system_follows_the_one_it_starts_from(cfg):
  cfg.systems.a = {'adapter': '@z'}
  cfg.systems.z = {'adapter': '@sft'}
  order = list(systems.expand(cfg))
  assert order == ['base', 'sft', 'z', 'a', 'calm']


def test_what_base_answers_is_not_asked_again(cfg):
  cfg.systems.both = {'evaluate': {'before': True}}
  before = {n: c.evaluate.before for n, c in systems.expand(cfg).items()}
  assert before == {'base': True, 'both': True, 'calm': False, 'sft': False}
  cfg.systems.base.train.method = 'dpo'
  assert all(c.evaluate.before for c in systems.expand(cfg).values())


def test_an_adapter_of_the_run_is_a_folder_once_it_is_there(cfg):
  cfg.systems.on = {'adapter': '@calm'}
  found = systems.expand(cfg)
  assert systems.parent(found['on']) == 'calm'
  assert systems.parent(found['calm']) == ''
  own = systems.located(found['on'], pathlib.Path('run'))
  assert own.adapter == 'run/systems/calm/align/adapter'
  assert systems.located(found['calm'], pathlib.Path('run')).adapter == ''


def test_rounds_go_on_from_each_other(cfg):
  cfg.systems = ConfigDict()
  cfg.rounds = 11
  found = systems.expand(cfg)
  assert list(found)[:3] == ['base', 'round1', 'round2']
  assert list(found)[-2:] == ['round10', 'round11']
  assert found['base'].train.method == 'none'
  first, second = found['round1'], found['round2']
  assert (first.adapter, first.train.reference) == ('', 'base')
  assert (second.adapter, second.train.reference) == ('@round1', 'start')
  cfg.train.method = 'sft'
  assert systems.expand(cfg)['round2'].train.reference == 'base'


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (
            {'systems.sft.train.lerning_rate': 1.0},
            'config.systems.sft.train.lerning_rate is no setting; did you mean'
            ' config.systems.sft.train.learning_rate?',
        ),
        ({'systems.sft.rounds': 2}, 'is of the whole run: set config.rounds'),
        (
            {'systems.calm.adapter': '@sfd'},
            "no such system (did you mean 'sft'",
        ),
        ({'systems.calm.adapter': '@base'}, 'trains no adapter'),
        ({'systems.calm.adapter': '@calm'}, 'start from itself'),
        (
            {'systems.calm.adapter': '@sft', 'systems.sft.adapter': '@calm'},
            'start from itself',
        ),
        ({'order': ('calm', 'stf')}, "no system 'stf' (did you mean 'sft'?)"),
        ({'order': ('calm', 'calm')}, 'twice'),
        ({'rounds': 2}, 'leave config.systems empty'),
        ({'rounds': 0}, 'at least 1'),
        ({'paper': 'table2'}, "config.paper = 'table2' is unknown"),
        ({'adapter': '@calm'}, 'only one of config.systems'),
        ({'systems.a b': {}}, "'a b' is no name"),
        ({'systems.calm': 3}, 'must hold fields, not 3'),
    ],
)
def test_systems_that_do_not_fit_together(cfg, changes, said):
  for name, value in changes.items():
    *groups, field = name.split('.')
    level = cfg
    for group in groups:
      level = level[group]
    with cfg.ignore_type():
      level[field] = value
  assert said in error(cfg)


def test_a_problem_of_all_is_told_once_and_others_by_system(cfg):
  cfg.sample.top_p = 2.0
  cfg.systems.sft.train.epochs = 0
  said = error(cfg)
  assert said.count('top_p') == 1
  assert 'system sft: config.train.epochs = 0' in said
  assert said.startswith('2 problems')


def test_flags_may_set_fields_that_a_system_has_not_yet(cfg):
  argv = [
      'main',
      '--config=x',
      '--config.systems.calm.train.beta=1',
      '--config.systems.calm.languages=en,fr',
      '--config.systems.calm.pair.rebuild=false',
      '--config.systems.calm.sample.slots=8',
      '--config.systems.sft.sample.slots=auto',
      '-config.systems.sft.data.path=a=b',
      '--config.seed=1',
  ]
  rest, found = systems.take_flags(argv)
  assert rest == ['main', '--config=x', '--config.seed=1']
  cfg.lock()
  systems.override(cfg, found)
  own = systems.expand(cfg)
  assert own['calm'].train.beta == 1.0
  assert isinstance(own['calm'].train.beta, float)
  assert own['calm'].languages == ('en', 'fr')
  assert own['calm'].pair.rebuild is False
  assert (own['calm'].sample.slots, own['sft'].sample.slots) == (8, 'auto')
  assert own['sft'].data.path == 'a=b'
  assert own['sft'].train.method == 'sft'  # what it had before


@pytest.mark.parametrize(
    ('flag', 'said'),
    [
        (
            'cal.seed=1',
            "systems.cal: there is no such system (did you mean 'ca",
        ),
        ('calm.sed=1', 'config.systems.calm.sed is no setting; did you mean'),
        ('calm.order=a', 'is of the whole run'),
    ],
)
def test_flags_of_no_system_or_field(cfg, flag, said):
  _, found = systems.take_flags([f'--config.systems.{flag}'])
  assert said in error(cfg, lambda c: systems.override(c, found))
