"""Readers: one module a data set, raw files in, `Question`s out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import difflib
import importlib
import pathlib
from typing import Any, Protocol

from calm_jax import records

# Modules by name, so that one reader's imports are not everybody's. Each has
# the functions `read` and `find`, or, with X after a colon, `read_X`, `find_X`.
READERS = {
    'demo': 'calm_jax.datasets.demo',
    'medqa': 'calm_jax.datasets.medqa:both',
    'medqa_authors_mainland': 'calm_jax.datasets.authors:mainland',
    'medqa_authors_us': 'calm_jax.datasets.authors:us',
    'medqa_mainland': 'calm_jax.datasets.medqa:mainland',
    'medqa_mainland_4': 'calm_jax.datasets.medqa:mainland_4',
    'medqa_taiwan': 'calm_jax.datasets.medqa:taiwan',
    'medqa_us': 'calm_jax.datasets.medqa:us',
    'medqa_us_4': 'calm_jax.datasets.medqa:us_4',
    'xcsqa': 'calm_jax.datasets.xcsqa',
    'xcsqa_authors': 'calm_jax.datasets.authors:xcsqa',
}


class Finder(Protocol):

  def __call__(
      self, path: pathlib.Path, split: str, languages: Sequence[str], /
  ) -> Mapping[str, Sequence[pathlib.Path]]:
    """The files that the reader would read, by language.

    Raises:
      ValueError, FileNotFoundError: it could not read there, and why.
    """
    ...


class Reader(Protocol):

  def __call__(
      self, path: pathlib.Path, split: str, languages: Sequence[str], /
  ) -> tuple[list[records.Question], dict[str, int]]:
    """The split's questions, and how many were dropped by reason."""
    ...


def reader(name: str) -> Reader:
  """The reader called `name`."""
  return _function('read', name)


def finder(name: str) -> Finder:
  """What finds the files of the reader called `name`, and opens none."""
  return _function('find', name)


def _function(verb: str, name: str) -> Any:
  if name not in READERS:
    (nearest,) = difflib.get_close_matches(name, READERS, n=1, cutoff=0)
    raise ValueError(
        f'data.name: no reader {name!r}, did you mean {nearest!r}? '
        f'The readers are {", ".join(READERS)}'
    )
  module, _, release = READERS[name].partition(':')
  function = f'{verb}_{release}' if release else verb
  return getattr(importlib.import_module(module), function)
