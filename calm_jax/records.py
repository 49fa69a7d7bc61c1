"""What passes between stages: frozen records, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import functools
import json
import os
import pathlib
from typing import Any, BinaryIO, TypeVar

import msgspec

R = TypeVar('R')


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
  """As a frozen dataclass; its fields' types are checked when it is read.

  Those that hold no other object are not for the garbage collector to visit.
  """


class Option(Record, frozen=True, gc=False):
  """One choice. `key` says which choice it is, the same in every language."""

  key: str
  text: str


class Question(Record, frozen=True):
  """A multiple-choice question in one language.

  `id` is shared by the question's languages. `gold` is an option key, None
  where the release has no label. Options are shown as A, B, C in this order.
  `changed` are the kinds of facts that the translation changed: letters,
  numbers, units.
  """

  id: str
  dataset: str
  split: str
  lang: str
  stem: str
  options: tuple[Option, ...]
  gold: str | None = None
  translated_from: str | None = None
  changed: tuple[str, ...] = ()


class Passage(Record, frozen=True):
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


class Evidence(Record, frozen=True):
  """What is shown beside a question, in the order in which it is shown."""

  question_id: str
  lang: str
  passages: tuple[Passage, ...]


class Sample(Record, frozen=True, gc=False):
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


class Reflection(Record, frozen=True):
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


class Vote(Record, frozen=True):
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


class Pair(Record, frozen=True):
  """A preference for `chosen` over `rejected` as the answer to `prompt`.

  `opening` are the pieces that both answers go on from, special tokens by
  themselves: in Self-RAG, a passage. `changed` is that of the translation of
  `chosen`, as a Question's.
  """

  question_id: str
  lang: str
  prompt: str
  chosen: str
  rejected: str
  chosen_lang: str
  vote_share: float
  opening: tuple[str, ...] = ()
  changed: tuple[str, ...] = ()


class Target(Record, frozen=True):
  """A completion to imitate (SFT); `opening` and `changed` as a Pair's."""

  question_id: str
  lang: str
  prompt: str
  completion: str
  vote_share: float
  opening: tuple[str, ...] = ()
  changed: tuple[str, ...] = ()


class Prediction(Record, frozen=True):
  """What one system answered to one question at evaluation."""

  system: str
  question_id: str
  lang: str
  text: str
  answer: str | None
  parse: str
  gold: str | None


class Score(Record, frozen=True):
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


class Contrast(Record, frozen=True):
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


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a file that is either absent, old or complete, never half."""
  path.parent.mkdir(parents=True, exist_ok=True)
  tmp = path.with_name(path.name + '.tmp')
  with tmp.open('wb', buffering=1 << 20) as f:
    yield f
    f.flush()
    os.fsync(f.fileno())
  os.replace(tmp, path)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a whole file, atomically."""
  with replacing(path) as f:
    f.write(text.encode())


def write_jsonl(path: pathlib.Path, records: Iterable[Any]) -> int:
  """Writes records or dicts as JSON lines, atomically; returns how many."""
  count = 0
  with replacing(path) as f:
    for record in records:
      f.write(to_json(record) + b'\n')
      count += 1
  return count


def read_jsonl(path: pathlib.Path, cls: type[R]) -> Iterator[R]:
  """Yields the records of a file.

  Raises:
    ValueError: a line is not JSON or not a `cls`; names file, line and field.
  """
  decode = decoder(cls).decode
  with path.open('rb') as f:
    for number, line in enumerate(f, 1):
      try:
        yield decode(line)
      except ValueError as e:
        raise wrong_line(path, number, cls, e) from e


def read_all(folder: pathlib.Path, pattern: str, cls: type[R]) -> list[R]:
  """The records of every file of `folder` that matches, in name order."""
  return list(read_each(folder, pattern, cls))


def read_each(folder: pathlib.Path, pattern: str, cls: type[R]) -> Iterator[R]:
  """As `read_all`, one after the other."""
  paths = sorted(folder.glob(pattern))
  if not paths:
    raise FileNotFoundError(f'{folder}: no file matches {pattern}')
  for path in paths:
    yield from read_jsonl(path, cls)


def wrong_line(
    path: pathlib.Path, number: int, cls: type[Any], why: Exception
) -> ValueError:
  """The error that a line of a file is no `cls`."""
  return ValueError(f'{path}:{number}: not a {cls.__name__}: {why}')


def to_json(record: Any) -> bytes:
  """One line of JSON; raises ValueError on NaN and infinities."""
  line = msgspec.json.encode(record, enc_hook=_plain)
  if b'null' in line:
    _refuse_nan(record)
  return line


def _plain(value: Any) -> float:
  if isinstance(value, float):  # numpy's
    return float(value)
  raise TypeError(f'{value!r} of type {type(value)} is not for JSON')


def _refuse_nan(record: Any) -> None:
  # msgspec writes them as null, which could be None as well.
  json.dumps(msgspec.to_builtins(record, enc_hook=_plain), allow_nan=False)


@functools.cache
def decoder(cls: type[R]) -> msgspec.json.Decoder[R]:
  """Reads lines as a `cls`; a ValueError names the field that is wrong."""
  return msgspec.json.Decoder(cls)
