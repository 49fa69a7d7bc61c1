"""Finds 'Answer:', 'Die Antwort ist', '答案：' in any language, and their kin.

All functions take a view of an answer (wrappers.view) in lower case.
"""

from __future__ import annotations

from collections.abc import Callable
import re
from typing import NamedTuple

from calm_jax.qa import languages

_LEAD_CHARS = 40  # characters before 'answer' that may belong to its header
_LEAD_WORDS = 4
# What can continue a word of a script with spaces.
_MORE = '[a-z0-9ß-ɏ]'
_CONTINUES = re.compile(_MORE)


class Header(NamedTuple):
  """An answer header, with the words that lead to it: 'The correct answer:'.

  `opens` says that it opens a line or sentence; `marked` that it also ends in
  a colon or its line: what follows is then an answer and nothing else.
  """

  start: int
  end: int
  opens: bool
  marked: bool


class Explanation(NamedTuple):
  """An explanation header; `main` if it is the word that prompts ask for."""

  start: int
  end: int
  main: bool


def _longest_first(
    field: Callable[[languages.Vocabulary], tuple[str, ...]],
) -> list[str]:
  rows = languages.LANGUAGES.values()
  found = {word for row in rows for word in field(row.vocabulary)}
  return sorted(found, key=lambda word: (-len(word), word))


def _any(field: Callable[[languages.Vocabulary], tuple[str, ...]]) -> str:
  """A regex of one field of every language, as whole words."""
  found = _longest_first(field)
  spaced = _literals([w for w in found if w[-1] < '\u2e80'])
  solid = _literals([w for w in found if w[-1] >= '\u2e80'])
  return rf'(?:{spaced}(?!{_MORE}){"|" * bool(solid)}{solid})'


def _literals(words: list[str]) -> str:
  """A regex of the longest of some words, which shares their beginnings."""
  endings: dict[str, list[str]] = {}
  for word in words:
    endings.setdefault(word[:1], []).append(word[1:])
  ends = endings.pop('', None) is not None
  if not endings:
    return ''
  branches = [re.escape(c) + _literals(rest) for c, rest in endings.items()]
  return f'(?:{"|".join(branches)})' + '?' * ends


COPULA = _any(lambda v: v.copula)
LEAD = _any(lambda v: v.lead)
JOIN = _any(lambda v: v.join)
RIGHT = _any(lambda v: v.right)
NO = _any(lambda v: v.no)
CHOOSE = _any(lambda v: v.choose)
_REASON = _any(lambda v: v.explanation)
_QUESTION = _any(lambda v: v.question)

# What ends a header, as a dash before a space does.
MARKS = ':=>→⇒】]'
DASHES = '-–—'

_BOX = r'\boxed'
# Literals only: the regex engine then skips to characters that can begin one.
_ANSWER = re.compile(_literals([_BOX, *_longest_first(lambda v: v.answer)]))
_JOINED = re.compile(
    rf'(?:(?<=[\u2e80-\uffff])|(?!{_MORE}))(?:[^\S\n]*(?:{RIGHT}|{LEAD}|finale?(?!{_MORE}))){{0,2}}'
    r'(?:[^\S\n]*\([^()\n]{2,30}\))?'
    r'(?: (?:to|for|à|alla|auf|zu|zur|a la)(?: \w+){1,4}?)?[^\S\n]*'
    rf'(?:[{re.escape(MARKS)}]|->|[{DASHES}](?=\s)|(?P<alone>\n)'
    r'|(?P<bare>(?=[^\w\n]{0,4}[a-z][^\w\n]*+(?:\n|\Z)))'
    rf'|(?P<copula>{COPULA})(?:[^\S\n]*{LEAD}){{0,2}})'
    r'[^\S\n]*(?P<colon>:?)'
)
_EXPLANATION = re.compile(rf'{_REASON}[^\S\n]*[:\n]')
_OPENING = re.compile(r'[^\w\n]{0,12}(?=\w)')
_NEW_QUESTION = re.compile(rf'\n[^\w\n]{{0,8}}{_QUESTION}[ \d]{{0,4}}:')
_WRONG = ('wrong', 'incorrect', 'false', 'mauvaise', 'mauvaises', 'fausse')
_WRONG += ('fausses', 'falsche', 'falscher', 'falschen', '错误', '錯誤', '错')
_WRONG += ('間違った', '誤', '誤った', '不正')
_MAIN = {row.explanation.lower() for row in languages.LANGUAGES.values()}


def answers(low: str) -> list[Header]:
  """The answer headers, in order."""
  found = []
  for match in _ANSWER.finditer(low):
    header = _boxed(match) if match[0] == _BOX else _header(low, match)
    if header:
      found.append(header)
  return found


def explanation_at(low: str, index: int) -> re.Match[str] | None:
  """The explanation header that stands at `index`, if one does."""
  return _EXPLANATION.match(low, index)


def explanation_in(low: str, start: int, end: int) -> re.Match[str] | None:
  """The first explanation header of a stretch, wherever it stands."""
  return _EXPLANATION.search(low, start, end)


def explanations(low: str, start: int, end: int) -> list[Explanation]:
  """The explanation headers that open a line of a stretch, or follow one."""
  found, at, line = [], start, start
  while 0 <= line < end:
    opening = _OPENING.match(low, line, end)
    begin = line - (line > start)  # the newline goes with its line
    line = low.find('\n', line, end) + 1 or end
    if opening is None or opening.end() < at:
      continue
    at = opening.end()
    while (match := _EXPLANATION.match(low, at, end)) is not None:
      main = match[0][:-1].strip() in _MAIN
      found.append(Explanation(begin, match.end(), main))
      at = match.end()
      while at < end and not low[at].isalnum():
        at += 1
  return found


def next_question(low: str, start: int) -> int:
  """Where a model that has answered begins to ask; the end if it does not."""
  match = _NEW_QUESTION.search(low, start)
  return match.start() if match else len(low)


def _boxed(match: re.Match[str]) -> Header:
  return Header(match.start(), match.end(), opens=False, marked=False)


def _header(low: str, word: re.Match[str]) -> Header | None:
  start, end = word.span()
  joined = _JOINED.match(low, end)
  if joined is None:
    return None
  begin: int | None = start
  if start and low[start - 1] != '\n':
    lead = low[max(0, start - _LEAD_CHARS) : start]
    if _cut(low, start) or lead.rstrip(' ').endswith(_WRONG):
      return None
    opening = _opening(lead)
    begin = None if opening is None else start - len(lead) + opening
  alone, copula, colon = joined.group('alone', 'copula', 'colon')
  if alone and (begin is None or (begin and low[begin - 1] != '\n')):
    return None
  if begin is None:
    return Header(start, joined.end(), opens=False, marked=False)
  marked = not copula or bool(colon)
  return Header(begin, joined.end(), opens=True, marked=marked)


def _cut(low: str, start: int) -> bool:
  """Whether a longer word is cut in two before `start`."""
  return low[start] < '\u2e80' and bool(_CONTINUES.match(low[start - 1]))


def _opening(lead: str) -> int | None:
  """Where the line or sentence begins that a header's word may open."""
  begin = 1 + max(map(lead.rfind, '\n.。!?'))
  between = lead[begin:]
  if begin == 0 and len(lead) == _LEAD_CHARS:
    return None
  if len(between.split()) > _LEAD_WORDS or ':' in between or ';' in between:
    return None
  return begin
