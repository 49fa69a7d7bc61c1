"""Where compiled programs are kept."""

from __future__ import annotations

import os

import pytest

from calm_jax.lm import compilation

NAMES = (
    'JAX_COMPILATION_CACHE_DIR',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS',
)


@pytest.fixture(autouse=True)
def _restored(monkeypatch, tmp_path):
  for name in NAMES:
    # Set first, so that what the test leaves behind is undone.
    monkeypatch.setenv(name, '')
    monkeypatch.delenv(name)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


def test_programs_are_kept_in_the_users_cache(tmp_path):
  compilation.keep()
  folder = os.environ['JAX_COMPILATION_CACHE_DIR']
  assert folder.startswith(str(tmp_path / 'calm_jax' / 'xla'))


def test_another_host_has_another_folder(monkeypatch):
  compilation.keep()
  here = os.environ.pop('JAX_COMPILATION_CACHE_DIR')
  monkeypatch.setattr(compilation.platform, 'node', lambda: 'elsewhere')
  compilation.keep()
  assert os.environ['JAX_COMPILATION_CACHE_DIR'] != here


def test_the_users_own_choice_stays(monkeypatch):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '/mine')
  compilation.keep()
  assert os.environ['JAX_COMPILATION_CACHE_DIR'] == '/mine'
