"""Finds the lines of a question again without holding their text."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
import os
import pathlib
import re
from typing import Any, TypeVar

import msgspec

from calm_jax import records

R = TypeVar('R')

# A place is one integer: the file's number above, the byte offset below.
_OFFSET_BITS = 44
_OFFSET = (1 << _OFFSET_BITS) - 1
_AT_ONCE = 1 << 20  # bytes; no more are read at once than these and a question
# The first field of a line, in the form in which records are written.
_FIRST = r'\{"%s": ?"([^"\\]*)"'


class Lookup:
  """Where in some jsonl files each question's lines are."""

  def __init__(self, paths: Sequence[pathlib.Path]):
    self.paths = tuple(paths)
    # A place, the length from there, the next place and so on: lines of a
    # question that follow each other share one place.
    self._places: dict[str, array.array[int]] = {}

  @property
  def ids(self) -> Iterable[str]:
    """The questions that have lines, in the order of their first ones."""
    return self._places.keys()

  def scan(self, cls: type[R], key: Callable[[R], str]) -> Iterator[R]:
    """Yields every record and notes its place under `key(record)`."""
    self._places.clear()
    for file, path in enumerate(self.paths):
      place = file << _OFFSET_BITS
      with path.open('rb') as lines:
        # Both sides read the same lines: one gives records, one their length.
        for record, line in zip(
            records.read_jsonl(path, cls), lines, strict=True
        ):
          self._note(key(record), place, len(line))
          place += len(line)
          yield record

  def index(self, cls: type[Any], field: str) -> None:
    """Notes the place of every line under its `field`.

    Quick where that is the first field; the rest of a line is not looked at.
    """
    self._places.clear()
    first = re.compile((_FIRST % re.escape(field)).encode()).match
    for file, path in enumerate(self.paths):
      place = file << _OFFSET_BITS
      name, same, length = '', b'\n', 0  # no line begins with the end of one
      with path.open('rb') as lines:
        for number, line in enumerate(lines, 1):
          # The lines of a question mostly follow each other.
          if not line.startswith(same):
            if length:
              self._note(name, place, length)
            place, length = place + length, 0
            if match := first(line):
              name, same = match[1].decode(), match[0]
            else:
              name = getattr(_decode(path, number, line, cls), field)
              same = b'\n'
          length += len(line)
      if length:
        self._note(name, place, length)

  def gather(self, ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The lines of each of `ids` as plain dicts, in file order."""
    found: dict[str, list[dict[str, Any]]] = {i: [] for i in ids}
    decode = msgspec.json.Decoder(dict).decode_lines
    wanted = sorted(
        (place, length, name)
        for name in found
        for place, length in _pairs(self._places.get(name, ()))
    )
    texts = self._texts([(place, length) for place, length, _ in wanted])
    for (_, _, name), text in zip(wanted, texts, strict=True):
      found[name] += decode(text)
    return found

  def records(self, cls: type[R], ids: Iterable[str]) -> list[R]:
    """The lines of `ids` as records, in file order."""
    found: list[R] = []
    decode = records.decoder(cls).decode_lines
    for place, text in self._read(ids):
      try:
        found.extend(decode(text))
      except ValueError:
        self._blame(place, text, cls)
        raise
    return found

  def text(self, ids: Iterable[str]) -> Iterator[bytes]:
    """The lines of `ids` as they stand, in file order, some at a time."""
    for _, text in self._read(ids):
      yield text

  def _note(self, name: str, place: int, length: int) -> None:
    places = self._places.get(name)
    if places is None:
      self._places[name] = array.array('Q', (place, length))
    elif places[-2] + places[-1] == place:
      places[-1] += length
    else:
      places.extend((place, length))

  def _read(self, ids: Iterable[str]) -> Iterator[tuple[int, bytes]]:
    """Stretches of whole lines of `ids`, each with its place."""
    stretches = _joined(self._places[i] for i in ids if i in self._places)
    places = [place for place, _ in stretches]
    return zip(places, self._texts(stretches), strict=True)

  def _texts(self, stretches: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """What is at each place with its length, in the order of places."""
    by_file = itertools.groupby(stretches, lambda item: item[0] >> _OFFSET_BITS)
    for file, items in by_file:
      with self.paths[file].open('rb') as f:
        for place, length in items:
          yield os.pread(f.fileno(), length, place & _OFFSET)

  def _blame(self, place: int, text: bytes, cls: type[Any]) -> None:
    """Finds the line of `text` that is no `cls`, and raises with its number."""
    path = self.paths[place >> _OFFSET_BITS]
    with path.open('rb') as f:
      before = f.read(place & _OFFSET).count(b'\n')
    for number, line in enumerate(text.split(b'\n'), before + 1):
      _decode(path, number, line, cls)


def _pairs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
  """The places of a question, each with its length."""
  return zip(places[::2], places[1::2], strict=True)


def _joined(found: Iterable[array.array[int]]) -> list[tuple[int, int]]:
  """All places with their lengths, in order; those that touch become one."""
  stretches: list[tuple[int, int]] = []
  for place, length in sorted([p for mine in found for p in _pairs(mine)]):
    start, before = stretches[-1] if stretches else (-1, 0)
    if start + before == place and before < _AT_ONCE:
      stretches[-1] = start, before + length
    else:
      stretches.append((place, length))
  return stretches


def _decode(path: pathlib.Path, number: int, line: bytes, cls: type[R]) -> R:
  try:
    return records.decoder(cls).decode(line)
  except ValueError as e:
    raise records.wrong_line(path, number, cls, e) from e
