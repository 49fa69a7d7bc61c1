"""A user's own translations: a folder of {source}-{target}.jsonl files.

One line is {"text": ..., "translation": ...}. Texts are compared without the
white space around them; a text without a line, or with an empty translation,
is not translated.
"""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
import pathlib
import shutil

from ml_collections import ConfigDict

from calm_jax import records
from calm_jax.translators import translator


def problem(path: str) -> str | None:
  if path and _paths(pathlib.Path(path)):
    return None
  return (
      f'reads a folder of {{source}}-{{target}}.jsonl:'
      f' config.translate.path = {path!r} holds no file like en-fr.jsonl'
  )


def depends(cfg: ConfigDict) -> dict[str, str]:
  return {'translations': _digest(_paths(pathlib.Path(cfg.translate.path)))}


def build(cfg: ConfigDict, folder: pathlib.Path) -> translator.Translator:
  del folder
  return Files(pathlib.Path(cfg.translate.path))


def write_lacking(
    folder: pathlib.Path, done: Mapping[translator.Wanted, str | None]
) -> None:
  """What was not translated, as such files, to be filled in; or no folder."""
  if folder.exists():
    shutil.rmtree(folder)
  lacking: dict[str, dict[str, None]] = {}
  for (text, source, target), translation in done.items():
    if translation is None and text.strip():
      lacking.setdefault(f'{source}-{target}', {})[text.strip()] = None
  for way, texts in lacking.items():
    records.write_jsonl(
        folder / f'{way}.jsonl',
        ({'text': text, 'translation': ''} for text in texts),
    )


class Files(translator.Translator):

  def __init__(self, folder: pathlib.Path):
    """Reads the folder whole: a mistake in it is told before any work."""
    paths = _paths(folder)
    if not paths:
      raise FileNotFoundError(
          f'{folder}: no file named like en-fr.jsonl; set'
          ' config.translate.path to the folder of your translations'
      )
    self._tables = {path.stem: _read(path) for path in paths}
    self._version = _digest(paths)

  @property
  def version(self) -> str:
    return self._version

  def supports(self, source: str, target: str) -> bool:
    return f'{source}-{target}' in self._tables

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    table = self._tables.get(f'{source}-{target}', {})
    return [table.get(text.strip()) for text in texts]


def _paths(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder.glob('??-??.jsonl'))


def _digest(paths: list[pathlib.Path]) -> str:
  total = hashlib.sha256()
  for path in paths:
    total.update(path.name.encode() + path.read_bytes())
  return total.hexdigest()


def _read(path: pathlib.Path) -> dict[str, str]:
  table = {}
  with path.open(encoding='utf-8', newline='\n') as f:
    for number, line in enumerate(f, 1):
      if not line.strip():
        continue
      text, translation = _row(line, f'{path}:{number}')
      if table.setdefault(text, translation) != translation:
        raise ValueError(
            f'{path}:{number}: another translation of the same text stands'
            ' above; keep one of the two'
        )
  return {text: done for text, done in table.items() if done}


def _row(line: str, where: str) -> tuple[str, str]:
  try:
    row = json.loads(line)
  except ValueError as e:
    raise ValueError(f'{where}: not a JSON object: {e}') from e
  if not isinstance(row, dict):
    raise ValueError(f'{where}: {row!r} is not an object')
  for field in ('text', 'translation'):
    if not isinstance(row.get(field), str):
      raise ValueError(
          f'{where}: {field!r} must be a string, not {row.get(field)!r}'
      )
  return row['text'].strip(), row['translation'].strip()
