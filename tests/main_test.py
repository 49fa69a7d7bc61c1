"""Tests of the command line, as a person meets it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TINY = '--config=configs/tiny.py'


@pytest.fixture
def workdir(tmp_path):
  return tmp_path / 'run'


def main(*arguments):
  return subprocess.run(
      [sys.executable, '-m', 'calm_jax.main', *map(str, arguments)],
      cwd=ROOT,
      env=os.environ | {'COLUMNS': '80'},
      capture_output=True,
      text=True,
      check=False,
  )


def test_help_says_how():
  done = main('--help')
  for text in (
      '--config=configs/demo.py --workdir=runs/demo',
      '--config.sample.m=5',
      '--stages',
      'read translate retrieve sample vote pair align',
      '--workdir',
  ):
    assert text in done.stdout


# Seconds of a processor, which others on the machine disturb less than clocks.
MOST_SECONDS = 3
HEAVY = {'jax', 'flax', 'orbax', 'optax', 'numpy', 'transformers', 'datasets'}


@pytest.mark.parametrize(
    'start',
    [
        'import calm_jax.main',
        "runpy.run_module('calm_jax.main', run_name='__main__')",
    ],
)
def test_it_starts_quickly_and_without_the_heavy_libraries(start):
  """Both to import and for --help, which ends by raising SystemExit."""
  script = f"""
import runpy, sys, time
sys.argv = ['main', '--help']
try:
  {start}
except SystemExit as e:
  assert not e.code or e.code == 1, e.code
loaded = {{name.partition('.')[0] for name in sys.modules}}
print('LOADED', time.process_time(), *sorted(loaded))
"""
  done = subprocess.run(
      [sys.executable, '-c', script],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  (line,) = (x for x in done.stdout.splitlines() if x.startswith('LOADED '))
  seconds, *loaded = line.split()[1:]
  assert 'calm_jax' in loaded
  assert not HEAVY.intersection(loaded)
  assert float(seconds) < MOST_SECONDS


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ([], 'Flag --config must have a value'),
        ([TINY], 'Flag --workdir must have a value'),
        ([TINY, '--workdir={}', 'sample'], "Unexpected arguments: ['sample']"),
        (
            [TINY, '--workdir={}', '--config.sample.temprature=0.5'],
            'config.sample.temprature is no setting; did you mean'
            ' config.sample.temperature?',
        ),
        (
            [TINY, '--workdir={}', '--config.samplee.m=5'],
            'config.samplee.m is no setting; did you mean config.sample.m?',
        ),
        (
            [TINY, '--workdir={}', '--noconfig.pair.rebuid'],
            'did you mean config.pair.rebuild?',
        ),
        ([TINY, '--workdir={}', '--workdri=x'], "flag 'workdri'. Did you mean"),
        ([TINY, '--workdir={}', '--config.sample.m=x'], '--config.sample.m=x'),
        (['--config=configs/none.py', '--workdir={}'], 'configs/none.py'),
        (
            [TINY, '--workdir={}', '--stages=read,sampel'],
            "'sampel' is no stage (did you mean 'sample'?)",
        ),
        (
            [TINY, '--workdir={}', '--config.model=gone/for/good'],
            "config.model = 'gone/for/good' is no folder here",
        ),
    ],
)
def test_a_mistake_is_told_without_a_traceback(workdir, arguments, said):
  done = main(*(a.replace('{}', str(workdir)) for a in arguments))
  assert done.returncode == 1
  assert said in done.stdout + done.stderr
  assert 'Traceback' not in done.stderr
  assert not workdir.exists()


def test_all_misspelt_fields_are_told_first(workdir):
  done = main(
      TINY,
      f'--workdir={workdir}',
      '--config.sample.m=abc',
      '--config.samplee.m=5',
      '--config.languagges=en',
  )
  assert done.returncode == 1
  assert done.stderr.splitlines() == [
      'ERROR: 2 problems in the settings:',
      '  config.samplee.m is no setting; did you mean config.sample.m?',
      '  config.languagges is no setting; did you mean config.languages?',
  ]


def test_a_value_of_another_type_costs_one_line(workdir):
  done = main(TINY, f'--workdir={workdir}', '--config.sample.m=abc')
  assert done.returncode == 1
  (line,) = (done.stdout + done.stderr).splitlines()
  assert line.startswith('ERROR: flag --config.sample.m=abc: invalid literal')


def fails_with(statement, *arguments):
  """What is said where a stage runs a statement."""
  script = f"""
