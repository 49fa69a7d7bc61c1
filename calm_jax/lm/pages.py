"""Memory on a CPU: what a step has freed, the next step gets back at once."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# Packages with which jax finds another device than the CPU.
_DEVICES = ('jax_plugins', 'libtpu')
_OWN_WAY = ('GLIBC_TUNABLES', 'MALLOC_ARENA_MAX', 'MALLOC_MMAP_MAX_')


def keep() -> bool:
  """Keeps freed memory in the process; call it before jax is imported.

  Each program takes its temporary arrays anew. Returned to the system between
  two steps, their pages cost 15 % of a training step to get and to clear.
  Nothing happens without glibc, with a device of its own memory, or where the
  environment sets up malloc already.
  """
  elsewhere = os.environ.get('JAX_PLATFORMS') != 'cpu' and any(
      importlib.util.find_spec(name) for name in _DEVICES
  )
  own_way = any(name in os.environ for name in _OWN_WAY)
  if elsewhere or own_way or platform.libc_ver()[0] != 'glibc':
    return False
  malloc = ctypes.CDLL(None).mallopt
  # All of it in one heap that only grows: other arenas are given back.
  wanted = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
  return all([malloc(name, value) == 1 for name, value in wanted])
