"""A model as a plain function from prompts to texts.

Texts come in several calls, often of a few, and a program takes longer to
compile than many texts to write. So shapes come from a coarse grid: the usual
texts need two prefills and one decoding, in a cache that is the same for all.
"""

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
from calm_jax.lm import shapes as shapes_lib
from calm_jax.lm import tokenizer as tokenizer_lib

# Prompts are padded to one of these, the few longer ones to doublings.
_WIDTHS = 128, 256
_MULTIPLE = 256  # of positions, in a cache
# Slots that are of use: on a CPU, where a step costs what its rows cost, those
# that a call of a few texts fills; elsewhere all that there may be.
_USEFUL, _USEFUL_CPU = 2**20, 16


def text_generator(
    *,
    model: str,
    revision: str,
    dtype: str,
    mesh: Sequence[int],
    slot_count: int | str,
    max_new_tokens: int,
    template: str = '',
) -> Callable[[list[str]], list[str | None]]:
  """Loads a model; the function it returns answers user messages greedily.

  An answer that does not come to its end in max_new_tokens is None.
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
  model_on = memory.Model(policy.cfg, dtype, devices)
  # A text is about as long as its translation may be.
  usual = shapes(max_new_tokens, max_new_tokens)
  cpu = devices.devices.flat[0].platform == 'cpu'
  chosen = capacity.choose_slots(
      slot_count,
      lambda n: batching.need(model_on, usual, n, max_new_tokens),
      devices,
      samples=1,
      answers=_USEFUL_CPU if cpu else _USEFUL,
      free=capacity.room(devices),
  )
  complete = _completer(
      policy, model_on, slot_count=chosen, max_new_tokens=max_new_tokens
  )

  def generate(prompts: list[str]) -> list[str | None]:
    requests = [
        sampler.Request(tuple(policy.tokenizer.chat_prompt(p)), digests=(0,))
        for p in prompts
    ]
    texts: list[str | None] = [None] * len(requests)
    for plan, indices in _alike(requests, max_new_tokens).items():
      found = complete(plan, [requests[i] for i in indices])
      for i, (completion,) in zip(indices, found, strict=True):
        texts[i] = whole(completion, policy.tokenizer)
    return texts

  return generate


def whole(
    completion: sampler.Completion, tokenizer: tokenizer_lib.Tokenizer
) -> str | None:
  """The text of a completion that came to its end."""
  if completion.stop_reason == 'length':
    return None
  return tokenizer.decode(completion.tokens, continuation=True)


def shapes(longest: int, max_new_tokens: int) -> shapes_lib.Shapes:
  """Those for prompts of at most so many tokens."""
  widths = list(_WIDTHS)
  while widths[-1] < longest:
    widths = [2 * widths[-1]]
  room = max_new_tokens + 2
  return shapes_lib.Shapes(
      widths=tuple(widths),
      lengths=(-(-(widths[-1] + room) // _MULTIPLE) * _MULTIPLE,),
      room=room,
      samples=1,
      suffix=1,
      choices=1,
  )


def _alike(
    requests: Sequence[sampler.Request], max_new_tokens: int
) -> dict[shapes_lib.Shapes, list[int]]:
  """The numbers of the requests that have the same shapes."""
  found: dict[shapes_lib.Shapes, list[int]] = {}
  for i, request in enumerate(requests):
    plan = shapes(len(request.prompt), max_new_tokens)
    found.setdefault(plan, []).append(i)
  return found


def _completer(
    policy: policy_lib.Policy,
    model: memory.Model,
    *,
    slot_count: int,
    max_new_tokens: int,
) -> Callable[..., list[list[sampler.Completion]]]:
  """Completes requests of the same shapes."""
  decode = steps.decoder_steps(policy.cfg, model.dtype, model.mesh)
  settings = slots.Settings(
      slots=slot_count,
      max_new_tokens=max_new_tokens,
      stop_ids=tuple(policy.tokenizer.eos_ids),
      temperature=0.0,
  )

  def complete(plan: shapes_lib.Shapes, requests: list[sampler.Request]):
    with batching.explained(model, plan, slot_count, max_new_tokens):
      done, _ = sampler.run(
          decode,
          (policy.params, None),
          requests,
          settings,
          seed=0,
          shapes=plan,
      )
    return done

  return complete
