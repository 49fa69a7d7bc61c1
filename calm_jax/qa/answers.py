"""Answers as option keys: one parser for all languages and models."""

from __future__ import annotations

import functools
import re

from calm_jax import records
from calm_jax.qa import canonical, headers, languages, readings, wrappers

Parsed = readings.Parsed

_WORD = re.compile(r'\w')
_CHOSEN = re.compile(
    rf'(?i:{headers.CHOOSE})\W*(?:(?i:{headers.LEAD})\W*)*{readings.LETTER}'
)
_CALLED_RIGHT = re.compile(
    r'(?<![A-Za-z0-9À-ɏ])([A-Z])(?:[)\].:、」]\s?[^.\n。]{0,60}?)?'
    rf'(?:\s?(?i:{headers.COPULA}|是)\s?(?i:{headers.RIGHT})'
    r'|\s?(?:选项|選項)?正[确確])'
)
_RIGHT_IS = re.compile(
    rf'(?i:{headers.RIGHT}) (?i:{headers.COPULA})\W{{1,3}}([A-Z])'
    r'(?=\W*(?:\Z|[.,\n]))'
)
_IS_RIGHT = re.compile(
    rf'(?i:{headers.COPULA}) ([A-Z]) (?i:{headers.RIGHT})(?=\W)'
)
_STATED = (_CHOSEN, _CALLED_RIGHT, _RIGHT_IS, _IS_RIGHT)
_CLAUSE_ENDS = '.,。，、;!?\n'
# Markup and space that a header leaves behind.
_MARKS = ' \t\r\n*_#`'
_QUOTES = _MARKS + '>'
_FINAL_LETTER = re.compile(r'\W*[a-z](?![a-z])(?:[.):、].{0,80}|\W*)')
_STATEMENT = 120  # characters after 'the answer is' in a last sentence
# The authors' headers; the last one counts.
_AUTHORS = {
    'en': ('Answer:',),
    'zh': ('答案:', '答案：'),
    'fr': ('Réponse:', 'Réponse :'),
    'it': ('Risposta:',),
    'de': ('Antwort:',),
    'ja': ('答え:', '答え：'),
}


def parse(text: str, question: records.Question) -> Parsed:
  """The option that an answer names, whatever its language and form.

  The last answer header with an answer wins, since models restate. Without
  one only clear forms count: a bare letter or option, 'B is correct'.
  """
  if not text.strip():
    return Parsed(None, 'empty')
  seen = wrappers.view(wrappers.compose(text))
  low = wrappers.lower(seen)
  given = readings.choices(question.options)
  found = headers.answers(low)
  end = headers.next_question(low, found[0].end) if found else len(low)
  for header in reversed(found):
    at = _value(low, header.end, end)
    if at is None:
      continue
    value = seen[at : min(end, at + readings.LINE)]
    parsed = readings.read(value, given, marked=header.marked)
    if parsed and not header.marked and parsed.reason == 'header':
      return Parsed(parsed.answer, 'sentence')
    if parsed or header.marked:
      return parsed or readings.NO_ANSWER
  return _without_header(seen[:end].strip(), given)


def parse_authors(text: str, lang: str) -> str | None:
  """The letter by the authors' rule, kept with its faults for the replay.

  Raises:
    ValueError: a language that they did not use.
  """
  if lang not in _AUTHORS:
    raise ValueError(
        f"the authors' parser knows {', '.join(_AUTHORS)}, not {lang!r}; use"
        ' the default parser'
    )
  ends = [text.rfind(h) + len(h) for h in _AUTHORS[lang] if h in text]
  said = text[max(ends, default=0) :].strip()
  if len(said) < 2:
    return said or None
  for char in said[1], said[0]:
    if char in 'ABCDE':
      return char
  return None


# One winning answer is put before many others of its question, in several
# languages; a larger cache would be slower, being more than a processor's.
@functools.lru_cache(maxsize=128)
def explanation(text: str, lang: str) -> str:
  """The reasoning of an answer, with no header and no final answer.

  It is what stands before the first answer, or after it if that is nothing.
  """
  languages.get(lang)
  text = wrappers.compose(text)
  return canonical.explanation(text) or _explanation(text)


def _explanation(text: str) -> str:
  """The reasoning of an answer in any form."""
  low = wrappers.lower(wrappers.view(text))
  every = headers.answers(low)
  found = [header for header in every if header.marked]
  end = headers.next_question(low, found[0].end) if found else len(low)
  if not found:
    end = _last_statement(low, every)
  begin = 0
  for header in found:
    if begin <= header.start < end:
      stop = header.start
      if len(every) > len(found):
        stop = _before_dangling(low, every, begin, stop)
      if said := _reasoning(text, low, begin, stop):
        return said
    begin = max(begin, min(end, _answer_end(low, header.end)))
  return _reasoning(text, low, begin, end)


def _answer_end(low: str, start: int) -> int:
  """Where the line ends that holds the answer, or its explanation begins."""
  word = _WORD.search(low, start)
  if word is None:
    return len(low)
  line = low.find('\n', word.start())
  line = len(low) if line < 0 else line
  reason = headers.explanation_in(low, word.start(), line + 1)
  return reason.start() if reason else line


def _last_statement(low: str, every: list[headers.Header]) -> int:
  """Where an unmarked final answer begins: a bare letter, 'the answer is B'."""
  end = len(low.rstrip())
  line = low.rfind('\n', 0, end) + 1
  if line and _FINAL_LETTER.fullmatch(low, line, end):
    return line
  for header in reversed(every):
    if end - header.end > _STATEMENT or not header.opens:
      break
    if header.start:
      return header.start
  return end


def _before_dangling(
    low: str, every: list[headers.Header], begin: int, end: int
) -> int:
  """Where 'so the answer is:' begins, if it leads to the next header."""
  between = [header for header in every if begin <= header.start < end]
  if not between:
    return end
  header = between[-1]
  if header.opens or _WORD.search(low, header.end, end):
    return end
  clause = 1 + max(low.rfind(c, begin, header.start) for c in _CLAUSE_ENDS)
  return max(begin, clause)


def _reasoning(text: str, low: str, begin: int, end: int) -> str:
  found = headers.explanations(low, begin, end)
  main = next((h.end for h in found if h.main), None)
  if main is not None and _WORD.search(low, main, end):
    begin = main
  pieces = []
  for header in found:
    if header.end > begin:
      pieces.append((begin, header.start))
      begin = header.end
  pieces.append((begin, end))
  return '\n'.join(
      text[a:b].lstrip(_QUOTES).rstrip(_MARKS)
      for a, b in pieces
      if _WORD.search(low, a, b)
  )


def _value(low: str, start: int, end: int) -> int | None:
  """Where the value after a header starts; None if another header follows."""
  word = _WORD.search(low, start, end)
  if word is None or headers.explanation_at(low, word.start()):
    return None
  return max(start, word.start() - 1)


def _without_header(seen: str, given: readings.Choices) -> Parsed:
  first, last = seen.partition('\n')[0], seen.rpartition('\n')[2]
  if len(only := wrappers.plain(seen)) == 1:
    last = only.upper()
  parsed = readings.bare(last, given) or _stated(seen, given)
  return parsed or readings.bare(first, given) or readings.NO_ANSWER


def _stated(seen: str, given: readings.Choices) -> Parsed | None:
  letters = {m[1] for form in _STATED for m in form.finditer(seen)}
  keys = {given.named(letter) for letter in letters} - {None}
  if len(keys) > 1:
    return readings.SEVERAL
  return Parsed(keys.pop(), 'sentence') if keys else None
