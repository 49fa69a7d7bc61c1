"""Reads X-CSQA: the same `id` in a jsonl or parquet file per language.

The release's folders hold {lang}/{split}.jsonl; the Hub's hold parquet, and
call Japanese jap and the split dev validation. A file that breaks the format
raises ValueError with file, row and field; a question that is sound in each
file but not across the languages is left out and counted (see alignment).
"""

from __future__ import annotations

from collections.abc import Sequence
import pathlib
from typing import Any

from calm_jax import records
from calm_jax.datasets import alignment, rows

# The release says jap; the CALM authors' files say cn.
_ALIASES = {'ja': ('ja', 'jap'), 'zh': ('zh', 'cn')}
# The Hub has its own word for the release's dev.
SPLITS = {'dev': ('dev', 'validation'), 'validation': ('validation', 'dev')}
# Where the folders of languages may be below the folder that one downloads.
_ROOTS = ('.', 'X-CSQA', 'X-CSR_datasets/X-CSQA')


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
  files = find(path, split, languages)
  return alignment.align(
      {
          lang: _read_files(found, dataset=dataset, split=split, lang=lang)
          for lang, found in files.items()
      }
  )


def find(
    path: pathlib.Path, split: str, languages: Sequence[str]
) -> dict[str, list[pathlib.Path]]:
  """The files of a split, by language."""
  return {lang: _find(path, split, lang) for lang in languages}


def _find(path: pathlib.Path, split: str, lang: str) -> list[pathlib.Path]:
  layout = _layout(path)
  codes = _ALIASES.get(lang, (lang,))
  names = SPLITS.get(split, (split,))
  for code in codes:
    for name in names:
      if (code, name) in layout:
        return layout[code, name]
  languages = sorted({code for code, name in layout if name in names})
  splits = sorted({name for code, name in layout if code in codes})
  raise FileNotFoundError(
      f'{path / lang / split}.jsonl is not there. Languages with a {split} '
      f'file: {", ".join(languages) or "none"}; splits in {lang}: '
      f'{", ".join(splits) or "none"}. Change data.path, languages or the split'
  )


def _layout(path: pathlib.Path) -> dict[tuple[str, str], list[pathlib.Path]]:
  """The files below a folder, by language as written and split."""
  found: dict[tuple[str, str], list[pathlib.Path]] = {}
  for file in sorted(path.glob('X-CSQA-*/**/*.parquet')):
    config, *middle = file.relative_to(path).parts[:-1]
    # X-CSQA-jap/test/0000.parquet, or X-CSQA-jap/test-00000-of-00001.parquet.
    split = middle[0] if middle else file.stem.split('-')[0]
    key = (config.removeprefix('X-CSQA-'), split)
    found.setdefault(key, []).append(file)
  for root in _ROOTS:
    for file in sorted((path / root).glob('*/*.jsonl')):
      found[file.parent.name, file.stem] = [file]
  return found


def _read_files(
    files: Sequence[pathlib.Path], *, dataset: str, split: str, lang: str
) -> dict[str, records.Question]:
  questions = {}
  for where, row in (found for file in files for found in rows.read(file)):
    with rows.at(where):
      question = _question(row, dataset=dataset, split=split, lang=lang)
      if question.id in questions:
        raise ValueError(f"field 'id': {question.id!r} was there before")
    questions[question.id] = question
  return questions


def _question(
    row: Any, *, dataset: str, split: str, lang: str
) -> records.Question:
  question_id = rows.field(row, 'id', str)
  if not question_id.strip():
    raise ValueError("field 'id': is empty")
  code = rows.field(row, 'lang', str)
  if code not in _ALIASES.get(lang, (lang,)):
    raise ValueError(f"field 'lang': {code!r} in a file of {lang!r}")
  question = rows.field(row, 'question', dict)
  options = _options(rows.field(question, 'choices', (list, dict)))
  # The release hides the test split's keys.
  gold = rows.optional(row, 'answerKey') or None
  if gold is not None and gold not in (labels := [o.key for o in options]):
    raise ValueError(f"field 'answerKey': {gold!r} is not one of {labels}")
  return records.Question(
      id=question_id,
      dataset=dataset,
      split=split,
      lang=lang,
      stem=rows.field(question, 'stem', str).strip(),
      options=options,
      gold=gold,
  )


def _options(choices: Any) -> tuple[records.Option, ...]:
  if isinstance(choices, dict):
    choices = _rows_of_columns(choices)
  options = tuple(
      records.Option(
          key=rows.field(c, 'label', str).strip(),
          text=rows.field(c, 'text', str).strip(),
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
  labels = rows.field(choices, 'label', list)
  texts = rows.field(choices, 'text', list)
  if len(labels) != len(texts):
    raise ValueError(
        f"field 'choices': {len(labels)} labels, {len(texts)} texts"
    )
  return [{'label': k, 'text': t} for k, t in zip(labels, texts, strict=True)]
