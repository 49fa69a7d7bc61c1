"""Translations kept on disk, so that no text is ever translated twice.

Append-only JSON lines. A process killed in the middle of a write leaves a torn
last line, which the next one cuts off. Failures are not kept: a later run
asks once more.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib

from calm_jax.translators import translator


class Cached(translator.Translator):

  def __init__(
      self, inner: translator.Translator, path: pathlib.Path, *, backend: str
  ):
    self._inner, self._path, self._backend = inner, path, backend
    self._known = _recover(path) if path.exists() else {}

  @property
  def version(self) -> str:
    return self._inner.version

  def supports(self, source: str, target: str) -> bool:
    return self._inner.supports(source, target)

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    keys = [self._key(text, source, target) for text in texts]
    new = {
        k: t for k, t in zip(keys, texts, strict=True) if k not in self._known
    }
    if new:
      done = self._inner.translate(list(new.values()), source, target)
      self._append(
          {
              key: text
              for key, text in zip(new, done, strict=True)
              if text is not None
          }
      )
    return [self._known.get(key) for key in keys]

  def _key(self, text: str, source: str, target: str) -> str:
    # A JSON list, because a separator could occur in the text.
    parts = [text, source, target, self._backend, self.version]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

  def _append(self, done: dict[str, str]) -> None:
    self._path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({'key': key, 'translation': text}, ensure_ascii=False)
        for key, text in done.items()
    ]
    with self._path.open('a', encoding='utf-8', newline='\n') as f:
      f.write(''.join(line + '\n' for line in lines))
      f.flush()
      os.fsync(f.fileno())
    self._known.update(done)


def _recover(path: pathlib.Path) -> dict[str, str]:
  """Reads a cache and cuts off what a killed process left half-written."""
  known, good = {}, 0
  with path.open('rb+') as f:
    for number, line in enumerate(f, 1):
      if not line.endswith(b'\n'):
        f.truncate(good)
        break
      try:
        row = json.loads(line)
        known[row['key']] = row['translation']
      except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f'{path}:{number}: not a line of a translation cache ({e});'
            ' remove the line, or the file to translate anew'
        ) from e
      good += len(line)
  return known
