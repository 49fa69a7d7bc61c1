"""Freed memory stays, in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc'
)

# MiB that the process still has of 200 that it freed.
PROGRAM = """
import pathlib
from calm_jax.lm import pages
def resident():
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  (line,) = (x for x in lines if x.startswith('VmRSS:'))
  return int(line.split()[1]) // 1024
kept = pages.keep()
before = resident()
memory = bytearray(b'x' * (200 << 20))
del memory
print(kept, resident() - before)
"""


def left_over(**environment):
  done = subprocess.run(
      [sys.executable, '-c', PROGRAM],
      env=os.environ | {'JAX_PLATFORMS': 'cpu'} | environment,
      capture_output=True,
      text=True,
      check=True,
  )
  kept, mebibytes = done.stdout.split()
  return kept == 'True', int(mebibytes)


def test_freed_memory_stays():
  kept, mebibytes = left_over()
  assert kept
  assert mebibytes >= 200


def test_who_sets_up_malloc_has_his_way():
  kept, mebibytes = left_over(MALLOC_ARENA_MAX='2')
  assert not kept
  assert mebibytes < 50
