"""A policy's answers to multiple-choice questions, shard by shard on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import pathlib
import time
from typing import Any, NamedTuple

from jax.sharding import Mesh
import numpy as np

from calm_jax import console, records
from calm_jax.lm import (
    decoder,
    hosts,
    sampler,
    sampling,
    sharding,
    shares,
    slots,
    steps,
)
from calm_jax.lm import lora as lora_lib
from calm_jax.lm import policy as policy_lib
from calm_jax.lm import tokenizer as tokenizer_lib
from calm_jax.qa import answers, languages, prompts

# Passages to show, by question id and language.
Shown = Mapping[tuple[str, str], Sequence[records.Passage]]


@dataclasses.dataclass(frozen=True)
class Decoding:
  """How answers are asked for and drawn (fields as in configs/base.py)."""

  style: str
  shots: int
  two_stage: bool
  samples: int
  temperature: float
  top_p: float
  top_k: int
  max_new_tokens: int
  slots: int
  seed: int


class Work(NamedTuple):
  """One question in one language, ready for the sampler."""

  question: records.Question
  request: sampler.Request


class Policy(NamedTuple):
  """A model on a mesh, with or without an adapter."""

  base: policy_lib.Policy
  lora: decoder.Params | None  # factors already multiplied by alpha / rank
  dtype: str
  mesh: Mesh


def load(
    model: str,
    revision: str,
    *,
    dtype: str,
    mesh: Sequence[int],
    adapter: str = '',
) -> Policy:
  """The model, with the adapter of a folder, on (data, fsdp, tensor).

  Each of several processes has a copy of its own, on its own devices.
  """
  devices = sharding.make_local_mesh(*mesh)
  base = policy_lib.load(
      model, revision, dtype=dtype, place=sharding.place(devices)
  )
  plain = Policy(base, None, dtype, devices)
  return with_adapter(plain, pathlib.Path(adapter)) if adapter else plain


def with_adapter(policy: Policy, folder: pathlib.Path) -> Policy:
  """The same model with the PEFT adapter of a folder."""
  factors, lora_cfg = lora_lib.load_peft(folder, policy.base.cfg)
  scaled = lora_lib.scaled(factors, lora_cfg.scale)
  return policy._replace(lora=sharding.place_tree(policy.mesh, scaled))


def answer_all(
    folder: pathlib.Path,
    policy: Policy,
    questions: Sequence[records.Question],
    decoding: Decoding,
    *,
    shard: int,
    title: str,
    to_record: Callable[[records.Question, records.Sample], Any],
    shown: Shown | None = None,
) -> dict[str, float]:
  """Answers every question into `folder`/00000.jsonl and so on.

  The work is sorted, then cut into files of `shard` questions; a file that
  exists is not made again, so a restart repeats the batches that were left.
  Several processes share the files; at the end process 0 sees all of them.
  `shown` are the passages beside each question.
  """
  work = _work_list(policy.base, questions, decoding, shown or {})
  hosts.agree(f'the work of {title}', _digest(policy.base, work, decoding))
  shards = [work[i : i + shard] for i in range(0, len(work), shard)]
  paths = [folder / f'{number:05d}.jsonl' for number in range(len(shards))]
  todo = shares.missing(title, paths)
  own = shares.own(todo)
  _tell(len(todo))
  answers_in = lambda n: len(shards[n]) * decoding.samples
  before = sum(map(answers_in, set(range(len(shards))) - set(todo)))
  with console.progress(title, before + sum(map(answers_in, own))) as bar:
    bar.advance(before)
    meter = _Meter(bar)
    for number in own:
      hosts.check()
      rows = _answer(policy, shards[number], decoding, meter.on_done)
      records.write_jsonl(paths[number], (to_record(*row) for row in rows))
  counts = {'tokens_drawn_now': meter.tokens}
  drawn = shares.finish(f'end of {title}', paths, counts)
  return {
      'answers': len(work) * decoding.samples,
      'shards': len(shards),
      'processes': hosts.process_count(),
      'tokens_drawn_now': drawn['tokens_drawn_now'],
      'tokens_per_second': round(meter.speed(drawn['tokens_drawn_now']), 1),
  }


class _Meter:
  """Tells a progress bar how fast tokens are drawn."""

  def __init__(self, bar: console.Progress):
    self._bar, self._start = bar, time.monotonic()
    self.tokens = 0

  def on_done(self, answered: int, drawn: int) -> None:
    self.tokens += drawn
    self._bar.advance(answered, f'{self.speed(self.tokens):.0f} tokens/s')

  def speed(self, tokens: int) -> float:
    return tokens / (time.monotonic() - self._start)


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


def _digest(
    base: policy_lib.Policy, work: Sequence[Work], decoding: Decoding
) -> str:
  """What processes must have in common to share the work."""
  digest = hashlib.sha256(f'{base.identity}|{decoding}'.encode())
  for w in work:
    digest.update(f'{w.question.id}|{w.question.lang}'.encode())
    digest.update(np.asarray(w.request.prompt, np.int32).tobytes())
  return digest.hexdigest()


def _tell(shards: int) -> None:
  count = hosts.process_count()
  if count > 1:
    idle = max(0, count - shards)
    hint = f'; {idle} idle: a smaller config.sample.shard makes more'
    console.say(f'  {shards} shards for {count} processes{hint * (idle > 0)}')


def _work_list(
    base: policy_lib.Policy,
    questions: Sequence[records.Question],
    decoding: Decoding,
    shown: Shown,
) -> list[Work]:
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
    _check_length(base.cfg, question, request, decoding)
    work.append(Work(question, request))
  return sorted(
      work,
      key=lambda w: (len(w.request.prompt), w.question.id, w.question.lang),
  )


def _check_length(cfg, question, request, decoding) -> None:
  extra = len(request.ending.suffix) + 1 if request.ending else 0
  needed = len(request.prompt) + decoding.max_new_tokens + extra
  if needed > cfg.max_positions:
    raise ValueError(
        f'question {question.id!r} ({question.lang}) needs {needed} tokens'
        f' with its answer, the model takes {cfg.max_positions}: lower'
        ' max_new_tokens, prompt.shots or retrieve.top_k'
    )


def _answer(
    policy: Policy,
    work: Sequence[Work],
    decoding: Decoding,
    on_done: Callable[[int, int], None],
) -> Iterator[tuple[records.Question, records.Sample]]:
  parts = sharding.rows(policy.mesh)
  settings = slots.Settings(
      slots=-(-decoding.slots // parts) * parts,
      max_new_tokens=decoding.max_new_tokens,
      stop_ids=tuple(policy.base.tokenizer.eos_ids),
      temperature=decoding.temperature,
      top_k=decoding.top_k,
      top_p=decoding.top_p,
  )
  completions, _ = sampler.run(
      steps.decoder_steps(policy.base.cfg, policy.dtype, policy.mesh),
      (policy.base.params, policy.lora),
      [w.request for w in work],
      settings,
      seed=decoding.seed,
      on_done=on_done,
  )
  for w, group in zip(work, completions, strict=True):
    for index, completion in enumerate(group):
      yield w.question, _sample(policy.base, w, index, completion)


def _sample(
    base: policy_lib.Policy,
    work: Work,
    index: int,
    completion: sampler.Completion,
) -> records.Sample:
  question = work.question
  text = base.tokenizer.decode(completion.tokens, continuation=True).strip()
  if completion.choice is None:
    parsed = answers.parse(text, question)
    answer, parse = parsed.answer, parsed.reason
  else:
    letter = languages.LETTERS[completion.choice]
    text += answer_line(question.lang) + letter
    answer, parse = question.options[completion.choice].key, 'two_stage'
  return records.Sample(
      question_id=question.id,
      lang=question.lang,
      index=index,
      text=text,
      answer=answer,
      parse=parse,
      logprob=completion.logprob,
      tokens=len(completion.tokens),
      stop_reason=completion.stop_reason,
  )
