"""Reads X-CSQA: a jsonl file per language, the same `id` in each.

A file that breaks the format raises ValueError with file, line and field. A
question that is sound in each file but not across the languages asked for is
left out and counted:

  missing_language  a language has no row with its id
  blank_text        a stem or an option is empty in a language
  labels_differ     the languages label their options differently
  gold_differs      the languages disagree about the answer key
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any

from calm_jax import records

# The release says jap; the CALM authors' files say cn.
_ALIASES = {'ja': ('ja', 'jap'), 'zh': ('zh', 'cn')}


def read(
    path: pathlib.Path,
    split: str,
    languages: Sequence[str],
    *,
    dataset: str = 'xcsqa',
) -> tuple[list[records.Question], dict[str, int]]:
  """The questions that all `languages` share, and the drops by reason.

  Ordered by question (as in the first language's file), then by language.
  """
  rows = {}
  for lang in languages:
    file = _find(path, split, lang)
    rows[lang] = _read_file(file, dataset=dataset, split=split, lang=lang)
  return align(rows)


def align(
    rows: Mapping[str, Mapping[str, records.Question]],
) -> tuple[list[records.Question], dict[str, int]]:
  """Joins {language: {id: question}} by id; see the module's docstring."""
  kept, dropped = [], collections.Counter()
  for question_id in dict.fromkeys(i for by_id in rows.values() for i in by_id):
    versions = [b[question_id] for b in rows.values() if question_id in b]
    if len(versions) < len(rows):
      dropped['missing_language'] += 1
    elif reason := _misfit(versions):
      dropped[reason] += 1
    else:
      kept += versions
  return kept, dict(dropped)


def _misfit(versions: Sequence[records.Question]) -> str:
  """Why one question's languages do not belong together, '' if they do."""
  texts = [[q.stem, *(o.text for o in q.options)] for q in versions]
  if not all(text for row in texts for text in row):
    return 'blank_text'
  if len({frozenset(o.key for o in q.options) for q in versions}) > 1:
    return 'labels_differ'
  if len({q.gold for q in versions}) > 1:
    return 'gold_differs'
  return ''


def _find(path: pathlib.Path, split: str, lang: str) -> pathlib.Path:
  roots = (path, path / 'X-CSQA')
  for root in roots:
    for folder in _ALIASES.get(lang, (lang,)):
      if (file := root / folder / f'{split}.jsonl').is_file():
        return file
  found = [file for root in roots for file in root.glob('*/*.jsonl')]
  languages = sorted({f.parent.name for f in found if f.stem == split})
  folders = _ALIASES.get(lang, (lang,))
  splits = sorted({f.stem for f in found if f.parent.name in folders})
  raise FileNotFoundError(
      f'{path / lang / split}.jsonl is not there. Languages with a {split} '
      f'file: {", ".join(languages) or "none"}; splits in {lang}: '
      f'{", ".join(splits) or "none"}. Change data.path, languages or the split'
  )


def _read_file(
    file: pathlib.Path, *, dataset: str, split: str, lang: str
) -> dict[str, records.Question]:
  questions = {}
  # Bytes, because text that splits at U+2028 would break rows in two.
  for number, line in enumerate(file.read_bytes().split(b'\n'), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line.decode('utf-8-sig'))
      question = _question(row, dataset=dataset, split=split, lang=lang)
      if question.id in questions:
        raise ValueError(f"field 'id': {question.id!r} was there before")
    except ValueError as e:
      raise ValueError(f'{file}:{number}: {e}') from e
    questions[question.id] = question
  return questions


def _question(
    row: Any, *, dataset: str, split: str, lang: str
) -> records.Question:
  question_id = _field(row, 'id', str)
  if not question_id.strip():
    raise ValueError("field 'id': is empty")
  code = _field(row, 'lang', str)
  if code not in _ALIASES.get(lang, (lang,)):
    raise ValueError(f"field 'lang': {code!r} in a file of {lang!r}")
  question = _field(row, 'question', dict)
  options = _options(_field(question, 'choices', (list, dict)))
  # The release hides the test split's keys.
  hidden = row.get('answerKey') in (None, '')
  gold = None if hidden else _field(row, 'answerKey', str).strip()
  if gold is not None and gold not in (labels := [o.key for o in options]):
    raise ValueError(f"field 'answerKey': {gold!r} is not one of {labels}")
  return records.Question(
      id=question_id,
      dataset=dataset,
      split=split,
      lang=lang,
      stem=_field(question, 'stem', str).strip(),
      options=options,
      gold=gold,
  )


def _options(choices: Any) -> tuple[records.Option, ...]:
  if isinstance(choices, dict):
    choices = _rows_of_columns(choices)
  options = tuple(
      records.Option(
          key=_field(c, 'label', str).strip(),
          text=_field(c, 'text', str).strip(),
      )
      for c in choices
  )
  labels = [o.key for o in options]
  if len(options) < 2:
    raise ValueError(f"field 'choices': {len(options)} given, 2 are needed")
  if '' in labels or len(set(labels)) < len(labels):
    raise ValueError(f"field 'label': empty or twice among {labels}")
  return options


def _rows_of_columns(choices: dict) -> list[dict[str, Any]]:
  """The Hub's {'label': [...], 'text': [...]} as the release's rows."""
  labels, texts = _field(choices, 'label', list), _field(choices, 'text', list)
  if len(labels) != len(texts):
    raise ValueError(
        f"field 'choices': {len(labels)} labels, {len(texts)} texts"
    )
  return [{'label': k, 'text': t} for k, t in zip(labels, texts, strict=True)]


def _field(row: Any, name: str, kind: Any) -> Any:
  if not isinstance(row, dict):
    raise ValueError(f'{row!r} is not an object with the field {name!r}')
  if name not in row:
    raise ValueError(f'lacks the field {name!r}; it has {sorted(row)}')
  if not isinstance(row[name], kind):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = ' or '.join(k.__name__ for k in kinds)
    raise ValueError(f'field {name!r}: {row[name]!r} is not {wanted}')
  return row[name]
