"""Reads MedQA: board exam questions, each edition in its own language.

The release is {US,Mainland,Taiwan}/{split}.jsonl below data_clean/questions,
with 4_options/ and metamap variants; the Hub's is a parquet folder per
edition, where options are a list of {key, value}. Rows have no id: theirs is
edition, split and row. Phrases found by MetaMap are not read.

A row whose answer and answer_idx do not name one of its options is left out
and counted as gold_conflict, beside the reasons of alignment.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
import functools
import itertools
import pathlib
from typing import Any

from calm_jax import records
from calm_jax.datasets import alignment, rows

# Where the editions' folders may be below the folder that one downloads.
_ROOTS = ('data_clean/questions', 'questions', '.')
_NO_DROPS: collections.Counter[str] = collections.Counter()
_HUB_SPLITS = {'dev': 'validation'}


@dataclasses.dataclass(frozen=True)
class Edition:
  """One exam and number of options; `files` and `hub` hold its questions."""

  name: str
  lang: str
  files: tuple[str, ...]  # one of them, below the folder of questions
  hub: str  # configuration of the data set on the Hub


def _read(
    edition: Edition,
    path: pathlib.Path,
    split: str,
    languages: Sequence[str],
    /,
) -> tuple[list[records.Question], dict[str, int]]:
  """The split's questions in the edition's language, and the drops."""
  files = _find(edition, path, split, languages)[edition.lang]
  versions = {}
  found = (row for file in files for row in rows.read(file))
  for number, (where, row) in enumerate(found, 1):
    question_id = f'{edition.name}-{split}-{number:05d}'
    with rows.at(where):
      versions[question_id] = _question(row, edition, question_id, split)
  return alignment.align({edition.lang: versions})


def read_both(
    path: pathlib.Path, split: str, languages: Sequence[str], /
) -> tuple[list[records.Question], dict[str, int]]:
  """The 4-option questions of both countries, in turns, and the drops.

  In turns, so that the first few are of both.
  """
  sides = [_read(e, path, split, languages) for e in (_US_4, _MAINLAND_4)]
  turns = itertools.zip_longest(*(questions for questions, _ in sides))
  dropped = sum((collections.Counter(d) for _, d in sides), start=_NO_DROPS)
  return [q for turn in turns for q in turn if q is not None], dict(dropped)


def find_both(
    path: pathlib.Path, split: str, languages: Sequence[str], /
) -> dict[str, list[pathlib.Path]]:
  """The files of both countries' split, by language."""
  found = [_find(e, path, split, languages) for e in (_US_4, _MAINLAND_4)]
  return {lang: files for side in found for lang, files in side.items()}


def _find(
    edition: Edition,
    path: pathlib.Path,
    split: str,
    languages: Sequence[str],
    /,
) -> dict[str, list[pathlib.Path]]:
  """The files of a split, by the edition's only language."""
  if edition.lang not in languages:
    raise ValueError(
        f'config.languages = {tuple(languages)}: data.name={edition.name} has '
        f'questions in {edition.lang} only, from which the others are '
        f'translated; add {edition.lang}'
    )
  return {edition.lang: _find_split(edition, path, split)}


# The paper uses the 4-option editions, whose letters differ from the others'.
_US = Edition(
    name='medqa_us',
    lang='en',
    files=(
        'US/{split}.jsonl',
        'US/metamap_extracted_phrases/{split}/phrases_{split}.jsonl',
    ),
    hub='med_qa_en_source',
)
_US_4 = Edition(
    name='medqa_us_4',
    lang='en',
    files=(
        'US/4_options/phrases_no_exclude_{split}.jsonl',
        'US/4_options/{split}.jsonl',
        'phrases_no_exclude_{split}.jsonl',
    ),
    hub='med_qa_en_4options_source',
)
_MAINLAND = Edition(
    name='medqa_mainland',
    lang='zh',
    files=('Mainland/{split}.jsonl',),
    hub='med_qa_zh_source',
)
_MAINLAND_4 = Edition(
    name='medqa_mainland_4',
    lang='zh',
    files=('Mainland/4_options/{split}.jsonl',),
    hub='med_qa_zh_4options_source',
)
# In traditional characters, and with four options from the start.
_TAIWAN = Edition(
    name='medqa_taiwan',
    lang='zh',
    files=('Taiwan/{split}.jsonl',),
    hub='med_qa_tw_source',
)

read_us = functools.partial(_read, _US)
find_us = functools.partial(_find, _US)
read_us_4 = functools.partial(_read, _US_4)
find_us_4 = functools.partial(_find, _US_4)
read_mainland = functools.partial(_read, _MAINLAND)
find_mainland = functools.partial(_find, _MAINLAND)
read_mainland_4 = functools.partial(_read, _MAINLAND_4)
find_mainland_4 = functools.partial(_find, _MAINLAND_4)
read_taiwan = functools.partial(_read, _TAIWAN)
find_taiwan = functools.partial(_find, _TAIWAN)


def _find_split(
    edition: Edition, path: pathlib.Path, split: str
) -> list[pathlib.Path]:
  names = [name.format(split=split) for name in edition.files]
  for root in _ROOTS:
    for name in names:
      if (file := path / root / name).is_file():
        return [file]
  hub = path / edition.hub
  for name in (_HUB_SPLITS.get(split, split), split):
    shards = (
        *hub.glob(f'{name}/*.parquet'),
        *hub.glob(f'{name}-*.parquet'),
        *hub.glob(f'med_qa-{name}.parquet'),  # an older conversion
    )
    if shards:
      return sorted(shards)
  found = sorted(f.relative_to(path).as_posix() for f in _all_files(path))
  raise FileNotFoundError(
      f'{path} has no {split} split of {edition.name}: neither '
      f'{" nor ".join(names)} (also below {_ROOTS[0]}) nor parquet in '
      f'{edition.hub}/. It has {", ".join(found[:12]) or "no such files"}. '
      'Change data.path, data.name or the split'
  )


def _all_files(path: pathlib.Path) -> list[pathlib.Path]:
  return [*path.rglob('*.jsonl'), *path.rglob('*.parquet')]


def _question(
    row: Any, edition: Edition, question_id: str, split: str
) -> alignment.Version:
  options = _options(rows.field(row, 'options', (dict, list)))
  gold = _gold(row, options)
  if gold == '':
    return 'gold_conflict'
  return records.Question(
      id=question_id,
      dataset=edition.name,
      split=split,
      lang=edition.lang,
      stem=rows.field(row, 'question', str).strip(),
      options=options,
      gold=gold,
  )


def _options(found: dict | list) -> tuple[records.Option, ...]:
  if isinstance(found, list):
    found = {rows.field(o, 'key', str): o.get('value') for o in found}
  # Tables have a cell for every letter, empty where a row has fewer options.
  given = {key: text for key, text in found.items() if text is not None}
  options = tuple(
      records.Option(key.strip(), rows.field(given, key, str).strip())
      for key in given
  )
  keys = [o.key for o in options]
  if len(set(keys)) < 2 or '' in keys or len(set(keys)) < len(keys):
    raise ValueError(f"field 'options': two or more letters, not {keys}")
  return options


def _gold(row: Any, options: Sequence[records.Option]) -> str | None:
  """The right option's key, None without a label, '' if it names no option."""
  key, text = rows.optional(row, 'answer_idx'), rows.optional(row, 'answer')
  if not key and not text:
    return None
  named = [
      o.key
      for o in options
      if (not key or o.key == key)
      and (not text or alignment.alike(o.text, text))
  ]
  return named[0] if len(named) == 1 else ''
