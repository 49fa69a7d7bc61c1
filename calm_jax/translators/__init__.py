"""Translation backends behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import importlib
import pathlib
from typing import cast, Protocol

from ml_collections import ConfigDict

from calm_jax.translators import cache
from calm_jax.translators.translator import Translator, Wanted

# Modules by name, so that one backend's imports are not everybody's.
BACKENDS = {
    'none': 'calm_jax.translators.none',
    'model': 'calm_jax.translators.model',
    'files': 'calm_jax.translators.files',
    'google': 'calm_jax.translators.google',
    'nllb': 'calm_jax.translators.nllb',
    'apertium': 'calm_jax.translators.apertium',
}

# Looking a text up costs these as little as the cache.
_INSTANT = ('none', 'files')

# Of a run: what was translated, and what it cost.
FOLDER = 'translations'

# So many texts are given to a backend at once.
_BATCH = 256


class Backend(Protocol):
  """What the module of a backend has."""

  def problem(self, path: str) -> str | None:
    """Why it cannot work on this machine, with config.translate.path."""
    ...

  def depends(self, cfg: ConfigDict) -> dict[str, str]:
    """Names and identities of all that its translations depend on."""
    ...

  def build(self, cfg: ConfigDict, folder: pathlib.Path) -> Translator:
    """The translator; what it must keep goes into `folder`."""
    ...


def backend(name: str) -> Backend:
  """The backend called `name`."""
  if name not in BACKENDS:
    raise ValueError(
        f'translate.backend is {name!r}; choose one of {", ".join(BACKENDS)}'
    )
  return cast(Backend, importlib.import_module(BACKENDS[name]))


def keeps(name: str) -> bool:
  """Whether what the backend called `name` translates is kept in FOLDER."""
  return name not in _INSTANT


def build(cfg: ConfigDict, workdir: pathlib.Path) -> Translator:
  """The translator that config.translate names; loads no weights yet.

  What was translated, and paid for, is kept in no stage's folder: to make a
  stage again its folder is deleted.
  """
  name = cfg.translate.backend
  folder = workdir / FOLDER
  inner = backend(name).build(cfg, folder)
  if not keeps(name):
    return inner
  return cache.Cached(inner, folder / f'{name}.jsonl', backend=name)


def translate_all(
    translator: Translator,
    wanted: Iterable[Wanted],
    *,
    advance: Callable[[int], None] | None = None,
) -> dict[Wanted, str | None]:
  """Translates each distinct text once, in batches of one direction.

  Raises:
    guard.Refusal: it would cost more than config.translate.max_cost.
  """
  unique = dict.fromkeys(wanted)
  translator.begin(unique)
  directions: dict[tuple[str, str], list[str]] = {}
  for text, source, target in unique:
    directions.setdefault((source, target), []).append(text)
  done: dict[Wanted, str | None] = {}
  for (source, target), texts in directions.items():
    for start in range(0, len(texts), _BATCH):
      batch = texts[start : start + _BATCH]
      results = translator.translate(batch, source, target)
      for text, result in zip(batch, results, strict=True):
        done[text, source, target] = result
      if advance is not None:
        advance(len(batch))
  return done
