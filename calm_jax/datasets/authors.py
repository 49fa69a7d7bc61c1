"""Reads the files that CALM's authors released, as questions.

MEDQA tests: all_test_native_en.json and others, row i the same question in
each, options inside the text as '(A) ...', the answer as '(B) ...'. X-CSQA:
x_csqa_{lang}_{split}_sampled.json or x_csqa_{lang}_{split}.json, options as
'A. ...', the answer a letter. Both name Chinese cn. Translations were made by
machine, the answer apart from the options, so a letter counts and a text may
only contradict it. The files may lie in one folder or as in the repository.

Reasons for which a row is left out, beside those of alignment:

  options_unreadable  the text does not hold every option after its letter
  gold_unreadable     the answer does not begin with a letter
  gold_conflict       the answer's text is that of another option
  extra_row           the file has a row that the native file lacks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import pathlib
import re
from typing import NamedTuple

import msgspec

from calm_jax import records
from calm_jax.datasets import alignment, rows

_MEDQA_OPTIONS = re.compile(
    r'(.*)' + ''.join(rf'[(（]\s*{k}\s*[)）](.*?)' for k in 'ABCD'), re.DOTALL
)
# Some begin with the word for a question and end in the one for an answer,
# even in two languages.
_XCSQA_OPTIONS = re.compile(
    r'(?:(?:Question|问题|Frage|Domanda|質問)\s*[:：])?(.*?)'
    + ''.join(rf'\n\s*{k}[.．](.*?)' for k in 'ABCDE')
    + r'(?:\s*\n(?:Answer|Réponse|答案|Antwort|Risposta|答え)\s*[:：])*\s*',
    re.DOTALL,
)
_MEDQA_GOLD = re.compile(r'\s*[(（]\s*([A-Za-z])\s*[)）](.*)', re.DOTALL)
_XCSQA_GOLD = re.compile(r'\s*([A-Z])\s*()')


class Row(NamedTuple):
  text: str  # the question and its options
  answer: str


class Gold(NamedTuple):
  """An option's key, and what named it: letter, same_text or other_text.

  other_text is a letter whose text is no option's. Without a key, `told` is
  the reason.
  """

  key: str | None
  told: str


@dataclasses.dataclass(frozen=True)
class Release:
  """One set of the authors' files, a language each.

  `native` is the language that the others are translated from, if any.
  """

  name: str
  native: str | None
  files: Mapping[str, tuple[str, ...]]  # by language: one of them
  splits: tuple[str, ...]  # () for any
  options: re.Pattern[str]
  gold: re.Pattern[str]


def _read(
    release: Release,
    path: pathlib.Path,
    split: str,
    languages: Sequence[str],
    /,
) -> tuple[list[records.Question], dict[str, int]]:
  """The questions in those of `languages` that there are, and the drops."""
  files = _find(release, path, split, languages)
  first = release.native or next(iter(files))
  found = {lang: _load(file) for lang, (file,) in files.items()}
  versions = {}
  for lang, (file,) in files.items():
    with rows.at(str(file)):
      matched = _matched(found[first], found[lang])
    versions[lang] = _versions(matched, release, split, lang)
  kept, dropped = alignment.align(versions)
  if extra := sum(max(0, len(f) - len(found[first])) for f in found.values()):
    dropped['extra_row'] = extra
  return [q for q in kept if q.lang in languages], dropped


def _find(
    release: Release,
    path: pathlib.Path,
    split: str,
    languages: Sequence[str],
    /,
) -> dict[str, list[pathlib.Path]]:
  """The one file of each of `languages` that there is."""
  wanted = [lang for lang in languages if lang in release.files]
  if not wanted:
    raise ValueError(
        f'config.languages = {tuple(languages)}: data.name={release.name} has '
        f'only {", ".join(release.files)}; add one of them'
    )
  # An original is read in any case: its translations must agree with it.
  langs = dict.fromkeys((*wanted, release.native or wanted[0]))
  return {lang: [_find_file(release, path, split, lang)] for lang in langs}


def _places(folder: str, *files: str) -> tuple[str, ...]:
  """Where files may be: in data.path itself or in the repository there."""
  return tuple(place for f in files for place in (f, f'data/{folder}/{f}'))


_US = Release(
    name='medqa_authors_us',
    native='en',
    files={
        lang: _places('medqa/test/test_sft_en_q_1000', file)
        for lang, file in (
            ('en', 'all_test_native_en.json'),
            ('zh', 'all_test_en2cn.json'),
            ('fr', 'all_test_en2fr.json'),
        )
    },
    splits=('test',),
    options=_MEDQA_OPTIONS,
    gold=_MEDQA_GOLD,
)
_MAINLAND = Release(
    name='medqa_authors_mainland',
    native='zh',
    files={
        lang: _places('medqa/test/test_sft_cn_q_1000', file)
        for lang, file in (
            ('zh', 'testset_native_cn.json'),
            ('en', 'testset_cn2en.json'),
            ('fr', 'all_test_cn2fr.json'),
        )
    },
    splits=('test',),
    options=_MEDQA_OPTIONS,
    gold=_MEDQA_GOLD,
)
_XCSQA = Release(
    name='xcsqa_authors',
    native=None,
    files={
        lang: (
            *_places('xcsqa/samples', f'x_csqa_{code}_{{split}}_sampled.json'),
            *_places('xcsqa/test', f'x_csqa_{code}_{{split}}.json'),
        )
        for lang, code in (
            ('en', 'en'),
            ('zh', 'cn'),
            ('fr', 'fr'),
            ('it', 'it'),
            ('de', 'de'),
            ('ja', 'ja'),
        )
    },
    splits=(),
    options=_XCSQA_OPTIONS,
    gold=_XCSQA_GOLD,
)

read_us = functools.partial(_read, _US)
find_us = functools.partial(_find, _US)
read_mainland = functools.partial(_read, _MAINLAND)
find_mainland = functools.partial(_find, _MAINLAND)
read_xcsqa = functools.partial(_read, _XCSQA)
find_xcsqa = functools.partial(_find, _XCSQA)


def _find_file(
    release: Release, path: pathlib.Path, split: str, lang: str
) -> pathlib.Path:
  if release.splits and split not in release.splits:
    raise ValueError(
        f'{release.name} has no split {split!r}, only '
        f'{", ".join(release.splits)}: change data.train_split, data.test_split'
    )
  places = [name.format(split=split) for name in release.files[lang]]
  for place in places:
    if (path / place).is_file():
      return path / place
  found = ', '.join(sorted(f.name for f in path.glob('*.json')))
  raise FileNotFoundError(
      f'{path} has no {" and no ".join(places)}; it has '
      f'{found or "no .json file"}. Change data.path, languages or the split'
  )


def _load(file: pathlib.Path) -> list[Row]:
  found = []
  for where, row in rows.read(file):
    with rows.at(where):
      text, answer = rows.field(row, 'input', str), rows.optional(row, 'output')
    found.append(Row(text, answer))
  return found


def _matched(first: Sequence[Row], found: Sequence[Row]) -> list[Row | None]:
  """For each row of `first`, the row of `found` that is the same question."""
  partners = alignment.match([r.text for r in first], [r.text for r in found])
  return [None if i is None else found[i] for i in partners]


def _versions(
    matched: Sequence[Row | None], release: Release, split: str, lang: str
) -> dict[str, alignment.Version]:
  native = release.native
  blank = records.Question(
      id='',
      dataset=release.name,
      split=split,
      lang=lang,
      stem='',
      options=(),
      translated_from=None if lang == native else native,
  )
  names = [f'{release.name}-{split}-{i + 1:04d}' for i in range(len(matched))]
  return {
      name: _version(row, release, msgspec.structs.replace(blank, id=name))
      for name, row in zip(names, matched, strict=True)
      if row is not None
  }


def _version(
    row: Row, release: Release, blank: records.Question
) -> alignment.Version:
  """The row as a question like `blank`, or why it cannot be one."""
  found = release.options.fullmatch(row.text)
  if not found:
    return 'options_unreadable'
  stem, *texts = (text.strip() for text in found.groups())
  options = tuple(
      records.Option(key, text)
      for key, text in zip('ABCDE', texts, strict=False)
  )
  gold = None
  if row.answer:
    gold, told = read_gold(row.answer, options, release.gold)
    if gold is None:
      return told
  return msgspec.structs.replace(blank, stem=stem, options=options, gold=gold)


def read_gold(
    answer: str,
    options: Sequence[records.Option],
    pattern: re.Pattern[str] = _MEDQA_GOLD,
) -> Gold:
  """The option that an answer such as '(B) text' names."""
  found = pattern.fullmatch(answer)
  key = found[1].upper() if found else ''
  named = {o.key: o.text for o in options}
  if not found or key not in named:
    return Gold(None, 'gold_unreadable')
  if not found[2].strip():
    return Gold(key, 'letter')
  if alignment.alike(found[2], named[key]):
    return Gold(key, 'same_text')
  if any(alignment.alike(found[2], text) for text in named.values()):
    return Gold(None, 'gold_conflict')
  return Gold(key, 'other_text')
