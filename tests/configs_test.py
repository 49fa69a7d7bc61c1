"""Tests of the configs that come with the project."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re

from absl import flags
from ml_collections import config_flags, ConfigDict
import pytest

from calm_jax import paper, settings, systems
from configs import base

FOLDER = pathlib.Path(base.__file__).parent
# With dots for folders; systems.py is no config, but what some of them share.
NAMES = sorted(
    '.'.join(path.relative_to(FOLDER).with_suffix('').parts)
    for path in FOLDER.rglob('*.py')
    if path.stem != 'systems'
)
VARIANTS = [name for name in NAMES if name != 'base']

# What only the user has: the weights and the data.
THEIRS = {'model', 'data.path', 'translate.backend', 'retrieve.corpus'}


def load(name):
  return importlib.import_module(f'configs.{name}')


@pytest.mark.parametrize('name', NAMES)
def test_it_is_right_but_for_what_only_the_user_has(name):
  cfg = load(name).get_config()
  members = systems.expand(cfg) or {'': cfg}
  found = [line for c in members.values() for line in settings.problems(c)]
  fields = {line.removeprefix('config.').split(' ')[0] for line in found}
  assert fields <= THEIRS, found


@pytest.mark.parametrize('name', VARIANTS)
def test_a_variant_edits_the_base_and_adds_no_field(name):
  cfg = load(name).get_config()
  cfg.systems = ConfigDict()  # their fields are checked above
  edited = settings.flatten(cfg)
  assert edited.keys() == settings.flatten(base.get_config()).keys()


@pytest.mark.parametrize('name', VARIANTS)
def test_a_variant_is_short_and_says_how_to_run_it(name):
  path = name.replace('.', '/')
  text = (FOLDER / f'{path}.py').read_text('utf-8')
  assert len(text.splitlines()) <= 60
  said = ast.get_docstring(ast.parse(text)) or ''
  assert 'python -m calm_jax.main' in said
  assert f'--config=configs/{path}.py' in said
  assert f'--workdir=runs/{name.rpartition(".")[2]}' in said


def test_a_papers_table_names_the_systems_of_its_config():
  shown = set()
  for name in VARIANTS:
    cfg = load(name).get_config()
    if cfg.paper:
      shown.add(cfg.paper)
      assert set(paper.TABLES[cfg.paper].reported) <= systems.expand(cfg).keys()
  assert shown == paper.TABLES.keys()


@pytest.mark.parametrize(
    'name', [name for name in NAMES if name.startswith('paper.')]
)
def test_a_papers_config_tells_the_numbers_and_the_hours(name):
  said = ' '.join((load(name).__doc__ or '').split())
  table = paper.TABLES[load(name).get_config().paper]
  numbers = {
      value
      for rows in (table.rows, *table.parts.values())
      for row in rows.values()
      for value in row.values()
  }
  assert numbers <= set(map(float, re.findall(r'\d+\.\d+', said)))
  assert 'A100' in said
  low, high, floor = re.findall(
      r'expect ([\d.]+) to ([\d.]+) hours \(floor ([\d.]+)\)', said
  )[0]
  assert 1.4 < float(low) / float(floor) < 1.7
  assert 2.2 < float(high) / float(floor) < 2.7
  assert numbers or 'stay blank' in said


def test_every_call_makes_a_new_config():
  base.get_config().sample.m = 99
  assert base.get_config().sample.m == 3


def test_the_papers_numbers():
  for name in ('xcsqa', 'xcsqa_mistral'):
    c = load(name).get_config()
    assert c.languages == ('ja', 'zh', 'fr', 'it', 'de', 'en')
    assert (c.sample.m, c.sample.temperature, c.sample.top_p) == (3, 1.0, 0.9)
    assert c.sample.max_new_tokens == 512
    assert c.sample.answer == 'free'
    assert (c.lora.rank, c.lora.alpha) == (8, 16.0)
    assert c.lora.targets == ('q_proj', 'v_proj')
    assert (c.train.method, c.train.beta) == ('dpo', 0.1)
    assert (c.train.learning_rate, c.train.epochs) == (5e-6, 3)
    assert (c.train.schedule, c.train.warmup_ratio) == ('cosine', 0.1)
    assert (c.train.batch_size, c.train.eval_batch_size) == (1, 2)
    assert (c.train.accumulation, c.train.clip_norm) == (8, 1.0)
    assert (c.pair.val_size, c.pair.positives) == (0.06, 'last')
    assert c.seed == 42


@pytest.mark.parametrize(('text', 'value'), [('48', 48), ('auto', 'auto')])
def test_slots_are_a_number_or_auto_on_the_command_line(text, value):
  values = flags.FlagValues()
  made = base.get_config()
  line = ['main', f'--config.sample.slots={text}']
  config_flags.DEFINE_config_dict(
      'config', made, flag_values=values, sys_argv=line
  )
  values(line)
  cfg = settings.normalise(values.config)
  assert cfg.sample.slots == value
  assert not [p for p in settings.problems(cfg) if 'slots' in p]
