"""Apertium, a rule-based translator that runs as a local process.

`apertium -l` says which directions are installed; others of its languages are
reached through one or two of them (fr-en is fr-es, then es-en).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import hashlib
import itertools
import pathlib
import re
import shutil
import subprocess

from ml_collections import ConfigDict

from calm_jax.qa import languages
from calm_jax.translators import translator

# Apertium's own codes; Catalan is only ever passed through.
_LANGUAGES = {'cat': 'ca', 'ca': 'ca'} | {
    name: code
    for code, row in languages.LANGUAGES.items()
    for name in row.codes.apertium
}
_MOST_STEPS = 3
_BREAK = '\n\n'
_SECONDS = 300.0  # for one call of some hundred texts

Direction = tuple[str, str]
Routes = dict[Direction, list[str]]  # the modes to pass through


def problem(path: str) -> str | None:
  if path and not pathlib.Path(path, 'modes').is_dir():
    return (
        f'looks for its data in config.translate.path = {path!r}, which has no'
        ' folder modes: leave it empty for the installed data'
    )
  if shutil.which('apertium') is None:
    return (
        'needs the program apertium: apt-get install apertium'
        ' apertium-eng-spa apertium-fr-es (docs/TRANSLATION.md)'
    )
  return None


def depends(cfg: ConfigDict) -> dict[str, str]:
  return {'translator': Apertium(cfg.translate.path).version}


def build(cfg: ConfigDict, folder: pathlib.Path) -> translator.Translator:
  del folder
  return Apertium(cfg.translate.path)


def routes(modes: Iterable[str]) -> Routes:
  """The shortest way from each language to each other one."""
  known = {}
  for mode in sorted(modes):
    source, _, target = mode.partition('-')
    if source in _LANGUAGES and target in _LANGUAGES:
      known[_LANGUAGES[source], _LANGUAGES[target]] = mode
  # Spanish, where there is a choice, has the larger dictionaries.
  last = lambda item: ('ca' in item[0], item)
  found: Routes = {direction: [mode] for direction, mode in known.items()}
  for _ in range(_MOST_STEPS - 1):
    for (start, middle), way in sorted(found.items(), key=last):
      for (source, target), mode in sorted(known.items(), key=last):
        if source == middle and target != start:
          found.setdefault((start, target), [*way, mode])
  return found


class Apertium(translator.Translator):

  def __init__(self, path: str = ''):
    """Args:
    path: folder of linguistic data; '' is that of the installed program.
    """
    self._command = ['apertium', *(['-d', path] if path else [])]
    listed = self._run(['-l'], '')
    self._routes = routes(listed.split())
    if not self._routes:
      raise ValueError(
          f'config.translate.backend: `{" ".join(self._command)} -l` lists no'
          ' pair of languages: install some (apt-get install apertium-eng-spa),'
          ' or mend config.translate.path'
      )
    self._version = _identity(self._run(['-V'], ''), path, self._routes)

  @property
  def version(self) -> str:
    return self._version

  def supports(self, source: str, target: str) -> bool:
    return source != target and (source, target) in self._routes

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    if not self.supports(source, target):
      return [None] * len(texts)
    # A text may have line breaks; each line is translated by itself.
    rows = [_plain(text).split('\n') for text in texts]
    lines = dict.fromkeys(line for line in itertools.chain(*rows) if line)
    now = list(lines)
    for mode in self._routes[source, target]:
      now = self._pass(now, mode)
    return [_joined(row, dict(zip(lines, now, strict=True))) for row in rows]

  def _pass(self, lines: list[str], mode: str) -> list[str]:
    """One line out for each one in; '' for what it cannot do."""
    if not any(lines):
      return [''] * len(lines)
    # Blank lines end a sentence, so that no line changes its neighbours (the
    # program's own format of lines does not, and loses full stops).
    # -u: without marks at unknown words.
    try:
      out = self._run(['-u', mode], _BREAK.join(lines))
    except subprocess.TimeoutExpired:
      return [''] * len(lines)
    done = out.rstrip('\n').split(_BREAK)
    if len(done) == len(lines):
      return [_cased(a, b) for a, b in zip(lines, done, strict=True)]
    if len(lines) == 1:
      return ['']
    half = len(lines) // 2
    return self._pass(lines[:half], mode) + self._pass(lines[half:], mode)

  def _run(self, options: list[str], text: str) -> str:
    done = subprocess.run(
        [*self._command, *options],
        input=text,
        capture_output=True,
        text=True,
        encoding='utf-8',
        timeout=_SECONDS,
        check=False,
    )
    return '' if done.returncode else done.stdout


def _plain(text: str) -> str:
  """Line breaks of one kind, and none of Apertium's own end marks."""
  return '\n'.join(
      ' '.join(line.replace('\0', ' ').split()) for line in text.splitlines()
  )


def _cased(line: str, done: str) -> str:
  """A small first letter where the source has one: no option is a sentence."""
  done = done.strip()
  return done[:1].lower() + done[1:] if line[:1].islower() else done


def _joined(row: list[str], done: Mapping[str, str]) -> str | None:
  """The lines of a text, or None when one of them could not be done."""
  if not any(row) or not all(done[line] for line in row if line):
    return None
  return '\n'.join(done[line] if line else '' for line in row)


def _identity(version: str, path: str, ways: Routes) -> str:
  """Changes with the program and with the data that it translates by."""
  program = shutil.which('apertium') or ''
  installed = pathlib.Path(program).resolve().parent.parent / 'share/apertium'
  folder = pathlib.Path(path) if path else installed
  total = hashlib.sha256(version.encode())
  for mode in sorted({mode for way in ways.values() for mode in way}):
    steps = (folder / 'modes' / f'{mode}.mode').read_text('utf-8')
    total.update(steps.encode())
    for name in re.findall(r"'([^']+)'", steps):
      total.update(pathlib.Path(name).read_bytes())
  return total.hexdigest()
