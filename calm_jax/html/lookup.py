"""Finds the records of a question again without holding their text."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable, Iterator, Sequence
import itertools
import json
import pathlib
from typing import Any, TypeVar

from calm_jax import records

R = TypeVar('R')

# A place is one integer: the file's number above, the byte offset below.
_OFFSET_BITS = 44


class Lookup:
  """Where in some jsonl files each question's lines are."""

  def __init__(self, paths: Sequence[pathlib.Path]):
    self.paths = tuple(paths)
    self._places: dict[str, array.array[int]] = {}

  def scan(self, cls: type[R], key: Callable[[R], str]) -> Iterator[R]:
    """Yields every record and notes its place under `key(record)`."""
    self._places.clear()
    for number, path in enumerate(self.paths):
      place = number << _OFFSET_BITS
      with path.open('rb') as lines:
        # Both sides read the same lines: one gives records, one their length.
        for record, line in zip(
            records.read_jsonl(path, cls), lines, strict=True
        ):
          places = self._places.setdefault(key(record), array.array('Q'))
          places.append(place)
          place += len(line)
          yield record

  def gather(self, ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The scanned lines of each of `ids` as plain dicts, in file order."""
    found: dict[str, list[dict[str, Any]]] = {i: [] for i in ids}
    wanted = sorted(
        (place, i) for i in found for place in self._places.get(i, ())
    )
    by_file = itertools.groupby(wanted, lambda item: item[0] >> _OFFSET_BITS)
    for number, places in by_file:
      with self.paths[number].open('rb') as f:
        for place, question_id in places:
          f.seek(place & ((1 << _OFFSET_BITS) - 1))
          found[question_id].append(json.loads(f.readline()))
    return found
