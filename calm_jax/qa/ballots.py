"""The samples of a run in counting order, their answers as the vote reads them.

Vote and pair both come here, so that they can never read an answer differently.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
import pathlib

import msgspec

from calm_jax import lookup, records
from calm_jax.qa import answers, languages

PARSERS = ('default', 'authors')
Key = tuple[str, str]  # question id, language

_AT_ONCE = 16  # questions in memory together; few, so that caches hold them


def read(
    workdir: pathlib.Path, *, order: Sequence[str], parser: str
) -> Iterator[list[records.Sample]]:
  """All samples of some questions after those of others, questions by id.

  Those of a question are ordered by language as given, then index.

  Raises:
    ValueError: a sample is there twice, or in a language not asked for.
  """
  asked = _asked(workdir)
  if parser != 'default':
    asked.index(records.Question, 'id')
  return (samples for samples, _ in _read(workdir, asked, order, parser))


def read_asked(
    workdir: pathlib.Path, *, order: Sequence[str], parser: str
) -> Iterator[tuple[list[records.Sample], dict[Key, records.Question]]]:
  """As `read`, with the questions in all of their languages."""
  asked = _asked(workdir)
  asked.index(records.Question, 'id')
  return _read(workdir, asked, order, parser)


def ordered(
    samples: Iterable[records.Sample], order: Sequence[str]
) -> list[records.Sample]:
  """Sorted, whatever the order of the shards.

  Raises:
    ValueError: a sample is there twice, or in a language not asked for.
  """
  rank = {lang: i for i, lang in enumerate(order)}
  samples = list(samples)
  try:
    keys = [(s.question_id, rank[s.lang], s.index) for s in samples]
  except KeyError as e:
    raise ValueError(
        f'sample/ holds the language {e}, which config.languages'
        f' ({", ".join(order)}) does not'
    ) from e
  if len(set(keys)) < len(keys):
    name, lang, index = collections.Counter(keys).most_common(1)[0][0]
    raise ValueError(
        f'sample/ holds sample {index} of question {name!r} in {order[lang]}'
        ' twice; remove the folder and sample again'
    )
  places = sorted(range(len(keys)), key=keys.__getitem__)
  return [samples[place] for place in places]


def reread(
    samples: Iterable[records.Sample],
    questions: Mapping[Key, records.Question],
) -> list[records.Sample]:
  """The same samples, their texts parsed by the authors' rule instead."""
  return [_reread(s, questions[s.question_id, s.lang]) for s in samples]


def _asked(workdir: pathlib.Path) -> lookup.Lookup:
  return lookup.Lookup([workdir / 'translate' / 'train.jsonl'])


def _read(
    workdir: pathlib.Path,
    asked: lookup.Lookup,
    order: Sequence[str],
    parser: str,
) -> Iterator[tuple[list[records.Sample], dict[Key, records.Question]]]:
  paths = sorted((workdir / 'sample').glob('*.jsonl'))
  if not paths:
    raise FileNotFoundError(f'{workdir / "sample"}: no file matches *.jsonl')
  shelf = lookup.Lookup(paths)
  shelf.index(records.Sample, 'question_id')
  ids = sorted(shelf.ids)
  for start in range(0, len(ids), _AT_ONCE):
    names = ids[start : start + _AT_ONCE]
    samples = ordered(shelf.records(records.Sample, names), order)
    mine = asked.records(records.Question, names)
    questions = {(q.id, q.lang): q for q in mine}
    if parser != 'default':
      samples = reread(samples, questions)
    yield samples, questions


def _reread(
    sample: records.Sample, question: records.Question
) -> records.Sample:
  letter = answers.parse_authors(sample.text, sample.lang)
  shown = languages.LETTERS[: len(question.options)]
  if letter is None:
    return msgspec.structs.replace(sample, answer=None, parse='no_answer')
  if letter not in shown:
    return msgspec.structs.replace(sample, answer=None, parse='not_an_option')
  key = question.options[shown.index(letter)].key
  return msgspec.structs.replace(sample, answer=key, parse='authors')
