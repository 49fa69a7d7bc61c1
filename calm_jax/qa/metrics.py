"""Accuracy, consistency and AC3 in percent, with bootstrap intervals.

Answers are integer codes [languages, questions]; UNPARSED where no option was
named, ABSENT where the question was not asked in that language.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import math
from typing import NamedTuple

import numpy as np

from calm_jax import records

UNPARSED = -1
ABSENT = -2
# The paper's mean accuracy is over these only; its AC3 is over all languages.
PAPER_MEAN = ('en', 'zh', 'fr')


class Answers(NamedTuple):
  """Predictions as arrays; the columns follow `question_ids`."""

  codes: np.ndarray
  gold: np.ndarray
  languages: tuple[str, ...]
  question_ids: tuple[str, ...]


class Estimate(NamedTuple):
  """A value over `n` questions, and the same over bootstrap resamples."""

  value: float
  n: int
  draws: np.ndarray

  def interval(self, level: float = 95.0) -> tuple[float, float]:
    """The percentile bootstrap interval; without draws the value itself."""
    draws = self.draws[np.isfinite(self.draws)]
    if not draws.size:
      return self.value, self.value
    tail = (100.0 - level) / 2.0
    low, high = np.percentile(draws, (tail, 100.0 - tail))
    return float(low), float(high)


def encode(
    rows: Iterable[Iterable[str | None]], table: dict[str, int] | None = None
) -> np.ndarray:
  """Codes of option keys, None as UNPARSED; `table` is filled as they come."""
  table = {} if table is None else table
  return np.array([[_code(a, table) for a in row] for row in rows], np.int32)


def collect(
    predictions: Iterable[records.Prediction], languages: Sequence[str]
) -> Answers:
  """One system's predictions as arrays, the questions in order of their ids.

  Raises:
    ValueError: a question has two golds or two answers in one language.
  """
  rows = {lang: i for i, lang in enumerate(languages)}
  kept = [p for p in predictions if p.lang in rows]
  ids = tuple(sorted({p.question_id for p in kept}))
  columns = {question_id: i for i, question_id in enumerate(ids)}
  codes = np.full((len(languages), len(ids)), ABSENT, np.int32)
  gold = np.full(len(ids), ABSENT, np.int32)
  table: dict[str, int] = {}
  for p in kept:
    cell = rows[p.lang], columns[p.question_id]
    if codes[cell] != ABSENT:
      raise ValueError(
          f'{p.system}: two answers to question {p.question_id!r} in {p.lang}'
      )
    codes[cell] = _code(p.answer, table)
    if p.gold is not None:
      code = _code(p.gold, table)
      if gold[cell[1]] not in (ABSENT, code):
        raise ValueError(f'question {p.question_id!r} has two golds')
      gold[cell[1]] = code
  return Answers(codes, gold, tuple(languages), ids)


def accuracy(codes: np.ndarray, gold: np.ndarray) -> np.ndarray:
  """Percent correct per language; an unparsed answer is wrong."""
  scored = _scored(codes, gold)
  right = (codes == gold) & scored
  return 100.0 * right.sum(1) / np.maximum(scored.sum(1), 1)


def agreement(codes: np.ndarray, size: int) -> np.ndarray:
  """Per question, the part of its `size`-subsets of languages that agree.

  An unparsed answer agrees with nothing, another unparsed one included.
  """
  languages = len(codes)
  if not 2 <= size <= languages:
    raise ValueError(
        f'consistency needs 2 to {languages} languages, not {size}'
    )
  subsets = np.array([math.comb(n, size) for n in range(languages + 1)])
  alike = np.zeros(codes.shape[1], np.int64)
  for option in range(codes.max(initial=UNPARSED) + 1):
    alike += subsets[(codes == option).sum(0)]
  return alike / math.comb(languages, size)


def consistency(
    codes: np.ndarray, size: int = 2, *, strict: bool = True
) -> float:
  """Percent of questions answered alike, mean over subsets of languages.

  Strict: over all questions asked in every language, an unparsed answer
  disagrees. Otherwise: over the questions parsed in every language. 0 if none.
  """
  counted = (codes > (ABSENT if strict else UNPARSED)).all(0)
  total = agreement(codes, size)[counted].sum()
  return 100.0 * float(total) / max(int(counted.sum()), 1)


def pairwise(codes: np.ndarray) -> np.ndarray:
  """Strict Consistency_2 of every two languages; the diagonal is 100."""
  languages = len(codes)
  out = np.full((languages, languages), 100.0)
  for i in range(languages):
    for j in range(i):
      out[i, j] = out[j, i] = consistency(codes[[i, j]])
  return out


def ac3(accuracy, consistency):
  """The harmonic mean, of numbers or arrays; 0 where both are 0."""
  total = np.asarray(accuracy + consistency)
  product = np.asarray(2.0 * accuracy * consistency)
  zeros = np.zeros(total.shape)
  return np.divide(product, total, out=zeros, where=total != 0)[()]


def resample(questions: int, *, count: int, seed: int) -> np.ndarray:
  """How often each of `count` bootstrap resamples holds each question.

  Estimates made with one and the same array are paired: `difference` of them
  is then a paired comparison.
  """
  rng = np.random.default_rng(seed)
  times = np.zeros((count, questions), np.float32)
  for row in times:
    drawn = rng.integers(0, questions, questions)
    row[:] = np.bincount(drawn, minlength=questions)
  return times


def mean(
    values: np.ndarray, counted: np.ndarray, times: np.ndarray
) -> Estimate:
  """100 x the mean of a value per question over the questions counted."""
  total = np.where(counted, values, 0.0).astype(np.float32)
  weight = counted.astype(np.float32)
  n = int(counted.sum())
  value = 100.0 * float(np.where(counted, values, 0.0).sum()) / max(n, 1)
  # A resample may hold no counted question at all: nan, left out later.
  with np.errstate(invalid='ignore', divide='ignore'):
    draws = 100.0 * (times @ total).astype(float) / (times @ weight)
  return Estimate(value, n, draws)


def difference(before: Estimate, after: Estimate) -> Estimate:
  """After minus before, paired: both must come from the same resamples."""
  if before.draws.shape != after.draws.shape:
    raise ValueError(
        f'estimates over {len(before.draws)} and {len(after.draws)} resamples'
        ' are not paired'
    )
  return Estimate(
      after.value - before.value,
      min(before.n, after.n),
      after.draws - before.draws,
  )


def mcnemar(first_only: int, second_only: int) -> float:
  """The two-sided exact p-value of McNemar's test.

  Of the questions that only one of two systems got right, either is as likely
  to have got each, if both are equally good.
  """
  total = first_only + second_only
  ways, tail = 1, 0  # of `total` things, k; whole numbers are exact
  for k in range(min(first_only, second_only) + 1):
    tail += ways
    ways = ways * (total - k) // (k + 1)
  return min(1.0, 2 * tail / 2**total)


def correct(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
  """What is right, and what has a gold answer: [languages, questions]."""
  scored = _scored(answers.codes, answers.gold)
  return (answers.codes == answers.gold) & scored, scored


def subset(answers: Answers, chosen: np.ndarray) -> Answers:
  """The questions of a mask."""
  ids = tuple(np.array(answers.question_ids, object)[chosen])
  return Answers(
      answers.codes[:, chosen], answers.gold[chosen], answers.languages, ids
  )


def estimates(
    answers: Answers, times: np.ndarray
) -> dict[tuple[str, str], Estimate]:
  """Every metric of one system, by (language or 'all', metric).

  accuracy and unparsed; for every subset size s consistency_s and ac3_s
  (strict) and consistency_s_parsed and ac3_s_parsed (only questions parsed in
  all languages; the paper's). `_en_zh_fr` marks the paper's other mean of
  accuracy. What has no question to stand on is left out.
  """
  codes, gold, languages, _ = answers
  out = {}
  for lang, row in zip(languages, codes, strict=True):
    right = mean(row == gold, _scored(row, gold), times)
    out[lang, 'accuracy'] = right
    out[lang, 'unparsed'] = mean(row == UNPARSED, row != ABSENT, times)
  out['all', 'unparsed'] = _average(
      [out[lang, 'unparsed'] for lang in languages]
  )
  means = {'': languages}
  if set(PAPER_MEAN) < set(languages):
    means['_en_zh_fr'] = PAPER_MEAN
  for name, chosen in means.items():
    out['all', 'accuracy' + name] = _average(
        [out[lang, 'accuracy'] for lang in chosen]
    )
  for size in range(2, len(languages) + 1):
    alike = agreement(codes, size)
    for kind, least in (('', ABSENT), ('_parsed', UNPARSED)):
      same = mean(alike, np.all(codes > least, axis=0), times)
      out['all', f'consistency_{size}{kind}'] = same
      for name in means:
        right = out['all', 'accuracy' + name]
        both = _harmonic(right, same)
        out['all', f'ac3_{size}{kind}{name}'] = both
  return {key: value for key, value in out.items() if value.n}


def _code(answer: str | None, table: dict[str, int]) -> int:
  if answer is None:
    return UNPARSED
  return table.setdefault(answer, len(table))


def _scored(codes: np.ndarray, gold: np.ndarray) -> np.ndarray:
  return (codes != ABSENT) & (gold >= 0)


def _average(parts: Sequence[Estimate]) -> Estimate:
  """The unweighted mean over languages."""
  return Estimate(
      sum(p.value for p in parts) / len(parts),
      min(p.n for p in parts),
      np.mean([p.draws for p in parts], axis=0),
  )


def _harmonic(right: Estimate, same: Estimate) -> Estimate:
  return Estimate(
      float(ac3(right.value, same.value)),
      min(right.n, same.n),
      ac3(right.draws, same.draws),
  )
