"""Strictness for every test: warnings fail, ranks never promote silently."""

import os
import pathlib

# Before jax is imported anywhere: four CPU devices for the mesh tests.
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=4')
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')
os.environ.setdefault('HF_HUB_OFFLINE', '1')

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='session')
def real_data() -> pathlib.Path:
  """The folder of real data beside a checkout, where there is one."""
  folder = ROOT.parent / 'shared' / 'data'
  if not folder.is_dir():
    pytest.skip('the real data (../shared/data) is not on this machine')
  return folder
