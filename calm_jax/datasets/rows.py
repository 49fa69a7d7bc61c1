"""Rows of raw files, one by one, and errors that say which row is wrong."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import pathlib
import tempfile
from typing import Any

Row = tuple[str, Any]  # where it is, and what is there


def read(file: pathlib.Path) -> Iterator[Row]:
  """The rows of a .jsonl, .json (one array) or .parquet file."""
  readers = {'.jsonl': _jsonl, '.json': _array, '.parquet': _parquet}
  if file.suffix not in readers:
    raise ValueError(f'{file}: is none of {", ".join(readers)}')
  return readers[file.suffix](file)


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
  """Puts `where` before the message of a ValueError raised inside."""
  try:
    yield
  except ValueError as e:
    raise ValueError(f'{where}: {e}') from e


def field(row: Any, name: str, kind: Any) -> Any:
  """The field of a row, of the type or one of the types `kind`."""
  if not isinstance(row, dict):
    raise ValueError(f'{row!r:.80} is not an object with the field {name!r}')
  if name not in row:
    raise ValueError(f'lacks the field {name!r}; it has {sorted(row)}')
  if not isinstance(row[name], kind):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = ' or '.join(k.__name__ for k in kinds)
    raise ValueError(f'field {name!r}: {row[name]!r:.80} is not {wanted}')
  return row[name]


def optional(row: Any, name: str) -> str:
  """A text that may be lacking, null or blank; then ''."""
  if isinstance(row, dict) and row.get(name) is None:
    return ''
  return field(row, name, str).strip()


def _jsonl(file: pathlib.Path) -> Iterator[Row]:
  # Bytes, because text that splits at U+2028 would break rows in two.
  for number, line in enumerate(file.read_bytes().split(b'\n'), 1):
    if not line.strip():
      continue
    with at(f'{file}:{number}'):
      row = json.loads(line.decode('utf-8-sig'))
    yield f'{file}:{number}', row


def _array(file: pathlib.Path) -> Iterator[Row]:
  with at(str(file)):
    found = json.loads(file.read_bytes().decode('utf-8-sig'))
  if not isinstance(found, list):
    raise ValueError(f'{file}: must be one JSON array of rows')
  for number, row in enumerate(found, 1):
    yield f'{file}: row {number}', row


def _parquet(file: pathlib.Path) -> Iterator[Row]:
  # Late: two seconds, for those who read parquet only.
  import datasets

  # Streamed, so that no copy of the data is left in the library's cache.
  with tempfile.TemporaryDirectory() as cache, at(str(file)):
    found = datasets.load_dataset(
        'parquet',
        data_files=[str(file)],
        split='train',
        streaming=True,
        cache_dir=cache,
    )
    all_rows = list(found)
  for number, row in enumerate(all_rows, 1):
    yield f'{file}: row {number}', row
