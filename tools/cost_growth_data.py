"""A made-up run of any size: raw questions, samples and predictions.

Everything follows from the number of a question, so that a size is the
beginning of every larger one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import pathlib
import random

from calm_jax import records
from calm_jax.qa import languages, prompts

LANGS = ('en', 'zh', 'fr')
M = 3  # samples of a question in a language
_OPTIONS = 5
_SHARD = 9000  # samples in a file
_REASON = (
    'A wet coat drips on the floor, so one hangs it up near the door, where it'
    ' dries and where the water does no harm; the other places are too warm,'
    ' too clean or too small. '
)


def write_raw(folder: pathlib.Path, questions: int) -> None:
  """Train and test questions as X-CSQA's release has them; a tenth as test."""
  for split, count in (('train', questions), ('test', tests(questions))):
    for lang in LANGS:
      rows = (_raw(split, lang, i) for i in range(count))
      records.write_jsonl(folder / lang / f'{split}.jsonl', rows)


def write_samples(folder: pathlib.Path, questions: int) -> int:
  """The shards of the sample stage; returns how many samples they hold."""
  step = _SHARD // (M * len(LANGS))
  total = 0
  for number, start in enumerate(range(0, questions, step)):
    part = range(start, min(questions, start + step))
    rows = (s for i in part for s in _samples(i))
    total += records.write_jsonl(folder / f'{number:05d}.jsonl', rows)
  return total


def write_predictions(folder: pathlib.Path, questions: int) -> None:
  """The answers of two systems to the test questions."""
  for system in ('base', 'aligned'):
    rows = _predictions(system, range(tests(questions)))
    records.write_jsonl(folder / system / '00000.jsonl', rows)


def tests(questions: int) -> int:
  return max(1, questions // 10)


def _raw(split: str, lang: str, number: int) -> dict[str, object]:
  choices = [
      {'label': letter, 'text': f'place {number % 97} {letter} ({lang})'}
      for letter in languages.LETTERS[:_OPTIONS]
  ]
  stem = f'Where would you put wet coat number {number}, asked in {lang}?'
  return {
      'id': f'{split}-{number:07d}',
      'lang': lang,
      'question': {'stem': stem, 'choices': choices},
      'answerKey': _gold(split, number),
  }


def _gold(split: str, number: int) -> str:
  return random.Random(f'{split}{number}').choice(languages.LETTERS[:_OPTIONS])


def _samples(number: int) -> Iterator[records.Sample]:
  rng = random.Random(number)
  gold = _gold('train', number)
  for lang in LANGS:
    for index in range(M):
      answer = _draw(rng, gold)
      yield records.Sample(
          question_id=f'train-{number:07d}',
          lang=lang,
          index=index,
          text=_text(answer, number, lang, index),
          answer=answer,
          parse='header' if answer else 'no_answer',
          logprob=-60 * rng.random(),
          tokens=rng.randint(30, 200),
          stop_reason='stop',
      )


def _predictions(
    system: str, numbers: Iterable[int]
) -> Iterator[records.Prediction]:
  for number in numbers:
    rng = random.Random(f'{system}{number}')
    gold = _gold('test', number)
    for lang in LANGS:
      answer = _draw(rng, gold)
      yield records.Prediction(
          system=system,
          question_id=f'test-{number:07d}',
          lang=lang,
          text=_text(answer, number, lang),
          answer=answer,
          parse='header' if answer else 'no_answer',
          gold=gold,
      )


def _draw(rng: random.Random, gold: str) -> str | None:
  if rng.random() < 0.05:
    return None
  return gold if rng.random() < 0.6 else rng.choice('ABCDE')


def _text(answer: str | None, number: int, lang: str, index: int = 0) -> str:
  # No two alike: what was taken apart once may be remembered.
  reason = f'{number}.{index} {_REASON}'
  if answer is None:
    return reason
  option = f'place {number % 97} {answer} ({lang})'
  return prompts.completion(reason, answer, option, lang)
