"""What fits on the devices that are here: slots, and what training keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import math
import os
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh

from calm_jax.lm import memory, sharding

AUTO = 'auto'

# Slots beyond which a device gains nothing: on an accelerator decoding is then
# bound by arithmetic, on a CPU the keys and values no longer fit in its cache.
_USEFUL, _USEFUL_CPU = 256, 48

# The part of free memory that is planned with where there is a choice: the
# planner is right within 15 %, and memory is never free in one piece.
_SAFE = 0.85


def room(mesh: Mesh) -> int | None:
  """Bytes that are free on the fullest device; None where nobody knows."""
  free = [_free(device) for device in mesh.local_devices]
  known = [size for size in free if size is not None]
  return min(known, default=None)


def fits(need: memory.Need, free: int, *, safely: bool) -> bool:
  """Whether there is room beside the weights, which are there already."""
  share = _SAFE if safely else 1.0
  return need.total - need.weights <= share * free


def beside(free: int) -> str:
  """How much room there is, for an error."""
  return f'{memory.gib(free)} GiB are free beside the weights'


def choose_slots(
    asked: int | str,
    need: Callable[[int], memory.Need],
    mesh: Mesh,
    *,
    samples: int,
    answers: int,
    free: int | None,
) -> int:
  """The number of slots: as asked, or as many as are of use and fit.

  It is a multiple of the mesh's rows and, where it is chosen here, of the
  samples of a prompt. `need` says what a number of slots takes, `free` how many
  bytes there are beside the weights, `answers` how many are wanted.

  Raises:
    ValueError: it does not fit.
  """
  parts = sharding.rows(mesh)
  if isinstance(asked, int):
    slots = -(-asked // parts) * parts
    if free is not None and not fits(need(slots), free, safely=False):
      raise ValueError(_too_many_slots(slots, need, mesh, samples, free))
    return slots
  unit = parts * samples
  cpu = mesh.devices.flat[0].platform == 'cpu'
  useful = _USEFUL_CPU if cpu else _USEFUL * parts
  most = max(1, min(useful // unit, -(-answers // unit)))
  if free is None:
    return most * unit
  count = memory.largest(
      lambda n: fits(need(n * unit), free, safely=True), most=most
  )
  if not count:
    raise ValueError(_too_many_slots(unit, need, mesh, samples, free))
  return count * unit


@contextlib.contextmanager
def explained(need: Callable[[], memory.Need], remedy: str) -> Iterator[None]:
  """Turns XLA's error for too little memory into one that says what to do.

  Raises:
    ValueError: memory ran out.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as e:
    if 'RESOURCE_EXHAUSTED' not in str(e):
      raise
    first = str(e).splitlines()[0]
    raise ValueError(
        f'the device ran out of memory ({first}); planned were {need()}.'
        f' {remedy}'
    ) from e


def _too_many_slots(
    slots: int,
    need: Callable[[int], memory.Need],
    mesh: Mesh,
    samples: int,
    free: int,
) -> str:
  parts = sharding.rows(mesh)
  best = parts * memory.largest(
      lambda n: fits(need(n * parts), free, safely=True), most=slots // parts
  )
  text = (
      f'sample.slots = {slots} does not fit: a device needs {need(slots)} and'
      f' {beside(free)}.'
  )
  if best >= samples:
    return f'{text} The largest number that fits is {best}'
  return (
      f'{text} The {samples} samples of one prompt need as many: use more'
      ' devices (mesh.fsdp or mesh.tensor), a smaller model, or fewer'
      ' max_new_tokens'
  )


def _free(device: Any) -> int | None:
  stats = device.memory_stats()
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit'] - stats['bytes_in_use']
  if device.platform != 'cpu':
    return None
  # Simulated devices share the machine's memory.
  return _machine() // jax.local_device_count()


def _machine() -> int:
  """Bytes that programs can still have on this machine, or in its group."""
  found = [math.inf]
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/meminfo').read_text().splitlines()
    fields = dict(line.split(':') for line in lines)
    found.append(1024 * int(fields['MemAvailable'].split()[0]))
  group = pathlib.Path('/sys/fs/cgroup')
  with contextlib.suppress(OSError, ValueError):  # 'max' is no number
    limit = int((group / 'memory.max').read_text())
    found.append(limit - int((group / 'memory.current').read_text()))
  if min(found) == math.inf:
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  return int(min(found))
