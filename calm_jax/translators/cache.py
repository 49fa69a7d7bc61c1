"""Translations kept on disk, so that no text is ever translated twice.

Failures are not kept: a later run asks once more.
"""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
import json
import pathlib

from calm_jax.translators import lines, translator


class Cached(translator.Translator):

  def __init__(
      self, inner: translator.Translator, path: pathlib.Path, *, backend: str
  ):
    self._inner, self._path, self._backend = inner, path, backend
    self._known = _read(path)

  @property
  def version(self) -> str:
    return self._inner.version

  def supports(self, source: str, target: str) -> bool:
    return self._inner.supports(source, target)

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    keys = {text: self._key(text, source, target) for text in texts}
    new = [text for text, key in keys.items() if key not in self._known]
    for group in self._inner.groups(new):
      done = self._inner.translate(group, source, target)
      self._append(
          {
              keys[text]: result
              for text, result in zip(group, done, strict=True)
              if result is not None
          }
      )
    return [self._known.get(keys[text]) for text in texts]

  def groups(self, texts: list[str]) -> list[list[str]]:
    return self._inner.groups(texts)

  def begin(self, wanted: Iterable[translator.Wanted]) -> None:
    self._inner.begin([w for w in wanted if self._key(*w) not in self._known])

  def end(self) -> dict[str, float]:
    return self._inner.end()

  def _key(self, text: str, source: str, target: str) -> str:
    # A JSON list, because a separator could occur in the text.
    parts = [text, source, target, self._backend, self.version]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

  def _append(self, done: dict[str, str]) -> None:
    rows = [{'key': k, 'translation': text} for k, text in done.items()]
    lines.append(self._path, rows)
    self._known.update(done)


def _read(path: pathlib.Path) -> dict[str, str]:
  known = {}
  what = 'translation cache'
  for number, row in lines.read(path, what=what):
    try:
      known[row['key']] = row['translation']
    except (KeyError, TypeError) as e:
      raise ValueError(lines.wrong(path, number, what, e)) from e
  return known
