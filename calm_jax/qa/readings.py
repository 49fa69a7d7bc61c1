"""Reads which option a line names, by its letter or by its text."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from calm_jax import records
from calm_jax.qa import headers, languages, wrappers

LINE = 300  # characters of a line that are looked at
_SLACK = 60  # characters of a clause that may name an option by its text
_VOWELS = 'AEIOUY'  # words of some language: 'A dog', 'E poi', 'O perro'

# A letter that stands alone: not the D of D'accord, not the A of Antwort.
LETTER = r"([A-Z](?!\.[A-Z](?![A-Za-z]))|[a-z](?!\.[a-z]))(?![A-Za-z0-9ß-ɏ'])"
_STANDS = re.compile(LETTER)
_OPENING = re.compile(rf'\W*+(?:(?i:{headers.LEAD})\W*+)*+')
_NEXT_WORD = re.compile(r'[^\S\n]+(?![A-Z](?!\w))[A-Za-zÀ-ɏ]')
_VERB = re.compile(  # what follows an option's name and never an article
    rf'\s+(?:{headers.COPULA}|{headers.JOIN}|{headers.NO}|are|both|sont|sind'
    r'|sono|because|since|as|parce|car|perché|weil|da|denn|porque)(?![a-zß-ɏ])'
)
_SMALL = re.compile(r'\W*(?:\Z|(?<=[).:]))')
_JOINED = re.compile(
    rf'\W{{0,3}}?(?:\s*(?:[,/&+、~]|{headers.JOIN}|AND|OR)\s*|[-–](?=[A-Z])'
    r'|\s+(?=[A-Z]\W*\Z))++'
    rf'(?:(?i:{headers.LEAD})\s*)*+\W?{LETTER}'
)
_LISTED = re.compile(r'(?<![A-Za-z])([A-Z])\s?[.):、]\s?(?=\S)')
_INSIDE = re.compile(
    rf"""[(\[{{"'“«「『【]([A-Z])[)\]}}"'”»」』】]"""
    r'|(?i:option|choice|letter|opción|letra|opzione|lettera|lettre|buchstabe'
    r'|选项|選項|選択肢)\s?([A-Z])(?![A-Za-z])'
    rf'|(?i:{headers.COPULA})\s?([A-Z])(?=\W*(?:\Z|[.,;)])|です)'
)
_DENIED = re.compile(rf'(?<![a-zß-ɏ])(?:{headers.NO})')
_NOT = re.compile(rf'(?i:{headers.NO})\W*\Z')
_POLITE = ('です', 'だ', 'である')
_EDGES = ' .。,()[]<>'
_CLAUSE = re.compile(r'[.。,，;:!?\n]')


class Parsed(NamedTuple):
  """An option key with how it was read, or None with why there is none.

  Read: 'header', 'sentence', 'bare_letter', 'option_text', or
  'letter_over_text' where letter and text name different options. Not read:
  'empty', 'no_answer', 'several_answers', 'not_an_option'.
  """

  answer: str | None
  reason: str


NO_ANSWER = Parsed(None, 'no_answer')
SEVERAL = Parsed(None, 'several_answers')
NOT_AN_OPTION = Parsed(None, 'not_an_option')


class Choices(NamedTuple):
  """A question's options as they are compared."""

  keys: tuple[str, ...]
  texts: tuple[str, ...]

  def named(self, letter: str) -> str | None:
    """The key of the option shown as a capital letter."""
    index = languages.LETTERS.find(letter)
    return self.keys[index] if 0 <= index < len(self.keys) else None

  def exactly(self, said: str) -> Parsed | None:
    """The option whose whole text is `said`, in plain words."""
    if said not in self.texts:
      return None
    if self.texts.count(said) > 1:
      return SEVERAL
    return Parsed(self.keys[self.texts.index(said)], 'option_text')


@functools.lru_cache(maxsize=4096)
def choices(options: tuple[records.Option, ...]) -> Choices:
  """Plain texts; an option without words has none that could be said."""
  keys = tuple(option.key for option in options)
  texts = tuple(wrappers.plain(o.text) or '\0' for o in options)
  return Choices(keys, texts)


def read(text: str, given: Choices, *, marked: bool) -> Parsed | None:
  """What the first line of `text` answers; None where it names no option.

  `marked` says that the line is nothing but an answer: then an option's text
  may stand anywhere in it.
  """
  line = text[:LINE].lstrip().partition('\n')[0]
  letter = _first_letter(line)
  parsed = _by_letter(letter, line, given) if letter else None
  if parsed:
    return SEVERAL if parsed.answer and _lists(text, parsed, given) else parsed
  if not marked:
    clause = _CLAUSE.split(line.lstrip(' "\'(['), maxsplit=1)[0]
    parsed = _by_text(clause, given)
    short = len(clause) <= _SLACK and parsed and parsed.answer
    return parsed if short else None
  return _by_text(line, given) or _inside(line, given) or _letters(line, given)


def bare(line: str, given: Choices) -> Parsed | None:
  """What a line without header answers, if it is nothing but an answer."""
  line = line[:LINE]
  letter = _first_letter(line)
  if letter is None or letter[1].islower():
    return given.exactly(wrappers.plain(line))
  rest = line[letter.end() :]
  said, own = wrappers.plain(rest), _text_of(letter[1], given)
  parted = said.startswith(own or '\0') and not _NEXT_WORD.match(rest)
  if said and said not in (own, *_POLITE) and not parted:
    joined = _JOINED.match(rest)
    if joined and not wrappers.plain(rest[joined.end() :]):
      return SEVERAL if given.named(letter[1]) else None
    return given.exactly(wrappers.plain(line))
  parsed = _by_letter(letter, line, given)
  if parsed and parsed.reason == 'header':
    return Parsed(parsed.answer, 'bare_letter')
  return parsed


def _first_letter(line: str) -> re.Match[str] | None:
  """The letter that a line begins with, after words such as 'option'."""
  opening = _OPENING.match(line)
  return _STANDS.match(line, opening.end() if opening else 0)


def _by_letter(
    letter: re.Match[str], line: str, given: Choices
) -> Parsed | None:
  shown, rest = letter[1], line[letter.end() :]
  if shown.islower() and not _SMALL.match(rest):
    return None
  shown = shown.upper()
  key = given.named(shown)
  own = _text_of(shown, given)
  said = wrappers.plain(rest)
  if _NEXT_WORD.match(rest) and not _VERB.match(rest):
    whole = given.exactly(wrappers.plain(line[letter.start() :]))
    if whole:
      return whole
    if (key is None or shown in _VOWELS) and not (own and said.startswith(own)):
      return None
  if key is None:
    return NOT_AN_OPTION
  if _another(shown, rest, given):
    return SEVERAL
  other = given.exactly(said) if said and said != own else None
  if other and other.answer not in (None, key):
    return Parsed(key, 'letter_over_text')
  return Parsed(key, 'header')


def _another(shown: str, rest: str, given: Choices) -> bool:
  """Whether a second option is answered after the first letter."""
  joined = _JOINED.match(rest)
  if joined and joined[1] != shown and given.named(joined[1]):
    after = rest[joined.end() :]
    if joined[1] not in _VOWELS or not _NEXT_WORD.match(after):
      return True
    if _VERB.match(after):
      return True
  for listed in _LISTED.finditer(rest):
    text = _text_of(listed[1], given)
    if text and listed[1] != shown and not _NOT.search(rest[: listed.start()]):
      if wrappers.plain(rest[listed.end() :]).startswith(text):
        return True
  return False


def _lists(text: str, parsed: Parsed, given: Choices) -> bool:
  """Whether the next line goes on to another option, as a list does."""
  following = text[:LINE].lstrip().partition('\n')[2]
  listed = _LISTED.match(following)
  if listed is None or given.named(listed[1]) in (None, parsed.answer):
    return False
  said = wrappers.plain(following[listed.end() :])
  return said.startswith(_text_of(listed[1], given))


def _text_of(shown: str, given: Choices) -> str:
  index = languages.LETTERS.find(shown)
  return given.texts[index] if 0 <= index < len(given.texts) else ''


def _by_text(line: str, given: Choices) -> Parsed | None:
  said = wrappers.plain(line)
  exact = given.exactly(said)
  if exact or not said:
    return exact
  spans = {k: wrappers.find(t, said) for k, t in enumerate(given.texts)}
  every = [span for found in spans.values() for span in found]
  # 'house' inside 'tree house' is not an answer of its own.
  free = [
      k for k, found in spans.items() if any(_free(s, every) for s in found)
  ]
  if len(free) > 1:
    # 'Dog, not cat' answers in its first clause.
    first = _CLAUSE.split(line, maxsplit=1)[0]
    denied = first != line and _DENIED.search(said)
    return _by_text(first, given) if denied else SEVERAL
  if not free or _DENIED.search(said[: spans[free[0]][0][0]]):
    return None
  return Parsed(given.keys[free[0]], 'option_text')


def _free(span: tuple[int, int], every: list[tuple[int, int]]) -> bool:
  start, end = span
  return not any(
      a <= start and end <= b and b - a > end - start for a, b in every
  )


def _inside(line: str, given: Choices) -> Parsed | None:
  """The one letter that a sentence names: 'I think it is (B).'"""
  found = list(_INSIDE.finditer(line))
  if not found or _DENIED.search(line[: found[0].start()].lower()):
    return None
  letters = {next(filter(None, match.groups())) for match in found}
  keys = {given.named(letter) for letter in letters} - {None}
  if len(keys) > 1:
    return SEVERAL
  return Parsed(keys.pop(), 'header') if keys else None


def _letters(line: str, given: Choices) -> Parsed | None:
  """Letters run together: 'ABD'."""
  shown = line.strip(_EDGES)
  known = shown.isupper() and all(map(given.named, shown))
  return SEVERAL if known and len(set(shown)) == len(shown) > 1 else None
