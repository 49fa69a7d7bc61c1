"""Whether several processes come to the results of one.

  python -m tools.hosts_check --config=configs/demo.py --config.limit=4

Runs all stages twice on this machine's CPU: in one process with two simulated
devices, and in two processes with one device each, which meet through
jax.distributed. Then compares what the stages wrote, record by record. Flags
that are not listed here go to calm_jax.main.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
import json
import math
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import numpy as np
from safetensors import numpy as safetensors

from calm_jax import console

TOLERANCE = 1e-5
# What is compared, and the fields of it that say how fast the machine was.
RECORDS = (
    'read/*.jsonl',
    'translate/*.jsonl',
    'sample/*.jsonl',
    'vote/votes.jsonl',
    'pair/train.jsonl',
    'pair/val.jsonl',
    'align/metrics.jsonl',
    'evaluate/base/*.jsonl',
    'evaluate/aligned/*.jsonl',
    'evaluate/scores.jsonl',
)
_TIMES = ('tokens_per_second',)
_ADAPTER = 'align/adapter/adapter_model.safetensors'
_ROOT = pathlib.Path(__file__).parent.parent
_DEVICES = '--xla_force_host_platform_device_count='


class Row(NamedTuple):
  """How the results of one kind compare."""

  what: str
  records: int
  same: int  # of them: every character, but for times
  difference: float  # of numbers, beyond 1 relative; infinite: not a number's

  @property
  def sound(self) -> bool:
    return self.difference <= TOLERANCE


def main(argv: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m tools.hosts_check',
      description=(__doc__ or '').strip(),
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,
  )
  parser.add_argument('--processes', type=int, default=2, metavar='N')
  parser.add_argument(
      '--workdir', type=pathlib.Path, help='keeps both runs: one/ and several/'
  )
  args, flags = parser.parse_known_args(argv)
  with tempfile.TemporaryDirectory() as temporary:
    workdir = args.workdir or pathlib.Path(temporary)
    one, several = workdir / 'one', workdir / 'several'
    _timed(start(flags, one, processes=1, devices=args.processes))
    _timed(start(flags, several, processes=args.processes, devices=1))
    rows = list(compare(one, several))
  for line in table(rows):
    console.say(line)
  return 0 if all(row.sound for row in rows) else 1


def start(
    flags: Sequence[str],
    workdir: pathlib.Path,
    *,
    processes: int,
    devices: int,
    environment: Mapping[str, str] | None = None,
) -> list[subprocess.Popen[str]]:
  """The processes of a run of calm_jax.main, each with so many devices."""
  command = [sys.executable, '-m', 'calm_jax.main', *flags]
  command.append(f'--workdir={workdir}')
  found = os.environ.get('XLA_FLAGS', '').split()
  kept = [flag for flag in found if not flag.startswith(_DEVICES)]
  changed = {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': ' '.join([*kept, f'{_DEVICES}{devices}']),
  }
  meet = [f'--coordinator={_free_address()}', f'--num_processes={processes}']
  return [
      subprocess.Popen(
          command + [*meet, f'--process_id={index}'] * (processes > 1),
          cwd=_ROOT,
          env={**os.environ, **changed, **(environment or {})},
          stdout=subprocess.PIPE,
          stderr=subprocess.PIPE,
          text=True,
      )
      for index in range(processes)
  ]


def finish(
    started: Sequence[subprocess.Popen[str]],
    *,
    status: int = 0,
    patience: float | None = None,
) -> list[tuple[str, str]]:
  """What each process printed, and its errors, once all have ended.

  Raises:
    RuntimeError: one of them ended with another status.
  """
  try:
    said = [process.communicate(timeout=patience) for process in started]
  finally:
    for process in started:
      process.kill()
  ended = [process.returncode for process in started]
  if set(ended) != {status}:
    text = '\n'.join(f'{out}\n{err}' for out, err in said)
    raise RuntimeError(f'status {ended} in place of {status}:\n{text}')
  # How the devices of several processes talk is said by a library.
  ours = lambda text: re.sub(r'^\[Gloo\].*\n', '', text, flags=re.MULTILINE)
  return [(ours(out), err) for out, err in said]


def compare(one: pathlib.Path, other: pathlib.Path) -> Iterator[Row]:
  """The results of two runs that should be the same."""
  for pattern in RECORDS:
    yield _compared(pattern, _records(one, pattern), _records(other, pattern))
  ours, theirs = _adapter(one), _adapter(other)
  if ours or theirs:
    yield _compared(_ADAPTER, ours, theirs)


def difference(one: Any, other: Any) -> float:
  """Of all numbers in two values the largest; infinite where aught else is."""
  if isinstance(one, dict) and isinstance(other, dict):
    if one.keys() != other.keys():
      return math.inf
    return max((difference(one[k], other[k]) for k in one), default=0.0)
  if isinstance(one, list) and isinstance(other, list):
    if len(one) != len(other):
      return math.inf
    return max(map(difference, one, other), default=0.0)
  if one == other:
    return 0.0
  if not (isinstance(one, float) and isinstance(other, float)):
    return math.inf
  found = abs(one - other) / max(1.0, abs(other))
  return math.inf if math.isnan(found) else found


def table(rows: Sequence[Row]) -> list[str]:
  """Markdown."""
  lines = ['| what | records | the same | largest difference |', '|---' * 4]
  lines[1] += '|'
  for row in rows:
    found = '0' if not row.difference else f'{row.difference:.1e}'
    mark = '' if row.sound else ' DIFFERS'
    lines.append(f'| {row.what} | {row.records} | {row.same} | {found}{mark} |')
  return lines


def _timed(started: Sequence[subprocess.Popen[str]]) -> None:
  begun = time.monotonic()
  finish(started)
  seconds = time.monotonic() - begun
  console.say(f'{len(started)} process(es): {seconds:.0f} s')


def _free_address() -> str:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return f'localhost:{s.getsockname()[1]}'


def _records(workdir: pathlib.Path, pattern: str) -> list[dict[str, Any]]:
  """The records of all its files, in an order that no number decides."""
  found = []
  for path in workdir.glob(pattern):
    for line in path.read_text('utf-8').splitlines():
      record = json.loads(line)
      found.append({k: v for k, v in record.items() if k not in _TIMES})
  return sorted(found, key=lambda x: json.dumps(_without_floats(x)))


def _without_floats(value: Any) -> Any:
  if isinstance(value, dict):
    return {k: _without_floats(v) for k, v in value.items()}
  return None if isinstance(value, float) else value


def _adapter(workdir: pathlib.Path) -> list[dict[str, Any]]:
  path = workdir / _ADAPTER
  if not path.exists():
    return []
  factors = safetensors.load_file(path)
  return [
      {'name': name, 'values': np.ravel(factors[name]).tolist()}
      for name in sorted(factors)
  ]


def _compared(what: str, one: list[Any], other: list[Any]) -> Row:
  same = sum(a == b for a, b in zip(one, other, strict=False))
  return Row(what, max(len(one), len(other)), same, difference(one, other))


if __name__ == '__main__':
  sys.exit(main())
