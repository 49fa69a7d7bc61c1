"""Reads the questions that come with the package, in X-CSQA's layout."""

from __future__ import annotations

from collections.abc import Sequence
import pathlib

from calm_jax import records
from calm_jax.datasets import xcsqa

FOLDER = pathlib.Path(__file__).parent / 'demo'


def read(
    path: pathlib.Path, split: str, languages: Sequence[str]
) -> tuple[list[records.Question], dict[str, int]]:
  """The bundled questions of a split; `path` must be left empty."""
  _check(path)
  return xcsqa.read(FOLDER, split, languages, dataset='demo')


def find(
    path: pathlib.Path, split: str, languages: Sequence[str]
) -> dict[str, list[pathlib.Path]]:
  """The bundled files of a split, by language."""
  _check(path)
  return xcsqa.find(FOLDER, split, languages)


def _check(path: pathlib.Path) -> None:
  if path not in (pathlib.Path(), FOLDER):
    raise ValueError(
        f'data.path: {str(path)!r} has no meaning for data.name=demo, whose '
        'questions are bundled; use data.name=xcsqa to read your own folder'
    )
