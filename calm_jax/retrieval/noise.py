"""Passages that do not help: how much does a model's answer suffer?

A question gets the same noise, as far as it can, in every language and run.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
import random

import msgspec

from calm_jax import records

KINDS = ('random', 'contradicting')


def draw(
    corpus: Sequence[records.Passage],
    question_id: str,
    *,
    count: int,
    seed: int,
    taken: Collection[str],
) -> list[records.Passage]:
  """`count` passages of the corpus at random, none of the ids in `taken`."""
  order = random.Random(f'{seed}|{question_id}|noise')
  many = min(len(corpus), count + len(taken))
  drawn = [corpus[i] for i in order.sample(range(len(corpus)), many)]
  fresh = [p for p in drawn if p.id not in taken][:count]
  return [msgspec.structs.replace(p, kind='random') for p in fresh]


def claim(question: records.Question, *, seed: int) -> str:
  """A query for what speaks for one wrong option, in each language the same.

  Raises:
    ValueError: the question has no label, so nobody knows what is wrong.
  """
  if question.gold is None:
    raise ValueError(
        f'question {question.id!r} ({question.lang}) has no label, which'
        ' retrieve.noise_kind=contradicting needs: use random'
    )
  wrong = sorted(o.key for o in question.options if o.key != question.gold)
  key = random.Random(f'{seed}|{question.id}|claim').choice(wrong)
  (text,) = (o.text for o in question.options if o.key == key)
  return f'{question.stem} {text}'


def against(
    found: Sequence[records.Passage],
    question: records.Question,
    *,
    count: int,
    taken: Collection[str],
) -> list[records.Passage]:
  """The first `count` of `found` that do not name the right option."""
  gold = ''.join(o.text for o in question.options if o.key == question.gold)
  fresh = [
      msgspec.structs.replace(p, kind='contradicting')
      for p in found
      if p.id not in taken and gold.casefold() not in p.text.casefold()
  ]
  return fresh[:count]


def mix(
    found: Sequence[records.Passage],
    noise: Sequence[records.Passage],
    question_id: str,
    *,
    seed: int,
) -> tuple[records.Passage, ...]:
  """Both, the noise at random places; each keeps its own order."""
  places = random.Random(f'{seed}|{question_id}|places')
  at = set(places.sample(range(len(found) + len(noise)), len(noise)))
  good, bad = iter(found), iter(noise)
  return tuple(
      next(bad if i in at else good) for i in range(len(found) + len(noise))
  )
