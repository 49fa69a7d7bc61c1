"""What answers come wrapped in: wide forms, markdown, LaTeX, placeholders."""

from __future__ import annotations

import re
import unicodedata

from calm_jax.qa import languages

# One character for one, so that offsets in the view hold in the text.
_NARROW = (
    {chr(0xFF01 + i): chr(0x21 + i) for i in range(94)}
    | {chr(0x24B6 + i): chr(0x41 + i) for i in range(26)}  # circled letters
    | dict.fromkeys('\u3000\xa0\u2007\u202f\u200b\ufeff', ' ')
    | dict.fromkeys('\u2236\ufe55', ':')
    | {'\u2019': "'"}
)
_WIDE = re.compile('[' + ''.join(_NARROW) + ']')
MARKUP = '*`#$~{}_\\<'  # what all markup begins with
# One class comes first, and the engine skips to its characters.
_MARKUP = re.compile(
    rf'[{re.escape(MARKUP)}](?:(?<![\\<])'
    r'|(?<=\\)(?:(?:fbox|text[a-z]*|math[a-z]*|n(?![a-z]))|(?!boxed))'
    r'|(?<=<)/?(?:b|strong|i|em|u|code|p|br)\s?/?>)'
)
# '<your explanation>' and '<letter>' are the prompt echoed; '<B>' is not.
_ASKED_FOR = '|'.join(
    ['letter', 'option', 'choice', 'lettre', 'lettera', 'opzione', 'buchstabe']
    + ['letra', 'opción', '字母', '选项', '記号', '選択肢', 'reasoning']
    + [row.explanation for row in languages.LANGUAGES.values()]
    + [row.answer for row in languages.LANGUAGES.values()]
)
_PLACEHOLDER = re.compile(
    r'<(?!/?answer>)(?![^<>\n]{0,60}(?<![A-Za-z])[A-Z](?![A-Za-z]))'
    rf'[^<>\n]{{0,60}}?(?i:{_ASKED_FOR})[^<>\n]{{0,60}}>'
)
_WORD = re.compile(r'\w+')


def compose(text: str) -> str:
  """The text with its accents composed; views are of such text."""
  return unicodedata.normalize('NFC', text)


def view(text: str) -> str:
  """The text, as long as before, with its wrappers made narrow or blank."""
  if not text.isascii():
    text = _WIDE.sub(_narrow, text)
  text = _MARKUP.sub(_blank, text)
  return _PLACEHOLDER.sub(_blank, text) if '<' in text else text


def wide(chars: str) -> str:
  """The other characters that a view shows as one of these."""
  return ''.join(other for other, seen in _NARROW.items() if seen in chars)


def lower(text: str) -> str:
  """Lower case of the same length."""
  low = text.lower()
  if len(low) == len(text):
    return low
  return ''.join(c.lower() if len(c.lower()) == 1 else c for c in text)


def plain(text: str) -> str:
  """What is left to compare: words in one case, one space between them."""
  return ' '.join(_WORD.findall(text.casefold()))


def is_plain_letter(char: str) -> bool:
  """Whether words are set off by spaces in this character's script."""
  return char.isalnum() and char < '\u2e80'


def find(words: str, line: str) -> list[tuple[int, int]]:
  """Where `words` stand in `line` as whole words; both are `plain`."""
  spans, start = [], line.find(words)
  while start >= 0:
    end = start + len(words)
    if not (_joined(line, start) or _joined(line, end)):
      spans.append((start, end))
    start = line.find(words, end)
  return spans


def _joined(line: str, index: int) -> bool:
  """Whether `index` cuts a word of a script with spaces in two."""
  around = line[max(index - 1, 0) : index + 1] if index else ''
  return len(around) == 2 and all(map(is_plain_letter, around))


def _narrow(match: re.Match[str]) -> str:
  return _NARROW[match[0]]


def _blank(match: re.Match[str]) -> str:
  return ' ' * len(match[0])
