"""Answers by Self-RAG: one beside each passage, of which one is elected.

Every one of a question's m samples is made by the whole procedure: the model
continues the prompt once per passage, reflection tokens score what it wrote,
and the option with the largest sum of scores is the sample's answer, worded as
beside the best passage that led to it. What was scored is written into
reflections/, beside the samples' files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import msgspec

from calm_jax import asking, generation, records, reflection_tokens
from calm_jax.lm import hosts, sampler, sampling
from calm_jax.retrieval import evidence, selfrag

# What was drawn, and the passage that it goes on from, if any.
Candidate = tuple[records.Passage | None, sampler.Completion]


class Asked(NamedTuple):
  """A question, and what may be asked of the model.

  `request` ends before the model says whether it wants passages; `alone` goes
  on without one, `beside` with one of `passages` each.
  """

  question: records.Question
  request: sampler.Request
  passages: tuple[records.Passage, ...]
  alone: sampler.Request
  beside: tuple[sampler.Request, ...]


def answer_all(
    folder: pathlib.Path,
    policy: generation.Policy,
    questions: Sequence[records.Question],
    decoding: asking.Decoding,
    *,
    settings: selfrag.Settings,
    shard: int,
    title: str,
    to_record: Callable[[records.Question, records.Sample], Any],
    shown: asking.Shown | None = None,
    system: str = '',
) -> dict[str, float]:
  """As `generation.answer_all`, with counts of what was reflected.

  Raises:
    ValueError: the model has no reflection tokens, or a prompt leaves no room.
  """
  reader = reflection_tokens.Reader(policy.base.tokenizer, settings)
  work = _work(policy, questions, decoding, shown or {})
  requests = [_requests(part) for part in generation.cut(work, shard)]
  settled, chosen = generation.settle(folder, policy, decoding, requests)

  def draw(part, on_done, name) -> Sequence[generation.Row]:
    rows, reflections = _draw(policy, part, settled, reader, on_done)
    records.write_jsonl(
        folder / evidence.REFLECTIONS / name,
        (msgspec.structs.replace(r, system=system) for r in reflections),
    )
    return rows

  counts = chosen | generation.in_shards(
      folder,
      work,
      draw,
      about=f'{policy.base.identity}|{settled}|{settings}',
      size=_size,
      shard=shard,
      title=title,
      to_record=to_record,
  )
  return counts | (_counts(folder) if hosts.is_leader() else {})


def answerer(
    folder: pathlib.Path,
    policy: generation.Policy,
    questions: Sequence[records.Question],
    decoding: asking.Decoding,
    *,
    settings: selfrag.Settings,
    shown: asking.Shown,
) -> Callable[[generation.Policy], list[records.Sample]]:
  """What elects answers to the questions by any policy that is like this one.

  Nothing is written but the slots that were chosen, into the folder.

  Raises:
    ValueError: as answer_all.
  """
  reader = reflection_tokens.Reader(policy.base.tokenizer, settings)
  work = _work(policy, questions, decoding, shown)
  settled, _ = generation.settle(folder, policy, decoding, [_requests(work)])

  def answer(tuned: generation.Policy) -> list[records.Sample]:
    rows, _ = _draw(tuned, work, settled, reader, lambda answered, drawn: None)
    return [sample for _, sample in rows]

  return answer


def _work(
    policy: generation.Policy,
    questions: Sequence[records.Question],
    decoding: asking.Decoding,
    shown: asking.Shown,
) -> list[Asked]:
  work = [
      _asked(policy, w, shown.get((w.question.id, w.question.lang), ()))
      for w in asking.work_list(policy.base, questions, decoding, {})
  ]
  for asked in work:
    for request in _requests([asked]):
      asking.check_length(policy.base.cfg, asked.question, request, decoding)
  return work


def _requests(work: Sequence[Asked]) -> list[sampler.Request]:
  """All that may be asked."""
  return [r for asked in work for r in (asked.alone, *asked.beside)]


def _asked(
    policy: generation.Policy,
    work: asking.Work,
    passages: Sequence[records.Passage],
) -> Asked:
  def after(pieces: Sequence[str], passage: str) -> sampler.Request:
    ids = policy.base.tokenizer.pieces(pieces)
    digests = (
        sampling.sample_digest(question.id, f'{question.lang}{passage}', index)
        for index in range(len(work.request.digests))
    )
    return dataclasses.replace(
        work.request,
        prompt=(*work.request.prompt, *ids),
        digests=tuple(digests),
    )

  question = work.question
  return Asked(
      question=question,
      request=work.request,
      passages=tuple(passages),
      alone=after(selfrag.opening(None), ''),
      beside=tuple(after(selfrag.opening(p), f'|{p.id}') for p in passages),
  )


def _size(asked: Asked) -> int:
  """How many answers a question may take."""
  return len(asked.request.digests) * max(1, len(asked.passages))


def _elected(
    reader: reflection_tokens.Reader,
    asked: Asked,
    index: int,
    candidates: Sequence[Candidate],
) -> tuple[records.Sample, list[records.Reflection]]:
  """The sample elected from one answer beside each passage."""
  read = functools.partial(generation.sample, asked.question, index)
  samples = [
      read(reader.text(completion, keep=False), completion)
      for _, completion in candidates
  ]
  scores = [reader.judge(c, alone=p is None) for p, c in candidates]
  best = selfrag.elect([s.answer for s in samples], [s.total for s in scores])
  reflections = [
      records.Reflection(
          question_id=sample.question_id,
          lang=sample.lang,
          index=index,
          system='',
          retrieve=None,
          passage=passage.id if passage else None,
          text=reader.text(completion, keep=True),
          answer=sample.answer,
          relevance=score.relevance,
          support=score.support,
          utility=score.utility,
          sequence=score.sequence,
          score=score.total,
          elected=number == best,
          probabilities=score.probabilities,
      )
      for number, ((passage, completion), sample, score) in enumerate(
          zip(candidates, samples, scores, strict=True)
      )
  ]
  winner, (_, completion) = samples[best], candidates[best]
  if reader.settings.keep_tokens:
    kept = read(reader.text(completion, keep=True), completion)
    winner = msgspec.structs.replace(winner, text=kept.text)
  return winner, reflections


def _draw(
    policy: generation.Policy,
    part: Sequence[Asked],
    decoding: asking.Decoding,
    reader: reflection_tokens.Reader,
    on_done: Callable[[int, int], None],
) -> tuple[list[generation.Row], list[records.Reflection]]:
  decisions = _decide(policy, part, decoding, reader)
  chosen = [
      asked.beside if decision.retrieve else (asked.alone,)
      for asked, decision in zip(part, decisions, strict=True)
  ]
  completions = iter(
      generation.draw(
          policy,
          [request for requests in chosen for request in requests],
          decoding,
          on_done=on_done,
          watch_ids=reader.watch_ids,
      )
  )
  rows, reflections = [], []
  for asked, decision, requests in zip(part, decisions, chosen, strict=True):
    groups = [next(completions) for _ in requests]
    spared = _size(asked) - len(groups) * decoding.samples
    on_done(spared, 0)
    beside = asked.passages if decision.retrieve else (None,)
    for index in range(decoding.samples):
      candidates = [
          (passage, group[index])
          for passage, group in zip(beside, groups, strict=True)
      ]
      sample, found = _elected(reader, asked, index, candidates)
      rows.append((asked.question, sample))
      reflections += [
          msgspec.structs.replace(r, retrieve=decision.score) for r in found
      ]
  return rows, reflections


def _decide(
    policy: generation.Policy,
    part: Sequence[Asked],
    decoding: asking.Decoding,
    reader: reflection_tokens.Reader,
) -> list[reflection_tokens.Decision]:
  """Whether to retrieve for each question; without passages there is no way."""
  if reader.settings.mode != 'adaptive':
    always = reader.settings.mode == 'always'
    return [
        reflection_tokens.Decision(always and bool(a.passages), None)
        for a in part
    ]
  first = generation.draw(
      policy,
      [dataclasses.replace(a.request, digests=(0,), ending=None) for a in part],
      dataclasses.replace(decoding, max_new_tokens=1, temperature=0.0),
      watch_ids=reader.watch_ids,
  )
  decisions = []
  for asked, (completion,) in zip(part, first, strict=True):
    decision = reader.decide(completion)
    wanted = decision.retrieve and bool(asked.passages)
    decisions.append(decision._replace(retrieve=wanted))
  return decisions


def _counts(folder: pathlib.Path) -> dict[str, float]:
  """Of answers scored, those that lack a token; and of samples' passages."""
  found = records.read_all(
      folder / evidence.REFLECTIONS, '*.jsonl', records.Reflection
  )
  beside = [r for r in found if r.passage is not None]
  return {
      'answers_scored': len(found),
      'samples_with_passage': sum(r.elected for r in beside),
      'samples_without_passage': sum(r.elected for r in found)
      - sum(r.elected for r in beside),
      'without_support_token': sum(r.support is None for r in beside),
      'without_utility_token': sum(r.utility is None for r in found),
  }
