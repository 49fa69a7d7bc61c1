"""Compiled programs on disk: the next run does not wait for them again."""

from __future__ import annotations

import os
import pathlib
import platform

# Seconds of compilation that are worth a file.
_LEAST = '0.5'


def keep() -> None:
  """Tells JAX, before it is imported, where to keep what it compiles.

  That is calm_jax/xla/HOST in the user's cache folder, by host because what is
  compiled for one CPU may not run on another. JAX's own variables, where they
  are set, have their way: JAX_ENABLE_COMPILATION_CACHE=false turns it off.
  """
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  folder = pathlib.Path(home).expanduser() / 'calm_jax' / 'xla'
  folder /= platform.node() or 'host'
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', _LEAST)
