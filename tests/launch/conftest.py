"""Stand-ins for the clusters' commands, and the scripts that call them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'


@pytest.fixture
def stubs(tmp_path):
  """The folder of the stand-ins."""
  folder = tmp_path / 'stubs'
  folder.mkdir()
  return folder


@pytest.fixture
def stub():
  """Makes an executable of bash; returns its path."""

  def make(folder, name, text):
    path = folder / name
    path.write_text(f'#!/usr/bin/env bash\n{text.strip()}\n')
    path.chmod(0o755)
    return str(path)

  return make


@pytest.fixture
def environment(stubs):
  """The environment of a script, with the stand-ins before all else."""

  def make(**variables):
    path = f'{stubs}{os.pathsep}{os.environ["PATH"]}'
    kept = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
    return kept | {'PATH': path, 'STUBS': str(stubs)} | variables

  return make


@pytest.fixture
def launch():
  """Runs a script to its end."""

  def run(script, *arguments, env, timeout=150):
    return subprocess.run(
        [LAUNCH / script, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )

  return run


@pytest.fixture
def wait_for():
  """Waits until all paths exist."""

  def wait(*paths):
    deadline = time.monotonic() + 30
    while not all(path.exists() for path in paths):
      assert time.monotonic() < deadline, paths
      time.sleep(0.02)

  return wait
