"""Answers in the form that prompts ask for, from which most do not depart.

'Explanation: some sentences', then 'Answer: ...' on a line of its own.
"""

from __future__ import annotations

import re

from calm_jax.qa import headers, languages, wrappers

# Characters at the end of an explanation; headers have fewer.
_TAIL = 80
# No word that is an explanation header has so many.
_SHORTEST = 24

_ROWS = languages.LANGUAGES.values()
_EXPLANATION = '|'.join(
    re.escape(word.capitalize())
    for row in _ROWS
    for word in row.vocabulary.explanation
)
_ANSWER = '|'.join(re.escape(row.answer) for row in _ROWS)
_MARKS = headers.MARKS + headers.DASHES + wrappers.MARKUP
# What ends no header.
_PLAIN = rf'[^\n{re.escape(_MARKS + wrappers.wide(_MARKS))}]'
_FORM = re.compile(
    rf'\s{{0,9}}(?:{_EXPLANATION})[^\S\n]*[:：][ \t\r\n]*'
    rf'([^\W_]{_PLAIN}+(?:[{headers.DASHES}](?![\s\u200b\ufeff]){_PLAIN}+)*)\n+'
    rf'(?:{_ANSWER})[^\S\n]*[:：]'
)


def explanation(text: str) -> str | None:
  """The explanation of an answer of this form, None for others.

  It is the one that is found by looking for every header, and found three
  times as fast: a line without marks has room for headers at its end only.
  """
  form = _FORM.match(text)
  if form is None:
    return None
  said = form[1].rstrip(' \t\r')
  if len(said) < _SHORTEST or said[-1].isspace():
    return None
  end = wrappers.lower(wrappers.view(said[-_TAIL:]))
  return None if headers.answers(end + '\n') else said
