"""From the runs of a benchmark to medians, ratios and a few lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import statistics
import sys
from typing import Any

import calm_jax
from tools import benchmark_work as work

Result = Mapping[str, Any]


def summary(runs: Sequence[work.Run], unit: str) -> dict[str, Any]:
  """The medians of a side in `unit` ('tokens', 'pairs'), and its runs."""
  rates = [r.rate for r in runs]
  found = {
      f'{unit}_per_second': statistics.median(rates),
      f'{unit}_per_cpu_second': statistics.median(
          r.done / r.cpu_seconds for r in runs
      ),
      'spread': [min(rates), max(rates)],
  }
  if 'tokens' in runs[0].details:
    found['tokens_per_second'] = statistics.median(
        r.details['tokens'] / r.seconds for r in runs
    )
  for name in runs[0].details:
    found[name] = statistics.median(r.details[name] for r in runs)
  found['runs'] = [
      {'seconds': r.seconds, 'cpu_seconds': r.cpu_seconds, 'done': r.done}
      for r in runs
  ]
  return found


def ratios(
    ours: Sequence[work.Run], theirs: Sequence[work.Run]
) -> dict[str, Any]:
  """Ours / theirs, higher is better: of each turn, then the median."""
  turns = list(zip(ours, theirs, strict=True))
  wall = [a.rate / b.rate for a, b in turns]
  cpu = [a.done / a.cpu_seconds * b.cpu_seconds / b.done for a, b in turns]
  return {
      'ratio': statistics.median(wall),
      'ratio_spread': [min(wall), max(wall)],
      'ratio_of_cpu_seconds': statistics.median(cpu),
  }


def provenance(module: str, packages: Iterable[str]) -> dict[str, Any]:
  """When, where, by which command and with which versions it was made."""
  return {
      'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
      'command': shlex.join(
          ['python', '-m', module, *map(_portable, sys.argv[1:])]
      ),
      'versions': {'python': platform.python_version()}
      | {name: _version(name) for name in packages},
      'machine': {
          'platform': platform.platform(),
          'cores': os.cpu_count(),
          'cores_used': len(os.sched_getaffinity(0)),
          # Of the last minute: above the cores used, others ran beside.
          'load': os.getloadavg()[0],
      },
  }


def _portable(argument: str) -> str:
  """Of a path that only this machine has, its last part."""
  name, equals, value = argument.partition('=')
  if not value.startswith('/'):
    return argument
  return name + equals + pathlib.PurePath(value).name


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    # From a checkout on PYTHONPATH, which no pip knows of.
    return calm_jax.__version__ if package == 'calm_jax' else 'unknown'


def lines(result: Result) -> Iterator[str]:
  """What a person wants to know of it."""
  device, compiled = result['device'], result['compilations']
  yield (
      f'{result["job"]}, {result["model"]}, {result["dtype"]}, on'
      f' {device["name"]}: {device["bandwidth"] / 1e9:.4g} GB/s,'
      f' {device["matmul_rate"] / 1e9:.4g} GFLOP/s'
  )
  for name in ('ours', 'theirs'):
    if name in result:
      yield f'{name}: {_side(result[name])}'
  yield (
      f'compiled: {compiled["count"]} programs in {compiled["seconds"]:.1f} s,'
      f' {compiled["cache_hits"]} from the cache;'
      f' {result["compilations_while_measured"]["count"]} more while measured'
  )
  yield 'start-up: ' + ', '.join(
      f'{name} {seconds:.1f} s'
      for name, seconds in result['startup_seconds'].items()
  )
  yield f'roofline: {result["ours"]["roofline"]:.1%}'
  if 'ratio' in result:
    low, high = result['ratio_spread']
    yield (
        f'ratio: {result["ratio"]:.2f} ({low:.2f} to {high:.2f}), by CPU'
        f' seconds {result["ratio_of_cpu_seconds"]:.2f}'
    )


def _side(side: Result) -> str:
  parts = [
      f'{value:.4g} {name.replace("_per_", "/").replace("_", " ")}'
      for name, value in side.items()
      if '_per_' in name
  ]
  for name in ('slot_utilisation', 'padding'):
    if name in side:
      parts.append(f'{name.replace("_", " ")} {side[name]:.1%}')
  if 'batch' in side:
    parts.append(f'batch {side["batch"]:.0f}')
  parts.append(f'peak memory {side["peak_memory_bytes"] / 1e9:.2f} GB')
  return ', '.join(parts)
