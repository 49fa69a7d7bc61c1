"""30 of the authors' MEDQA questions through every stage, on a real model.

The questions are the authors' in English, Chinese and French; the model itself
translates the explanations.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tools import add_reflection_tokens

pytestmark = pytest.mark.slow
ROOT = pathlib.Path(__file__).parents[2]
SMALL = ROOT / 'models' / 'smollm2-135m-instruct'


def test_real_questions_go_through_every_stage(tmp_path, medical):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  if not SMALL.is_dir():
    pytest.skip(f'{SMALL} is not here: python -m tools.fetch_demo_model')
  add_reflection_tokens.add(SMALL, tmp_path / 'model', seed=0)
  cfg = medical.config(tmp_path / 'model')
  cfg.sample.slots = 32
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
