"""What a compiled program sends between devices, read from its text."""

from __future__ import annotations

from collections.abc import Iterator
import math
import re
from typing import NamedTuple

_KINDS = (
    'all-gather',
    'all-reduce',
    'reduce-scatter',
    'all-to-all',
    'collective-permute',
)
_SIZES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's64': 8, 'f64': 8}

_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?[\w.\-]+ = (.+?) ([a-z][\w\-]*)\(')
_CALLS = re.compile(
    r'(?:body|condition|calls|to_apply|true_computation|false_computation)'
    r'=%?([\w.\-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Message(NamedTuple):
  """A collective: what one device holds after it, in one run of it."""

  kind: str
  nbytes: int
  shape: str
  times: int  # runs in one run of the program; loops without a count: 1
  source: str


def messages(text: str) -> list[Message]:
  """Every collective of a compiled program."""
  bodies, entry = _computations(text)
  return list(_walk(bodies, entry, 1))


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
  bodies: dict[str, list[str]] = {}
  name = entry = ''
  for line in text.splitlines():
    if match := _COMPUTATION.match(line):
      name = match[1]
      bodies[name] = []
      if line.startswith('ENTRY'):
        entry = name
    elif name:
      bodies[name].append(line)
  return bodies, entry


def _walk(bodies: dict[str, list[str]], name: str, times: int):
  for line in bodies[name]:
    match = _INSTRUCTION.match(line)
    if not match:
      continue
    shape, kind = match.groups()
    base = kind.removesuffix('-start')
    if base in _KINDS:
      source = _SOURCE.search(line)
      yield Message(
          base, _bytes(shape), shape, times, source[1] if source else ''
      )
    trips = _TRIPS.search(line)
    inner = times * int(trips[1]) if kind == 'while' and trips else times
    for called in _called(line):
      if called in bodies:
        yield from _walk(bodies, called, inner)


def _called(line: str) -> Iterator[str]:
  yield from _CALLS.findall(line)
  if branches := _BRANCHES.search(line):
    yield from (name.strip(' %') for name in branches[1].split(','))


def _bytes(shape: str) -> int:
  """Of an array or of the arrays of a tuple: 'bf16[2,4]{1,0}'."""
  total = 0
  for kind, dims in re.findall(r'([a-z]+\d*)\[([\d,]*)\]', shape):
    count = math.prod(int(d) for d in dims.split(',') if d)
    total += count * _SIZES.get(kind, 4)
  return total
