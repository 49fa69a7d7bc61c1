"""A policy's answers to multiple-choice questions, shard by shard on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import hashlib
import pathlib
from typing import Any, NamedTuple

from jax.sharding import Mesh
import numpy as np

from calm_jax import asking, records
from calm_jax.lm import (
    batching,
    decoder,
    hosts,
    memory,
    sampler,
    sharding,
    shares,
    slots,
    steps,
)
from calm_jax.lm import lora as lora_lib
from calm_jax.lm import policy as policy_lib
from calm_jax.qa import answers, languages

Row = tuple[records.Question, records.Sample]
# Answers a file's worth of work; it is told the file's name too.
Draw = Callable[[Sequence[Any], shares.OnDone, str], Iterable[Row]]


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
    template: str = '',
) -> Policy:
  """The model, with the adapter of a folder, on (data, fsdp, tensor).

  Each of several processes has a copy of its own, on its own devices.
  `template` names a chat template that takes the place of the model's.
  """
  devices = sharding.make_local_mesh(*mesh)
  base = policy_lib.load(
      model,
      revision,
      dtype=dtype,
      template=template,
      place=sharding.place(devices),
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
    decoding: asking.Decoding,
    *,
    shard: int,
    title: str,
    to_record: Callable[[records.Question, records.Sample], Any],
    shown: asking.Shown | None = None,
) -> dict[str, float]:
  """Answers every question into `folder`/00000.jsonl and so on.

  The work is sorted, then cut into files of `shard` questions; a file that
  exists is not made again, so a restart repeats the batches that were left.
  Several processes share the files; at the end process 0 sees all of them.
  `shown` are the passages beside each question.
  """
  work = asking.work_list(policy.base, questions, decoding, shown or {})
  requests = [[w.request for w in part] for part in cut(work, shard)]
  settled, chosen = settle(folder, policy, decoding, requests)
  return chosen | in_shards(
      folder,
      work,
      lambda part, on_done, name: answer(policy, part, settled, on_done),
      about=f'{policy.base.identity}|{settled}',
      size=lambda w: len(w.request.digests),
      shard=shard,
      title=title,
      to_record=to_record,
  )


def cut(work: Sequence[Any], shard: int) -> list[Sequence[Any]]:
  """The work of each file."""
  return [work[i : i + shard] for i in range(0, len(work), shard)]


def settle(
    folder: pathlib.Path,
    policy: Policy,
    decoding: asking.Decoding,
    parts: Sequence[Sequence[sampler.Request]],
) -> tuple[asking.Decoding, dict[str, float]]:
  """Decoding with slots and shapes for all parts, and what to count of it.

  Raises:
    ValueError: the slots that are asked for do not fit on a device.
  """
  if not parts:
    return decoding, {}
  found = batching.settle(
      folder,
      _model(policy),
      parts,
      slots=decoding.slots,
      max_new_tokens=decoding.max_new_tokens,
      lora=policy.lora,
  )
  settled = dataclasses.replace(
      decoding, slots=found.slots, shapes=found.shapes
  )
  return settled, {'slots': found.slots, 'programs': found.programs}


def in_shards(
    folder: pathlib.Path,
    work: Sequence[Any],
    draw: Draw,
    *,
    about: str,
    size: Callable[[Any], int],
    shard: int,
    title: str,
    to_record: Callable[[records.Question, records.Sample], Any],
) -> dict[str, float]:
  """`answer_all` for any work that has a question and a request.

  `about` says what else the answers depend on, `size` how many there are.
  """
  hosts.agree(f'the work of {title}', _digest(about, work))
  shards = cut(work, shard)
  paths = [folder / f'{number:05d}.jsonl' for number in range(len(shards))]

  def make(number: int, on_done: shares.OnDone) -> None:
    rows = draw(shards[number], on_done, paths[number].name)
    records.write_jsonl(paths[number], (to_record(*row) for row in rows))

  sizes = [sum(map(size, part)) for part in shards]
  return {
      'answers': sum(len(w.request.digests) for w in work),
      'shards': len(shards),
  } | shares.make_all(title, paths, sizes, make)


def _digest(about: str, work: Sequence[Any]) -> str:
  """What processes must have in common to share the work."""
  digest = hashlib.sha256(about.encode())
  for w in work:
    digest.update(f'{w.question.id}|{w.question.lang}'.encode())
    digest.update(np.asarray(w.request.prompt, np.int32).tobytes())
  return digest.hexdigest()


def draw(
    policy: Policy,
    requests: Sequence[sampler.Request],
    decoding: asking.Decoding,
    *,
    on_done: shares.OnDone = lambda answered, drawn: None,
    watch_ids: tuple[int, ...] = (),
) -> list[list[sampler.Completion]]:
  """Every sample of every request; `decoding` is settled."""
  if not requests:
    return []
  plan = decoding.shapes or sampler.plan([requests], decoding.max_new_tokens)
  parts = sharding.rows(policy.mesh)
  settings = slots.Settings(
      # Each part of the devices has slots for all samples of a prompt.
      slots=parts * max(-(-int(decoding.slots) // parts), plan.samples),
      max_new_tokens=decoding.max_new_tokens,
      stop_ids=tuple(policy.base.tokenizer.eos_ids),
      temperature=decoding.temperature,
      top_k=decoding.top_k,
      top_p=decoding.top_p,
      watch_ids=watch_ids,
  )
  with batching.explained(
      _model(policy),
      plan,
      settings.slots,
      settings.max_new_tokens,
      lora=policy.lora,
  ):
    completions, _ = sampler.run(
        steps.decoder_steps(policy.base.cfg, policy.dtype, policy.mesh),
        (policy.base.params, policy.lora),
        requests,
        settings,
        seed=decoding.seed,
        on_done=on_done,
        shapes=plan,
    )
  return completions


def _model(policy: Policy) -> memory.Model:
  return memory.Model(policy.base.cfg, policy.dtype, policy.mesh)


def sample(
    question: records.Question,
    index: int,
    text: str,
    completion: sampler.Completion,
) -> records.Sample:
  """A completion, whose `text` has no special tokens, read as an answer."""
  if completion.choice is None:
    parsed = answers.parse(text, question)
    answer, parse = parsed.answer, parsed.reason
  else:
    letter = languages.LETTERS[completion.choice]
    text += asking.answer_line(question.lang) + letter
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


def answer(
    policy: Policy,
    work: Sequence[asking.Work],
    decoding: asking.Decoding,
    on_done: shares.OnDone = lambda answered, drawn: None,
) -> Iterator[Row]:
  """Every sample of all work; `decoding` is settled."""
  requests = [w.request for w in work]
  completions = draw(policy, requests, decoding, on_done=on_done)
  tokenizer = policy.base.tokenizer
  for w, group in zip(work, completions, strict=True):
    for index, completion in enumerate(group):
      text = tokenizer.decode(completion.tokens, continuation=True).strip()
      yield w.question, sample(w.question, index, text, completion)
