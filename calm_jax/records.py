"""What passes between stages: frozen dataclasses, one JSON object a line."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import functools
import json
import os
import pathlib
import types
import typing
from typing import Any, TypeVar

R = TypeVar('R')


@dataclasses.dataclass(frozen=True)
class Option:
  """One choice. `key` says which choice it is, the same in every language."""

  key: str
  text: str


@dataclasses.dataclass(frozen=True)
class Question:
  """A multiple-choice question in one language.

  `id` is shared by the question's languages. `gold` is an option key, None
  where the release has no label. Options are shown as A, B, C in this order.
  """

  id: str
  dataset: str
  split: str
  lang: str
  stem: str
  options: tuple[Option, ...]
  gold: str | None = None
  translated_from: str | None = None


@dataclasses.dataclass(frozen=True)
class Passage:
  """A piece of a corpus.

  `id` is the source and the offset of its first character there, as in
  'en/Anatomy@1200'. `score` is the higher the better, in the measure of the
  search that found it; `kind` is retrieved, or what noise it is.
  """

  id: str
  source: str
  text: str
  score: float = 0.0
  kind: str = 'retrieved'


@dataclasses.dataclass(frozen=True)
class Evidence:
  """What is shown beside a question, in the order in which it is shown."""

  question_id: str
  lang: str
  passages: tuple[Passage, ...]


@dataclasses.dataclass(frozen=True)
class Sample:
  """One generated answer.

  `answer` is an option key or None; `parse` says how it was read, or why not.
  `logprob` sums the natural-log probabilities of the `tokens` drawn tokens
  under the model's own distribution (temperature 1, nothing filtered).
  """

  question_id: str
  lang: str
  index: int
  text: str
  answer: str | None
  parse: str
  logprob: float
  tokens: int
  stop_reason: str


@dataclasses.dataclass(frozen=True)
class Reflection:
  """What the model says of its answer beside one passage (Self-RAG).

  `retrieve` was held against the threshold (None: nothing was asked), `passage`
  is the id of the passage (None: the answer is without one). `relevance`,
  `support`, `utility` and `sequence` make the `score`; they are None where the
  model drew no such token. `probabilities` are the tokens' that they are from.
  `elected` is the answer that became the sample. `system` is empty but at
  evaluation.
  """

  question_id: str
  lang: str
  index: int
  system: str
  retrieve: float | None
  passage: str | None
  text: str
  answer: str | None
  relevance: float | None
  support: float | None
  utility: float | None
  sequence: float
  score: float
  elected: bool
  probabilities: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Vote:
  """The self-consistent answer of one question, None on a tie or no vote.

  `share` is the winner's part of all parsed answers (0 without a winner);
  `counts` maps language, then option key, to votes; `unparsed` maps language
  to answers that named no option.
  """

  question_id: str
  winner: str | None
  share: float
  counts: Mapping[str, Mapping[str, int]]
  unparsed: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Pair:
  """A preference for `chosen` over `rejected` as the answer to `prompt`.

  `opening` are the pieces that both answers go on from, special tokens by
  themselves: in Self-RAG, a passage.
  """

  question_id: str
  lang: str
  prompt: str
  chosen: str
  rejected: str
  chosen_lang: str
  vote_share: float
  opening: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Target:
  """A completion to imitate (SFT); `opening` as a Pair's."""

  question_id: str
  lang: str
  prompt: str
  completion: str
  vote_share: float
  opening: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What one system answered to one question at evaluation."""

  system: str
  question_id: str
  lang: str
  text: str
  answer: str | None
  parse: str
  gold: str | None


@dataclasses.dataclass(frozen=True)
class Score:
  """A metric in percent; `low` and `high` bound its 95 % bootstrap interval.

  `lang` is 'all' for a metric over languages; `n` counts questions.
  """

  system: str
  setting: str
  lang: str
  metric: str
  value: float
  n: int
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Contrast:
  """Whether two systems are right equally often, by McNemar's exact test.

  `first_only` counts the questions that only the first answered right. For
  `lang` all, every question counts once a language.
  """

  setting: str
  first: str
  second: str
  lang: str
  n: int
  first_only: int
  second_only: int
  p_value: float


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file that is either absent, old or complete, never half."""
  path.parent.mkdir(parents=True, exist_ok=True)
  tmp = path.with_name(path.name + '.tmp')
  with tmp.open('w', encoding='utf-8', newline='\n') as f:
    f.write(text)
    f.flush()
    os.fsync(f.fileno())
  os.replace(tmp, path)


def write_jsonl(path: pathlib.Path, records: Iterable[Any]) -> int:
  """Writes dataclasses as JSON lines, atomically; returns how many."""
  path.parent.mkdir(parents=True, exist_ok=True)
  tmp = path.with_name(path.name + '.tmp')
  count = 0
  with tmp.open('w', encoding='utf-8', newline='\n') as f:
    for record in records:
      f.write(to_json(record) + '\n')
      count += 1
    f.flush()
    os.fsync(f.fileno())
  os.replace(tmp, path)
  return count


