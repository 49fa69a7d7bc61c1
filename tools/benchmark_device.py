"""What a device can do, and what was asked of it: by trying and listening."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import time
from typing import Any

import jax
import jax.monitoring
import jax.numpy as jnp

from calm_jax.lm import roofline
from tools import benchmark_work as work


class Compilations:
  """How often XLA compiled from here on, for how long, and what was cached."""

  def __init__(self):
    self.count, self.seconds, self.cache_hits = 0, 0.0, 0
    jax.monitoring.register_event_duration_secs_listener(self._spent)
    jax.monitoring.register_event_listener(self._seen)

  def summary(self) -> dict[str, float]:
    return {
        'count': self.count,
        'seconds': self.seconds,
        'cache_hits': self.cache_hits,
    }

  def _spent(self, event: str, duration_secs: float, **_: Any) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      self.count += 1
      self.seconds += duration_secs

  def _seen(self, event: str, **_: Any) -> None:
    self.cache_hits += event == '/jax/compilation_cache/cache_hits'


def check(platform: str) -> None:
  """Raises ValueError where jax does not use `platform` ('cpu', 'gpu')."""
  found = jax.devices()[0]
  if found.platform != platform:
    raise ValueError(
        f'--device={platform}: jax found {found.platform} only; the extras'
        ' cuda12 and cuda13 install jax for GPUs'
    )


def measure_device(dtype: str) -> roofline.Device:
  """Memory bandwidth and matmul rate of the first device, by trying."""
  device = jax.devices()[0]
  on_cpu = device.platform == 'cpu'
  bandwidth = _copy_rate((1 << 26) if on_cpu else (1 << 29))
  rate = _matmul_rate(1024 if on_cpu else 8192, 2 if on_cpu else 16, dtype)
  itemsize = jnp.dtype(dtype).itemsize
  return roofline.Device(device.device_kind, bandwidth, rate, itemsize)


def best(a: roofline.Device, b: roofline.Device) -> roofline.Device:
  """What a device can do, measured twice: others may have disturbed once."""
  return dataclasses.replace(
      a,
      bandwidth=max(a.bandwidth, b.bandwidth),
      matmul_rate=max(a.matmul_rate, b.matmul_rate),
  )


def peak_memory() -> int:
  """Bytes: of the device, or of this process where the device is the CPU."""
  stats = jax.devices()[0].memory_stats()
  if stats:
    return stats['peak_bytes_in_use']
  return work.peak_resident()


def _copy_rate(count: int) -> float:
  # Integers: on CPU adding in bfloat16 takes longer than reading it.
  x = jnp.ones(count, jnp.uint32)
  # In place: on CPU fresh pages would cost more than the copy.
  add = jax.jit(lambda x: x + 1, donate_argnums=0)

  def copy():
    nonlocal x
    x = add(x)
    return x

  return 2 * x.nbytes / _best(copy)


def _matmul_rate(size: int, repeats: int, dtype: str) -> float:
  w = jnp.full((size, size), 1 / size, dtype)

  @jax.jit
  def multiply(x):
    for _ in range(repeats):
      x = jnp.dot(x, w, preferred_element_type=jnp.float32).astype(dtype)
    return x

  return repeats * 2 * size**3 / _best(lambda: multiply(w))


def _best(function: Callable[[], Any], repeats: int = 8) -> float:
  jax.block_until_ready(function())
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(function())
    seconds.append(time.perf_counter() - start)
  return min(seconds)
