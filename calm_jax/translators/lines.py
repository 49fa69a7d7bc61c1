"""JSON lines that are only ever appended to, and survive a kill.

A process killed in the middle of a write leaves a torn last line, which the
next one cuts off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import json
import os
import pathlib
from typing import Any


def read(path: pathlib.Path, *, what: str) -> Iterator[tuple[int, Any]]:
  """Yields number and value of each line; none where there is no file.

  Raises:
    ValueError: a line before the last is not JSON; names file and line.
  """
  if not path.exists():
    return
  good = 0
  with path.open('rb+') as f:
    for number, line in enumerate(f, 1):
      if not line.endswith(b'\n'):
        f.truncate(good)
        return
      try:
        yield number, json.loads(line)
      except ValueError as e:
        raise ValueError(wrong(path, number, what, e)) from e
      good += len(line)


def wrong(path: pathlib.Path, number: int, what: str, why: object) -> str:
  return (
      f'{path}:{number}: not a line of a {what} ({why}); remove the line, or'
      ' the file to begin anew'
  )


def append(path: pathlib.Path, rows: Iterable[Any]) -> None:
  """Returns when the lines are on the disk."""
  path.parent.mkdir(parents=True, exist_ok=True)
  text = ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  with path.open('a', encoding='utf-8', newline='\n') as f:
    f.write(text)
    f.flush()
    os.fsync(f.fileno())
