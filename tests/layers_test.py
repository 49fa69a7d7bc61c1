"""Imports go one way; what is light stays light."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'calm_jax'

# A module may import itself (the package it is in) and any layer before its
# own; the modules of one layer never import each other.
LAYERS = (
    ('records', 'console'),
    ('formats', 'guard', 'lookup', 'paper'),
    ('lm', 'qa', 'html'),
    ('datasets', 'translators', 'retrieval', 'asking'),
    ('generation', 'training_data', 'training_settings'),
    ('reflection_tokens', 'wording'),
    ('reflection',),
    ('rules', 'combinations', 'needs', 'monitor'),
    ('settings',),
    ('systems',),
    ('ledger',),
    (
        'read',
        'translate',
        'retrieve',
        'sample',
        'vote',
        'pair',
        'align',
        'evaluate',
        'report',
        'compare',
    ),
    ('stages',),
    ('pipeline',),
    ('experiment',),
    ('main',),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

# The models' library may serve other projects: beside itself it knows these.
LM_KNOWS = {'lm', 'records', 'console'}

LIGHT = (
    'records',
    'console',
    'formats',
    'guard',
    'lookup',
    'qa',
    'html',
    'datasets',
    'translators',
    'retrieval',
    'rules',
    'combinations',
    'needs',
    'settings',
    'systems',
    'ledger',
    'read',
    'translate',
    'retrieve',
    'vote',
    'pair',
    'wording',
    'report',
    'compare',
    'stages',
    'pipeline',
    'experiment',
    'main',
)
HEAVY = ('jax', 'flax', 'optax', 'orbax', 'transformers', 'datasets', 'torch')


def files():
  return sorted(PACKAGE.rglob('*.py'))


def unit(path):
  """What a file belongs to: calm_jax/qa/answers.py is of qa."""
  return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imported(tree):
  """Every calm_jax module that a file names, lazy imports included."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'line {node.lineno}: a relative import'
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      # importlib.import_module('calm_jax.lm.weights')
      if re.fullmatch(r'calm_jax(\.\w+)+', node.value):
        yield node.value


def units_imported(path):
  names = imported(ast.parse(path.read_text('utf-8')))
  parts = (name.split('.') for name in names)
  return {p[1] for p in parts if p[0] == 'calm_jax' and len(p) > 1}


def offences(path):
  me = unit(path)
  for other in units_imported(path) - {me, '__version__'}:
    if RANK.get(other, len(LAYERS)) >= RANK[me]:
      yield f'{path.relative_to(ROOT)} imports {other}'
    elif me == 'lm' and other not in LM_KNOWS:
      yield f'{path.relative_to(ROOT)} imports {other}: lm knows nothing of it'


def test_every_module_has_a_layer():
  unknown = {unit(path) for path in files()} - RANK.keys() - {'__init__'}
  assert not unknown, f'give {sorted(unknown)} a place in LAYERS'


def test_imports_go_one_way():
  paths = [path for path in files() if unit(path) in RANK]
  found = [offence for path in paths for offence in offences(path)]
  assert not found, '\n'.join(found)


def test_the_package_itself_imports_nothing():
  tree = ast.parse((PACKAGE / '__init__.py').read_text('utf-8'))
  assert list(imported(tree)) == []


def test_the_package_stands_alone():
  for path in files():
    names = set(imported(ast.parse(path.read_text('utf-8'))))
    outer = {name.split('.')[0] for name in names}
    assert not outer & {'tools', 'configs', 'tests', 'launch'}, path


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('vote.py', 'from calm_jax import pair'),
        ('vote.py', 'from calm_jax import records, pair'),
        ('vote.py', 'from calm_jax.pair import run'),
        ('vote.py', 'import calm_jax.pair'),
        ('vote.py', 'def f():\n  from calm_jax import pipeline'),
        ('vote.py', "importlib.import_module('calm_jax.pair')"),
        ('qa/answers.py', 'from calm_jax.lm import tokenizer'),
        ('lm/sampler.py', 'from calm_jax import qa'),
        ('lm/sampler.py', 'from calm_jax import formats'),
        ('records.py', 'from calm_jax import console'),
        ('settings.py', 'from calm_jax import read'),
    ],
)
def test_offences_are_seen(tmp_path, monkeypatch, file, text):
  monkeypatch.setitem(globals(), 'PACKAGE', tmp_path / 'calm_jax')
  monkeypatch.setitem(globals(), 'ROOT', tmp_path)
  path = tmp_path / 'calm_jax' / file
  path.parent.mkdir(parents=True)
  path.write_text(text)
  assert len(list(offences(path))) == 1


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('vote.py', 'from calm_jax import records\nfrom calm_jax.qa import m'),
        ('qa/answers.py', 'from calm_jax.qa import languages'),
        ('lm/sampler.py', 'from calm_jax import console, lm'),
        ('ledger.py', 'import calm_jax\nfrom calm_jax import settings'),
    ],
)
def test_good_imports_are_no_offences(tmp_path, monkeypatch, file, text):
  monkeypatch.setitem(globals(), 'PACKAGE', tmp_path / 'calm_jax')
  monkeypatch.setitem(globals(), 'ROOT', tmp_path)
  path = tmp_path / 'calm_jax' / file
  path.parent.mkdir(parents=True)
  path.write_text(text)
  assert list(offences(path)) == []


def test_what_is_light_loads_nothing_heavy():
  names = [
      '.'.join(('calm_jax', *path.relative_to(PACKAGE).with_suffix('').parts))
      for path in files()
      if unit(path) in LIGHT
  ]
  names = [name.removesuffix('.__init__') for name in names]
  script = f"""
import importlib, sys
for name in {names!r}:
  importlib.import_module(name)
  heavy = [h for h in {HEAVY!r} if h in sys.modules]
  assert not heavy, f'{{name}} loads {{heavy}}'
"""
  done = subprocess.run(
      [sys.executable, '-c', script],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  assert len(names) > len(LIGHT) // 2
