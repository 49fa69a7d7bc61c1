"""A model as a plain function from prompts to texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from calm_jax.lm import (
    batching,
    capacity,
    memory,
    sampler,
    sharding,
    slots,
    steps,
)
from calm_jax.lm import policy as policy_lib

# Texts come in several calls: a coarse grid of caches keeps programs few.
_MULTIPLE = 256
# Enough to make use of all slots.
_MANY = 2**20


def text_generator(
    *,
    model: str,
    revision: str,
    dtype: str,
    mesh: Sequence[int],
    slot_count: int | str,
    max_new_tokens: int,
    template: str = '',
) -> Callable[[list[str]], list[str]]:
  """Loads a model; the function it returns answers user messages greedily.

  It uses the devices of this process alone: others neither help nor wait.
  """
  devices = sharding.make_local_mesh(*mesh)
  policy = policy_lib.load(
      model,
      revision,
      dtype=dtype,
      template=template,
      place=sharding.place(devices),
  )
  # A text is about as long as its translation may be.
  model_on = memory.Model(policy.cfg, dtype, devices)
  usual = [sampler.Request((0,) * max_new_tokens, digests=(0,))]
  shapes = sampler.plan([usual], max_new_tokens, multiple=_MULTIPLE)
  slot_count = capacity.choose_slots(
      slot_count,
      lambda n: batching.need(model_on, shapes, n, max_new_tokens),
      devices,
      samples=1,
      answers=_MANY,
      free=capacity.room(devices),
  )
  settings = slots.Settings(
      slots=slot_count,
      max_new_tokens=max_new_tokens,
      stop_ids=tuple(policy.tokenizer.eos_ids),
      temperature=0.0,
  )

  def generate(prompts: list[str]) -> list[str]:
    requests = [
        sampler.Request(tuple(policy.tokenizer.chat_prompt(p)), digests=(0,))
        for p in prompts
    ]
    if not requests:
      return []
    plan = sampler.plan([requests], max_new_tokens, multiple=_MULTIPLE)
    with batching.explained(model_on, plan, slot_count, max_new_tokens):
      done, _ = sampler.run(
          steps.decoder_steps(policy.cfg, dtype, devices),
          (policy.params, None),
          requests,
          settings,
          seed=0,
          shapes=plan,
      )
    return [
        policy.tokenizer.decode(completion.tokens, continuation=True)
        for (completion,) in done
    ]

  return generate