def read_jsonl(path: pathlib.Path, cls: type[R]) -> Iterator[R]:
  """Yields the records of a file.

  Raises:
    ValueError: a line is not JSON or not a `cls`; names file, line and field.
  """
  decode = _decoder(cls)
  with path.open(encoding='utf-8', newline='\n') as f:
    for number, line in enumerate(f, 1):
      try:
        yield decode(_parse(line))
      except (ValueError, TypeError) as e:
        raise wrong_line(path, number, cls, e) from e


def wrong_line(
    path: pathlib.Path, number: int, cls: type[Any], why: Exception
) -> ValueError:
  """The error that a line of a file is no `cls`."""
  return ValueError(f'{path}:{number}: not a {cls.__name__}: {why}')


def decode_lines(text: str, cls: type[R]) -> list[R]:
  """The records of whole lines; its errors do not know where they stand."""
  decode = _decoder(cls)
  found, at = [], 0
  while at < len(text):
    row, end = _PARSER.raw_decode(text, at)
    if text[end : end + 1] not in ('\n', ''):
      raise ValueError(
          f'something follows the object: {text[end : end + 80]!r}'
      )
    found.append(decode(row))
    at = end + 1
  return found


def read_all(folder: pathlib.Path, pattern: str, cls: type[R]) -> list[R]:
  """The records of every file of `folder` that matches, in name order."""
  paths = sorted(folder.glob(pattern))
  if not paths:
    raise FileNotFoundError(f'{folder}: no file matches {pattern}')
  return [record for path in paths for record in read_jsonl(path, cls)]


# The C encoder writes tuples as lists; dataclasses it hands to `vars`.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=vars)


def to_json(record: Any) -> str:
  """One line of JSON; raises ValueError on NaN and infinities."""
  return _ENCODER.encode(record)


_PARSER = json.JSONDecoder()


def _parse(line: str) -> Any:
  """As json.loads, which spends half of its time on space around objects."""
  if line[:1] == '{':
    value, end = _PARSER.raw_decode(line)
    if line[end:] in ('\n', ''):
      return value
  return json.loads(line)


@functools.cache
def _decoder(hint: Any) -> Callable[[Any], Any]:
  """How to turn parsed JSON into a value of type `hint`, strictly."""
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if dataclasses.is_dataclass(hint):
    return _record_decoder(hint)
  if origin in (types.UnionType, typing.Union):
    (inner,) = (_decoder(a) for a in args if a is not types.NoneType)
    return lambda value: None if value is None else inner(value)
  if origin is tuple:
    element = _decoder(args[0])
    return lambda value: tuple(map(element, _expect(list, value)))
  if origin is collections.abc.Mapping:
    of_value = _decoder(args[1])
    return lambda value: {
        k: of_value(v) for k, v in _expect(dict, value).items()
    }
  if hint is float:
    return lambda value: float(_expect((int, float), value))
  return functools.partial(_expect, hint)


def _record_decoder(cls: Any) -> Callable[[Any], Any]:
  hints = typing.get_type_hints(cls)
  decoders = {f.name: _decoder(hints[f.name]) for f in dataclasses.fields(cls)}
  names = tuple(decoders)
  nested = [i for i, name in enumerate(names) if _nests(hints[name])]
  plain = [name for name in names if not _nests(hints[name])]
  # Types of values that were found right: a row of them needs no other look.
  sound: set[tuple[type, ...]] = set()

  def decode(row):
    if type(row) is not dict:
      _expect(dict, row)
    values = row.values()
    kinds = (*map(type, values),)
    whole = (*row,) == names
    if whole and kinds in sound:
      if not nested:
        return cls(*values)
      values = [*values]
      try:
        for i in nested:
          values[i] = decoders[names[i]](values[i])
        return cls(*values)
      except (TypeError, ValueError):
        pass  # said below, with the field's name
    fields = _checked(row, cls, decoders)
    if whole and all(fields[name] is row[name] for name in plain):
      sound.add(kinds)
    return cls(**fields)

  return decode


def _nests(hint: Any) -> bool:
  """Whether values of this type hold others, which must be looked at too."""
  return any(
      dataclasses.is_dataclass(part)
      or typing.get_origin(part) in (tuple, collections.abc.Mapping)
      for part in (hint, *typing.get_args(hint))
  )


def _checked(
    row: Mapping[str, Any],
    cls: Any,
    decoders: Mapping[str, Callable[[Any], Any]],
) -> dict[str, Any]:
  """The fields of a row, each of its type.

  Raises:
    ValueError: a field is missing, unexpected or wrong; names it.
  """
  required = {
      f.name
      for f in dataclasses.fields(cls)
      if f.default is dataclasses.MISSING
  }
  if missing := sorted(required - row.keys()):
    raise ValueError(f'lacks the field {missing[0]!r}')
  fields = {}
  for name, value in row.items():
    if name not in decoders:
      raise ValueError(f'unexpected field {name!r}; it has {sorted(decoders)}')
    try:
      fields[name] = decoders[name](value)
    except (TypeError, ValueError) as e:
      raise ValueError(f'field {name!r}: {e}') from e
  return fields


def _expect(kind: Any, value: Any) -> Any:
  # bool is an int to Python; a record never means it as one.
  if type(value) is kind:
    return value
  if not isinstance(value, kind) or isinstance(value, bool):
    names = kind if isinstance(kind, tuple) else (kind,)
    wanted = ' or '.join(k.__name__ for k in names)
    raise TypeError(f'{value!r} is not {wanted}')
  return value
