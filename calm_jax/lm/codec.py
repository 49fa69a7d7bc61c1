"""What a tokenizer needs of the library that its vocabulary belongs to.

Special tokens in text are plain text to a codec. It knows three places, since
some vocabularies put a space before a text depending on where the text stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import enum
import re
from typing import Any, Protocol

# Fine-tuned models come with tokens that work like special ones and are not
# marked so ('[Utility:5]', '<tool_call>'); an added word has no brackets.
BRACKETED = re.compile(r'<.+>|\[.+\]', re.DOTALL)


class Place(enum.Enum):
  """Where a text stands: first of all, after a special token, after text."""

  START = 0
  AFTER_SPECIAL = 1
  AFTER_TEXT = 2


@dataclasses.dataclass(frozen=True)
class Special:
  """A token with a function. `lstrip` and `rstrip` eat white space there."""

  text: str
  id: int
  lstrip: bool = False
  rstrip: bool = False
  single_word: bool = False


class Codec(Protocol):
  """Plain text to ids and back; `unknown` may be an id of plain text."""

  specials: Mapping[str, Special]
  unknown: int | None
  size: int

  def encode(self, text: str, place: Place) -> list[int]:
    """Ids of plain text."""
    ...

  def decode(self, ids: Sequence[int], place: Place) -> str:
    """Text of ids, special tokens and ids outside the vocabulary left out."""
    ...

  def whole(self, text: str) -> list[int] | None:
    """Ids by the library's own search for special tokens, if it has one."""
    ...


def special(token: Mapping[str, Any], token_id: int) -> Special:
  """A special token from its description in a Hugging Face file."""
  return Special(
      token['content'],
      token_id,
      lstrip=token.get('lstrip', False),
      rstrip=token.get('rstrip', False),
      single_word=token.get('single_word', False),
  )


class Finder:
  """Finds special tokens as `tokenizers` does: leftmost, then longest."""

  def __init__(self, specials: Mapping[str, Special]):
    self._specials = specials
    longest_first = sorted(specials.values(), key=lambda s: -len(s.text))
    # Of an empty vocabulary nothing must match, and least of all ''.
    self._pattern = re.compile('|'.join(map(_regex, longest_first)) or '(?!)')

  def split(
      self, text: str, words: str
  ) -> Iterator[tuple[slice, Special | None]]:
    """Cuts `text` into special tokens and what is between them.

    `words` is as long as `text` and says what is a word, for `single_word`.
    """
    start = 0
    for match in self._pattern.finditer(text):
      found = match.group()
      token = self._specials.get(found) or self._specials[found.strip()]
      if token.single_word and _in_word(words, *match.span()):
        continue
      if start < match.start():
        yield slice(start, match.start()), None
      yield slice(*match.span()), token
      start = match.end()
    if start < len(text):
      yield slice(start, len(text)), None


def _regex(token: Special) -> str:
  left, right = r'\s*' * token.lstrip, r'\s*' * token.rstrip
  return left + re.escape(token.text) + right


def _in_word(text: str, start: int, end: int) -> bool:
  around = text[:start][-1:] + text[end:][:1]
  return re.search(r'\w', around) is not None
