"""Texts as sentences, for models that were trained on single ones."""

from __future__ import annotations

from collections.abc import Sequence
import re

from calm_jax.qa import languages

# Where a sentence may end, with the white space after it.
_END = re.compile(
    r'[.!?…]+["\'”’»)\]]*(?=\s)\s+|[。！？]+[”’」』）)]*\s*|\s*\n\s*'
)
# A full stop after these, or after a single letter, ends no sentence.
_ABBREVIATIONS = frozenset(
    'approx bzw ca cf dr drs eg etc fig ie inc jr mr mrs ms no nr pp prof sig'
    ' sr st vgl vs'.split()
)
_LAST_WORD = re.compile(r'([^\W\d_]+)\.$')


def split(text: str) -> list[tuple[str, str]]:
  """Sentences, each with the white space after it; joined they are `text`."""
  parts, start = [], 0
  for match in _END.finditer(text):
    body = text[start : match.end()]
    sentence = body.rstrip()
    if sentence and not _goes_on(sentence, text[match.end() :]):
      parts.append((sentence, body[len(sentence) :]))
      start = match.end()
  if rest := text[start:]:
    sentence = rest.rstrip()
    parts.append((sentence, rest[len(sentence) :]))
  return parts


def join(sentences: Sequence[str], gaps: Sequence[str], target: str) -> str:
  """Translated sentences as one text; line breaks stay where they were."""
  out = ''
  for sentence, gap in zip(sentences, gaps, strict=True):
    space = ' ' if languages.get(target).spaced else ''
    out += sentence + (gap if '\n' in gap else space)
  return out.strip()


def _goes_on(sentence: str, rest: str) -> bool:
  if word := _LAST_WORD.search(sentence):
    single = len(word[1]) == 1 and word[1].isascii()
    if single or word[1].casefold() in _ABBREVIATIONS:
      return True
  # "z. B. das", "1.5 mg i.v. daily": a sentence begins with no small letter.
  return sentence.endswith('.') and rest[:1].islower()
