"""30 of the authors' MEDQA questions through every stage, on a real model.

The questions are the authors' in English, Chinese and French; the model itself
translates the explanations. One passage stands beside each question and an
answer has 8 tokens: a second passage would double three stages that take a
minute or two each. Of the pairs one question's are held out.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tools import add_reflection_tokens

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]
SMALL = ROOT / 'models' / 'smollm2-135m-instruct'


def test_real_questions_go_through_every_stage(tmp_path, medical, left):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  if not SMALL.is_dir():
    pytest.skip(f'{SMALL} is not here: python -m tools.fetch_demo_model')
  add_reflection_tokens.add(SMALL, tmp_path / 'model', seed=0)
  cfg = medical.config(tmp_path / 'model')
  cfg.sample.slots = 32
  cfg.evaluate.before = True
  cfg.pair.val_size = 0.4  # few questions have pairs
  file = tmp_path / 'config.py'
  file.write_text(
      'from ml_collections import ConfigDict\n'
      f'get_config = lambda: ConfigDict({cfg.to_dict()!r})\n'
  )
  # By itself, since tests compile without optimisation.
  subprocess.run(
      [
          *(sys.executable, '-m', 'calm_jax.main'),
          f'--config={file}',
          f'--workdir={tmp_path / "run"}',
      ],
      cwd=ROOT,
      env={k: v for k, v in os.environ.items() if not k.startswith('XLA')},
      check=True,
  )
  medical.check(cfg, tmp_path / 'run')
  _check_what_more_there_is(left(tmp_path / 'run'))


def _check_what_more_there_is(run):
  """A validation, both evaluations, and translations that came to no end."""
  paired = run.counts('pair')
  assert paired['train'] >= 1
  assert paired['val'] >= 1
  text = (run.folder / 'align' / 'metrics.jsonl').read_text('utf-8')
  lines = [json.loads(line) for line in text.splitlines()]
  (validated,) = (row for row in lines if row['split'] == 'val')
  assert 0.5 < validated['loss'] < 1.0
  for system in ('base', 'aligned'):
    assert len(run.reflections(f'evaluate/{system}')) == 90
  # Some of its translations reached their limit: no pair was made of those,
  # and none is kept.
  assert 1 <= paired['cut_translations'] <= paired['untranslated']
  assert paired['rejected'] == paired['rows'] + paired['untranslated']
  cache = run.folder / 'translations' / 'model.jsonl'
  kept = cache.read_text('utf-8').splitlines()
  assert 1 <= len(kept) <= paired['rows']