import pathlib, sys
from absl import app
from calm_jax import experiment, main
from calm_jax.datasets import rows
def run(*_):
  {statement}
experiment.run = run
app.run(main.main, argv=['main', *sys.argv[1:]], flags_parser=main.parse)
"""
  command = [sys.executable, '-c', script, TINY, '--workdir=none', *arguments]
  done = subprocess.run(
      command, cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 1
  return done.stderr


@pytest.mark.parametrize(
    ('statement', 'said'),
    [
        ('pathlib.Path("gone/x").read_text()', "No such file or directory: 'g"),
        (
            'list(rows.read(pathlib.Path("{}/bad.jsonl")))',
            'bad.jsonl:2: Expecting',
        ),
        ('raise FloatingPointError("the loss is nan")', 'the loss is nan'),
        ('raise OSError("No space left")', 'No space left'),
    ],
)
def test_what_the_user_can_mend_has_its_traceback_on_demand(
    tmp_path, statement, said
):
  (tmp_path / 'bad.jsonl').write_text('{}\n{"id": \n')
  statement = statement.replace('{}', str(tmp_path))
  (line,) = fails_with(statement).splitlines()
  assert line.startswith('ERROR: ')
  assert said in line
  assert line.endswith(' (--verbosity=1 shows the traceback)')
  assert 'Traceback' in fails_with(statement, '--verbosity=1')


@pytest.mark.parametrize(
    'statement',
    [
        '{}["x"]',
        'None.x',
        'len(3)',
        '[][0]',
        'import json; json.loads("{")',  # a ValueError of a library
    ],
)
def test_what_only_a_programmer_can_mend_keeps_its_traceback(statement):
  assert 'Traceback' in fails_with(statement)


def test_a_workdir_that_is_a_file_is_told(tmp_path):
  for name in ('config.json', 'model.safetensors', 'tokenizer.json'):
    (tmp_path / name).touch()
  for path in (tmp_path / 'config.json', tmp_path / 'config.json' / 'run'):
    done = main(TINY, f'--workdir={path}', f'--config.model={tmp_path}')
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'ERROR: --workdir={path} cannot be a folder')


def test_all_mistakes_are_told(workdir):
  done = main(
      TINY,
      f'--workdir={workdir}',
      '--config.sample.top_p=nan',
      '--config.languages=en,xx',
      '--config.train.epochs=0',
  )
  assert done.returncode == 1
  assert done.stderr.startswith('ERROR: 4 problems in the settings:')
  for field in ('model', 'languages', 'sample.top_p', 'train.epochs'):
    assert f'config.{field} = ' in done.stderr


def test_a_mistake_inside_a_config_file_keeps_its_traceback(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(
      'from configs import base\n'
      'def get_config():\n'
      '  c = base.get_config()\n'
      '  c.sampel.m = 5\n'
      '  return c\n'
  )
  done = main(f'--config={path}', f'--workdir={tmp_path / "run"}')
  assert done.returncode == 1
  assert 'c.sampel.m = 5' in done.stderr
  assert 'Did you mean' in done.stderr


def test_a_folder_in_use_is_told(workdir, tmp_path):
  from calm_jax import guard

  for name in ('config.json', 'model.safetensors', 'tokenizer.json'):
    (tmp_path / name).touch()
  with guard.locked(workdir):
    done = main(TINY, f'--workdir={workdir}', f'--config.model={tmp_path}')
  assert done.returncode == 1
  assert f'in use by process {os.getpid()}' in done.stderr
  assert 'Traceback' not in done.stderr


def test_libraries_speak_only_when_asked(workdir):
  script = """
import logging, sys
from absl import app
from calm_jax import experiment, main
def run(*_):
  logging.getLogger('jax').info('a note')
  logging.getLogger('jax').warning('a warning')
experiment.run = run
app.run(main.main, argv=['main', *sys.argv[1:]], flags_parser=main.parse)
"""

  def said(*flags):
    command = [sys.executable, '-c', script, TINY, f'--workdir={workdir}']
    done = subprocess.run(
        [*command, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr

  assert 'a note' not in said()
  assert 'a warning' in said()
  assert 'a note' in said('--verbosity=0')
