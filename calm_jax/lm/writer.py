"""A model as a plain function from prompts to texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from calm_jax.lm import policy as policy_lib
from calm_jax.lm import sampler, sharding, slots, steps


def text_generator(
    *,
    model: str,
    revision: str,
    dtype: str,
    mesh: Sequence[int],
    slot_count: int,
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
  parts = sharding.rows(devices)
  settings = slots.Settings(
      slots=-(-slot_count // parts) * parts,
      max_new_tokens=max_new_tokens,
      stop_ids=tuple(policy.tokenizer.eos_ids),
      temperature=0.0,
  )

  def generate(prompts: list[str]) -> list[str]:
    requests = [
        sampler.Request(tuple(policy.tokenizer.chat_prompt(p)), digests=(0,))
        for p in prompts
    ]
    done, _ = sampler.run(
        steps.decoder_steps(policy.cfg, dtype, devices),
        (policy.params, None),
        requests,
        settings,
        seed=0,
    )
    return [
        policy.tokenizer.decode(completion.tokens, continuation=True)
        for (completion,) in done
    ]

  return generate
