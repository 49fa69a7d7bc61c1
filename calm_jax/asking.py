"""What is asked of a policy: questions as token ids, and how to answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import NamedTuple

from calm_jax import records
from calm_jax.lm import decoder, sampler, sampling, shapes
from calm_jax.lm import policy as policy_lib
from calm_jax.lm import tokenizer as tokenizer_lib
from calm_jax.qa import languages, prompts

# Passages to show, by question id and language.
Shown = Mapping[tuple[str, str], Sequence[records.Passage]]


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How answers are asked for and drawn (fields as in configs/base.py).

  `generation.settle` makes a number of 'auto' slots, and shapes for all work.
  """

  style: str
  shots: int
  two_stage: bool
  samples: int
  temperature: float
  top_p: float
  top_k: int
  max_new_tokens: int
  slots: int | str
  seed: int
  shapes: shapes.Shapes | None = None


class Work(NamedTuple):
  """One question in one language, ready for the sampler."""

  question: records.Question
  request: sampler.Request


def work_list(
    base: policy_lib.Policy,
    questions: Sequence[records.Question],
    decoding: Decoding,
    shown: Shown,
) -> list[Work]:
  """What is asked, the shortest prompt first.

  Raises:
    ValueError: a prompt leaves no room for its answer.
  """
  work = []
  for question in questions:
    text = prompts.render(
        question,
        style=decoding.style,
        shots=decoding.shots,
        passages=shown.get((question.id, question.lang), ()),
    )
    request = sampler.Request(
        prompt=tuple(base.tokenizer.chat_prompt(text)),
        digests=tuple(
            sampling.sample_digest(question.id, question.lang, index)
            for index in range(decoding.samples)
        ),
        ending=ending(base.tokenizer, question) if decoding.two_stage else None,
    )
    check_length(base.cfg, question, request, decoding)
    work.append(Work(question, request))
  return sorted(
      work,
      key=lambda w: (len(w.request.prompt), w.question.id, w.question.lang),
  )


def check_length(
    cfg: decoder.DecoderConfig,
    question: records.Question,
    request: sampler.Request,
    decoding: Decoding,
) -> None:
  """Raises ValueError where a prompt leaves no room for its answer."""
  extra = len(request.ending.suffix) + 1 if request.ending else 0
  needed = len(request.prompt) + decoding.max_new_tokens + extra
  if needed > cfg.max_positions:
    raise ValueError(
        f'question {question.id!r} ({question.lang}) needs {needed} tokens'
        f' with its answer, the model takes {cfg.max_positions}: lower'
        ' max_new_tokens, prompt.shots or retrieve.top_k'
    )


def ending(
    tokenizer: tokenizer_lib.Tokenizer, question: records.Question
) -> sampler.Ending:
  """The answer header of the question's language, then one option letter.

  Raises:
    ValueError: the tokenizer has no single token for a letter after it.
  """
  header = answer_line(question.lang)
  letters = languages.LETTERS[: len(question.options)]
  lines = [tokenizer.continuation(header + letter) for letter in letters]
  suffixes = {tuple(line[:-1]) for line in lines}
  choices = tuple(line[-1] for line in lines)
  if len(suffixes) > 1 or len(set(choices)) < len(choices):
    raise ValueError(
        f'the tokenizer does not give each of {", ".join(letters)} one token'
        f' after {header!r}: use sample.answer=free with this model'
    )
  return sampler.Ending(suffixes.pop(), choices)


def answer_line(lang: str) -> str:
  """What is appended to free reasoning before the letter is drawn."""
  row = languages.get(lang)
  return f'\n{row.answer}{row.colon}'
