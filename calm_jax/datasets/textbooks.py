"""Reads corpora, the MedQA textbooks above all, as short passages.

A passage is whole sentences, about 100 words or 200 Chinese characters of
them. Its id says where it begins: textbooks/en/Anatomy.txt holds at character
1200 the first one of en/Anatomy@1200.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import functools
import json
import pathlib
import re

from calm_jax import records
from calm_jax.datasets import rows

BUNDLED = pathlib.Path(__file__).parent / 'demo' / 'textbooks'

WORDS = 100
# Two Chinese characters say about as much as one English word.
_WORDS_PER_CHARACTER = 0.5
# A paragraph's end closes a passage that is at least so full.
_FULL_ENOUGH = 0.25

# Chinese and Japanese characters, with their punctuation.
_WIDE = r'\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef'
_CHARACTER = re.compile(f'[{_WIDE}]')
_WORD = re.compile(rf'[{_WIDE}]|\w[^\s{_WIDE}]*')
# Where a sentence ends, with the space after it. Initials and abbreviations
# end none; full-width marks need no space.
_END = re.compile(
    r'[。！？；][”’」』）]*\s*'
    r'|(?<!\b[A-Z])(?<!\b(?:Dr|Mr|Ms|St|vs|cf|al|No|pp))'
    r'(?<!\b(?:Fig|Mrs|e\.g|i\.e|viz|Vol))'
    r'[.!?][)\]"”’]*\s+(?=[^a-z\s])'
    r'|\s*\n\s*'
)

# Where the folders of books may be below the folder that one downloads.
_ROOTS = ('data_clean/textbooks', 'textbooks', '.')

Texts = Iterator[tuple[str, str]]  # source and its text


def passages(
    path: pathlib.Path, form: str, *, words: int = WORDS
) -> tuple[list[records.Passage], dict[str, int]]:
  """The corpus in `path` cut into passages, and what was counted.

  sources, passages, and what was left out: empty (sources without text) and
  duplicate (passages word for word as an earlier one).
  """
  if form not in FORMATS:
    raise ValueError(f'corpus format {form!r} is not one of {list(FORMATS)}')
  counts = {'sources': 0, 'empty': 0, 'duplicate': 0}
  unique: dict[str, records.Passage] = {}
  for source, text in FORMATS[form](path):
    counts['sources'] += 1
    found = cut(text, source=source, words=words)
    counts['empty'] += not found
    for passage in found:
      counts['duplicate'] += passage.text in unique
      unique.setdefault(passage.text, passage)
  if not unique:
    raise ValueError(f'{path}: no passage in it, format {form}')
  return list(unique.values()), counts | {'passages': len(unique)}


def cut(text: str, *, source: str, words: int) -> list[records.Passage]:
  """Whole sentences, as many as fit; one that is too long is cut by words."""
  found, start, end, size = [], 0, 0, 0.0
  for first, last, closes in _pieces(text, words):
    more = _size(text[first:last])
    if size and size + more > words:
      found.append((start, end))
      size = 0.0
    start = start if size else first
    end, size = last, size + more
    if closes and size >= _FULL_ENOUGH * words:
      found.append((start, end))
      size = 0.0
  if size:
    found.append((start, end))
  return [
      records.Passage(
          id=f'{source}@{start}',
          source=source,
          text=' '.join(text[start:end].split()),
      )
      for start, end in found
  ]


def _pieces(text: str, words: int) -> Iterator[tuple[int, int, bool]]:
  """Start and end of each sentence, and whether it ends a paragraph."""
  start = 0
  for end in [m.end() for m in _END.finditer(text)] + [len(text)]:
    sentence = text[start:end]
    first = start + len(sentence) - len(sentence.lstrip())
    last = start + len(sentence.rstrip())
    if first < last:
      *parts, rest = _parts(text, first, last, words)
      yield from ((*part, False) for part in parts)
      yield *rest, '\n' in text[last:end] or end == len(text)
    start = end


def _parts(
    text: str, first: int, last: int, words: int
) -> list[tuple[int, int]]:
  """A sentence in parts of at most `words`; nearly always one."""
  if _size(text[first:last]) <= words:
    return [(first, last)]
  parts, start, size = [], first, 0.0
  for word in _WORD.finditer(text, first, last):
    more = _size(word.group())
    if size and size + more > words:
      parts.append((start, word.start()))
      start, size = word.start(), 0.0
    size += more
  return [*parts, (start, last)]


def _size(text: str) -> float:
  """A text's length in words."""
  characters = len(_CHARACTER.findall(text))
  rest = len(_WORD.findall(text)) - characters
  return characters * _WORDS_PER_CHARACTER + rest


def _books(folders: Sequence[str], path: pathlib.Path) -> Texts:
  """The books of MedQA's release, data_clean/textbooks/{folder}/*.txt."""
  for root in _ROOTS:
    files = [
        file
        for folder in folders
        for file in sorted((path / root / folder).glob('*.txt'))
    ]
    if files:
      for file in files:
        yield f'{file.parent.name}/{file.stem}', _text(file)
      return
  raise FileNotFoundError(
      f'{path}: no textbooks here: none of {", ".join(folders)} with .txt'
      f' files, nor in {_ROOTS[0]}; set retrieve.corpus to the release'
  )


def _pubmedqa(path: pathlib.Path) -> Texts:
  """The abstracts of PubMedQA, in one JSON object by article."""
  with rows.at(str(path)):
    articles = json.loads(_text(path))
    if not isinstance(articles, dict):
      raise ValueError('must be one JSON object of articles')
  for name, article in articles.items():
    with rows.at(f'{path}: article {name}'):
      texts = rows.field(article, 'CONTEXTS', list)
    for number, text in enumerate(texts):
      yield f'pubmedqa/{name}/{number}', text


def _medmcqa(path: pathlib.Path) -> Texts:
  """The explanations of MedMCQA's questions, a JSON object a line."""
  for number, line in enumerate(_text(path).split('\n'), 1):
    if line.strip():
      with rows.at(f'{path}:{number}'):
        row = json.loads(line)
        name, text = rows.field(row, 'id', str), rows.optional(row, 'exp')
      yield f'medmcqa/{name}', text


def _text(file: pathlib.Path) -> str:
  """A file's text as it is: offsets must not move with its line ends."""
  try:
    return file.read_bytes().decode('utf-8-sig')
  except UnicodeDecodeError as e:
    raise ValueError(f'{file}: not UTF-8 ({e}); convert it first') from e


FORMATS = {
    'textbooks': functools.partial(_books, ('en', 'zh_paragraph')),
    'textbooks_en': functools.partial(_books, ('en',)),
    'textbooks_zh': functools.partial(_books, ('zh_paragraph',)),
    'textbooks_zh_sentence': functools.partial(_books, ('zh_sentence',)),
    'pubmedqa': _pubmedqa,
    'medmcqa': _medmcqa,
}
