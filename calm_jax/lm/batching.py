"""How a stage's sampling is cut: slots and shapes, the same when it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import json
import pathlib
from typing import Any

from calm_jax import console, records
from calm_jax.lm import (
    capacity,
    hosts,
    memory,
    planner,
    sampler,
    shapes,
    sharding,
)

# In the stage's folder: in bfloat16 an answer depends on the batch around it,
# so a stage that goes on has the slots that it began with.
RECORD = 'slots.json'


@dataclasses.dataclass(frozen=True)
class Cut:
  """The slots and the shapes of some runs of the sampler."""

  slots: int
  shapes: shapes.Shapes
  programs: int


def settle(
    folder: pathlib.Path | None,
    model: memory.Model,
    parts: Sequence[Sequence[sampler.Request]],
    *,
    slots: int | str,
    max_new_tokens: int,
    lora: Any = None,
) -> Cut:
  """Chooses for all parts of the work before the first program is compiled.

  With a folder, whose record is kept, all processes of a run choose the same.

  Raises:
    ValueError: the slots that are asked for do not fit on a device.
  """
  plan = sampler.plan(parts, max_new_tokens)
  asked, recorded = slots, _recorded(folder) if slots == capacity.AUTO else None
  chosen = capacity.choose_slots(
      asked if recorded is None else recorded,
      lambda n: need(model, plan, n, max_new_tokens, lora=lora),
      model.mesh,
      samples=plan.samples,
      answers=max(sum(len(r.digests) for r in part) for part in parts),
      free=capacity.room(model.mesh),
  )
  if folder is not None:
    chosen = min(map(int, hosts.gather('slots', str(chosen))))
    if asked == capacity.AUTO and hosts.is_leader():
      records.write_text(folder / RECORD, json.dumps({'slots': chosen}) + '\n')
  lengths = [[len(r.prompt) for r in part] for part in parts]
  planned = need(model, plan, chosen, max_new_tokens, lora=lora)
  console.say(f'  {chosen} slots, {planned} a device')
  halves = plan.halves(chosen, sharding.rows(model.mesh))
  console.say(f'  {plan.describe(lengths, halves=halves)}')
  return Cut(chosen, plan, plan.programs(lengths, halves=halves))


def need(
    model: memory.Model,
    plan: shapes.Shapes,
    slots: int,
    max_new_tokens: int,
    *,
    lora: Any = None,
) -> memory.Need:
  """What a run with so many slots takes, at its longest."""
  rows = sharding.rows(model.mesh)
  job = memory.Sampling(
      slots=slots,
      length=max(plan.lengths),
      max_new_tokens=max_new_tokens,
      prompts=shapes.prompts_at_once(slots, plan.samples, rows),
      width=max(plan.widths),
  )
  return planner.sampling(model, job, lora=lora)


@contextlib.contextmanager
def explained(
    model: memory.Model,
    plan: shapes.Shapes,
    slots: int,
    max_new_tokens: int,
    *,
    lora: Any = None,
) -> Iterator[None]:
  """Says what to do where memory runs out all the same.

  Raises:
    ValueError: it did.
  """
  with capacity.explained(
      lambda: need(model, plan, slots, max_new_tokens, lora=lora),
      f'Set sample.slots to less than {slots}',
  ):
    yield


def _recorded(folder: pathlib.Path | None) -> int | None:
  if folder is None:
    return None
  path = folder / RECORD
  here = hosts.is_leader() and path.is_file()
  text = hosts.from_leader('slots so far', path.read_text() if here else '')
  return int(json.loads(text)['slots']) if text else None
