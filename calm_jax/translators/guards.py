"""What a translation must not change: numbers, units and option letters.

A found change is a reason to look, not a proof: 12 may have become "twelve".
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
import pathlib
import re
import unicodedata

from calm_jax import console, records
from calm_jax.qa import languages
from calm_jax.translators import translator

Changes = Mapping[translator.Wanted, Sequence[str]]  # by translation

# Digits in one piece, with points, commas or spaces between them.
_NUMBER = re.compile(
    r'(?<![\d.,])\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?![\d])(?:[.,]\d+)?'
    r'|\d+(?:[.,]\d+)*'
)
_THOUSANDS = re.compile(r'[1-9]\d{0,2}(?:[.,]\d{3})+')

_LEXICONS = [row.lexicon for row in languages.LANGUAGES.values()]

# Units that are written alike everywhere; their names are the languages'.
_SYMBOLS = {  # \u00a0 is a space inside a name
    'µg': 'µg ug mcg',
    'iu': 'iu ui ie',
    'mmhg': 'mmhg mm\u00a0hg',
} | {
    symbol: symbol
    for symbol in (
        '% g kg mg ng pg l dl ml µl fl mol mmol µmol meq kpa m cm mm km sqm'
        ' cumm °c °f'
    ).split()
}
_UNIT_OF = {
    unicodedata.normalize('NFKC', name): unit
    for table in (_SYMBOLS.items(), *(x.units for x in _LEXICONS))
    for unit, names in table
    for name in names.split(' ')
}
_ATOM = '|'.join(sorted(map(re.escape, _UNIT_OF), key=len, reverse=True))
# After a number; whole words only, where letters could go on.
_UNIT = re.compile(
    rf'\d[\s-]?((?:{_ATOM})(?:\s?/\s?(?:{_ATOM}))*)(?![a-zà-ÿ])', re.IGNORECASE
)

# Small numbers are often written as words, and words as small numbers.
_WORD = {
    str(i + 1): frozenset(
        word for x in _LEXICONS if x.numbers for word in x.numbers[i].split()
    )
    for i in range(10)
}

# Capitals that stand alone. A is a word in many languages, E in Italian and
# Spanish: these two count only where something marks them as a letter.
_LATIN = 'A-Za-z0-9_À-\u024f'
_LETTER = re.compile(rf"(?<![{_LATIN}°'’])([A-E])(?![{_LATIN}'’])")
_MARKED = re.compile(r'\s*(?:[).:,;!?\]"”»*]|$|[\u3000-\u9fff])')
_OPTION = '|'.join(word for x in _LEXICONS for word in x.option.split())
_NAMED = re.compile(rf'(?:{_OPTION})[\s:(*]*$|[(\["“«]$', re.IGNORECASE)


def changed_facts(source_text: str, translated: str) -> list[str]:
  """Numbers, units and option letters that only one of two texts has."""
  one, two = _plain(source_text), _plain(translated)
  lost, new = _unmatched(_numbers(one), _numbers(two))
  changes = [f'number {n} is lost' for n in lost if not _worded(n, two)]
  changes += [f'number {n} is new' for n in new if not _worded(n, one)]
  for what, read in (('unit', _units), ('letter', _letters)):
    had, has = collections.Counter(read(one)), collections.Counter(read(two))
    changes += [f'{what} {x} is lost' for x in sorted((had - has).elements())]
    changes += [f'{what} {x} is new' for x in sorted((has - had).elements())]
  return changes


def flagged(done: Mapping[translator.Wanted, str | None]) -> Changes:
  """What was changed by those translations that changed a fact."""
  return {
      wanted: changes
      for wanted, translated in done.items()
      if translated and (changes := changed_facts(wanted[0], translated))
  }


def kinds(changes: Iterable[str]) -> tuple[str, ...]:
  """What the changes are of, for the flag on a row: letters, numbers, units."""
  return tuple(sorted({f'{change.split()[0]}s' for change in changes}))


def write(
    folder: pathlib.Path,
    changed: Changes,
    done: Mapping[translator.Wanted, str | None],
    questions: Mapping[translator.Wanted, Iterable[str]],
) -> dict[str, int]:
  """Writes changed_facts.jsonl, if there are any, and counts them.

  It says what was changed, for a person to read; `questions` are the ids of
  those that a text belongs to.
  """
  path = folder / 'changed_facts.jsonl'
  path.unlink(missing_ok=True)
  if not changed:
    return {}
  rows = (
      {
          'question_ids': sorted(set(questions.get(wanted, ()))),
          'source': wanted[1],
          'target': wanted[2],
          'changes': changes,
          'text': wanted[0],
          'translation': done[wanted],
      }
      for wanted, changes in changed.items()
  )
  records.write_jsonl(path, rows)
  console.say(
      f'  {len(changed)} translations changed a number, a unit or an option'
      f' letter: see {path}'
  )
  return {'changed_facts': len(changed)}


def _plain(text: str) -> str:
  """Full-width forms as ASCII, both kinds of µ as one, powers as words."""
  text = unicodedata.normalize('NFKC', text)
  text = re.sub(r'/\s?(?:m\s?\^?2(?!\d)|平方米|平方メートル)', '/sqm', text)
  return re.sub(r'/\s?(?:mm\s?\^?3(?!\d)|立方毫米)', '/cumm', text)


def _numbers(text: str) -> list[str]:
  return [match[0] for match in _NUMBER.finditer(text)]


def _values(number: str) -> frozenset[str]:
  """What a number may mean: 1.500 is 1500 in German, and 1.5 in English."""
  number = re.sub(r'\s', '', number)
  readings = set()
  if _THOUSANDS.fullmatch(number):
    readings.add(re.sub('[.,]', '', number))
  whole, *parts = re.split('[.,]', number)
  if len(parts) <= 1:
    readings.add('.'.join([whole, *parts]))
  else:
    marks = re.sub(r'\d', '', number)
    if len(set(marks[:-1])) == 1 and marks[-1] != marks[0]:
      readings.add(''.join([whole, *parts[:-1]]) + '.' + parts[-1])
  return frozenset(_shortest(r) for r in readings) or frozenset({number})


def _shortest(number: str) -> str:
  """Without zeros that say nothing: 007 is 7, and 1.50 is 1.5."""
  whole, _, part = number.partition('.')
  whole, part = whole.lstrip('0') or '0', part.rstrip('0')
  return f'{whole}.{part}' if part else whole


def _unmatched(one: list[str], two: list[str]) -> tuple[list[str], list[str]]:
  """What is left of both when numbers that may mean the same are paired."""
  lost, left = [], list(two)
  # Those that can mean only one thing choose first.
  for number in sorted(one, key=lambda n: len(_values(n))):
    same = [n for n in left if _values(n) & _values(number)]
    if same:
      left.remove(min(same, key=lambda n: len(_values(n))))
    else:
      lost.append(number)
  return lost, left


def _worded(number: str, text: str) -> bool:
  """Whether a text may have a number as a word."""
  known = _WORD.get(number, frozenset())
  if known & set(re.findall(r'[^\W\d_]+', text.casefold())):
    return True
  return any(word in text for word in known if not word[0].isascii())


def _units(text: str) -> Iterator[str]:
  for match in _UNIT.finditer(text):
    parts = re.split(r'\s?/\s?', match[1].casefold())
    yield '/'.join(_UNIT_OF[part] for part in parts)


def _letters(text: str) -> Iterator[str]:
  for match in _LETTER.finditer(text):
    letter, before, after = match[1], text[: match.start()], text[match.end() :]
    if letter not in 'AE' or _MARKED.match(after) or _NAMED.search(before):
      yield letter
