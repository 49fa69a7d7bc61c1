"""Readers: one module a data set, raw files in, `Question`s out."""

from __future__ import annotations

from collections.abc import Sequence
import difflib
import importlib
import pathlib
from typing import Protocol

from calm_jax import records

# Modules by name, so that one reader's imports are not everybody's.
READERS = {
    'demo': 'calm_jax.datasets.demo',
    'xcsqa': 'calm_jax.datasets.xcsqa',
}


class Reader(Protocol):

  def __call__(
      self, path: pathlib.Path, split: str, languages: Sequence[str], /
  ) -> tuple[list[records.Question], dict[str, int]]:
    """The split's questions, and how many were dropped by reason."""
    ...


def reader(name: str) -> Reader:
  """The reader called `name`."""
  if name not in READERS:
    (nearest,) = difflib.get_close_matches(name, READERS, n=1, cutoff=0)
    raise ValueError(
        f'data.name: no reader {name!r}, did you mean {nearest!r}? '
        f'The readers are {", ".join(READERS)}'
    )
  return importlib.import_module(READERS[name]).read
