"""Whether one model gives the same numbers however its devices are arranged.

python -m tools.mesh_check --json=mesh.json

On 8 simulated CPU devices, in float32, with a small random model: losses,
gradients, factors, reference log-probabilities and samples of meshes
(data, fsdp, tensor) against those of one device, and training that goes on from
a checkpoint on another mesh. Prints a table; its numbers are the largest
differences, relative to the largest number of their kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import importlib.metadata
import json
import os
import pathlib
import tempfile
from typing import Any, TYPE_CHECKING

import numpy as np

from calm_jax import console, records

if TYPE_CHECKING:
  from tools import mesh_work

DEVICES = 8
ONE = (1, 1, 1)
MESHES = ((8, 1, 1), (2, 4, 1), (2, 2, 2))


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m tools.mesh_check', description=(__doc__ or '').strip()
  )
  parser.add_argument('--json', type=pathlib.Path, help='file to write')
  args = parser.parse_args(argv)
  # Before jax is imported.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  flags = (
      f'--xla_force_host_platform_device_count={DEVICES}',
      # Most of the time is compilation.
      '--xla_backend_optimization_level=0',
      '--xla_llvm_disable_expensive_passes=true',
  )
  os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *flags])
  found = measure()
  for line in table(found):
    console.say(line)
  if args.json:
    records.write_text(args.json, json.dumps(found, indent=2) + '\n')


def measure() -> dict[str, Any]:
  """Differences by mesh, and of goings-on by where they go on."""
  # Late: jax reads the number of devices from the environment.
  from tools import mesh_work

  bench = mesh_work.Bench()
  one = bench.run(ONE)
  meshes = {str(m): _differences(bench.run(m), one) for m in MESHES}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name) / 'checkpoints'
    losses, saved = bench.save(folder, MESHES[0])
    resumed = {
        str(mesh): bench.resume(folder, mesh, losses, saved)
        for mesh in (ONE, MESHES[2])
    }
  return {
      'jax': importlib.metadata.version('jax'),
      'losses': one.losses,
      'drawn': len(one.logprobs),
      'meshes': meshes,
      'resumed': resumed,
  }


def table(found: Mapping[str, Any]) -> list[str]:
  """Markdown."""
  columns = list(next(iter(found['meshes'].values())))
  lines = [
      f'| mesh | {" | ".join(columns)} |',
      '|---' * (len(columns) + 1) + '|',
  ]
  for mesh, row in found['meshes'].items():
    lines.append(f'| {mesh} | {" | ".join(_cell(row[c]) for c in columns)} |')
  lines += ['', '| saved on (8, 1, 1), goes on on | factors | losses |']
  lines.append('|---|---|---|')
  for mesh, row in found['resumed'].items():
    same = 'equal bits' if row['equal_bits'] else 'DIFFER'
    lines.append(f'| {mesh} | {same} | {_cell(row["losses"])} |')
  return lines


def _differences(
    result: mesh_work.Result, one: mesh_work.Result
) -> dict[str, Any]:
  pairs = zip(result.samples, one.samples, strict=True)
  return {
      'losses': _relative([result.losses], [one.losses]),
      'gradients': _relative(result.gradient, one.gradient),
      'factors': _relative(result.factors, one.factors),
      'reference': _relative([result.reference], [one.reference]),
      'sample log-probabilities': _relative([result.logprobs], [one.logprobs]),
      'other samples': sum(a != b for a, b in pairs),
  }


def _relative(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
  """The largest difference, as a part of the largest number."""
  pairs = [
      (np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)
  ]
  worst = max(float(np.abs(a - b).max()) for a, b in pairs)
  return worst / max(float(np.abs(b).max()) for _, b in pairs)


def _cell(value: float) -> str:
  return str(value) if isinstance(value, int) else f'{value:.1e}'


if __name__ == '__main__':
  main()
