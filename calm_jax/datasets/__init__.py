"""Readers: one module a data set, raw files in, `Question`s out."""

from __future__ import annotations

from collections.abc import Sequence
import difflib
import importlib
import pathlib
from typing import Protocol

from calm_jax import records

# Modules by name, so that one reader's imports are not everybody's. What
# follows a colon is the function; without one it is `read`.
READERS = {
    'demo': 'calm_jax.datasets.demo',
    'medqa_authors_mainland': 'calm_jax.datasets.authors:read_mainland',
    'medqa_authors_us': 'calm_jax.datasets.authors:read_us',
    'medqa_mainland': 'calm_jax.datasets.medqa:read_mainland',
    'medqa_mainland_4': 'calm_jax.datasets.medqa:read_mainland_4',
    'medqa_taiwan': 'calm_jax.datasets.medqa:read_taiwan',
    'medqa_us': 'calm_jax.datasets.medqa:read_us',
    'medqa_us_4': 'calm_jax.datasets.medqa:read_us_4',
    'xcsqa': 'calm_jax.datasets.xcsqa',
    'xcsqa_authors': 'calm_jax.datasets.authors:read_xcsqa',
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
  module, _, function = READERS[name].partition(':')
  return getattr(importlib.import_module(module), function or 'read')
