"""How rows are laid out for training: in what costs least.

A pair is one sequence or two. In one, prompt + chosen + rejected, the prompt is
computed once, but attention also computes what `rejected` must not see of
`chosen`. With prompts that are short beside their answers two sequences cost
less, prompt + chosen and prompt + rejected. Of targets (SFT) there is one.

Short rows may be packed: several share one row of the arrays. Less of it is
padding, and a step is fewer micro-batches; but attention also computes what
they must not see of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from calm_jax import console
from calm_jax.lm import attention, batches, decoder, plans, roofline

AUTO, SHARED, APART = 'auto', 'shared', 'apart'

_NAMES = {1: 'one sequence', 2: 'two sequences'}

# Two sequences where they are estimated to cost less than this part of one, and
# packed rows where they cost less than this part of a row each.
# On a CPU what was estimated as 1.00, 1.05, 1.05, 1.19 and 1.56 took 1.00,
# 1.06, 1.11, 1.45 and 1.77, and 0.95 once 0.89 and once 1.02, under load
# (docs/LOG.md): around 1 padding and chance decide.
_CLEARLY = 0.97

# What a micro-batch costs however short it is, in tokens. With it rows of 256,
# 384, 512 and 1024 tokens are estimated as 0.92, 0.88, 0.89 and 0.84; they took
# 0.91, 0.88, 0.89 and 0.86 on a CPU (docs/LOG.md). To read its weights costs a
# GPU more than these.
_PASS = 20

# Tokens of packed rows, of which one is chosen.
_CAPACITIES = (256, 384, 512, 1024)

# A compilation costs about as much as this many micro-batches, on CPU fewer and
# on GPU more; so a run has a shape for so many, and never more than these.
_BATCHES_PER_SHAPE, _MAX_SHAPES = 50, 6


def settle(
    cfg: decoder.DecoderConfig,
    rows: Mapping[str, Sequence[batches.Row]],
    *,
    asked: str,
) -> dict[str, list[batches.Row]]:
  """The rows of all splits in one layout: as asked, or the cheaper one."""
  known = [row for found in rows.values() for row in found]
  count = choose(cfg, known, asked=asked)
  if any(len(row.completions) > 1 for row in known):
    ratio = estimate(cfg, known)
    console.say(
        f'  a pair is {_NAMES[count]} (two would take an estimated {ratio:.2f}'
        ' times the work of one)'
    )
  return {split: _laid_out(found, count) for split, found in rows.items()}


def pack(
    cfg: decoder.DecoderConfig,
    rows: Sequence[batches.Row],
    plan: Callable[[int], plans.Plan],
    *,
    asked: int | str,
    fits: Callable[[plans.Plan], bool],
    shapes: int | None = None,
) -> plans.Plan:
  """The plan whose rows are packed as asked, or as is cheapest.

  `plan` makes that of a capacity. None is chosen whose rows do not fit in
  memory, and `shapes` of each are compiled.
  """
  alone = plan(0)
  if asked != AUTO:
    return plan(int(asked))
  two = sum(sorted(batches.lengths(rows))[:2])
  capacities = [c for c in _CAPACITIES if two <= c and len(rows) > 1]
  if not capacities:
    return alone
  cost = lambda p: _cost(cfg, train(p, rows, shapes))
  base, best, least = cost(alone), alone, _CLEARLY
  for capacity in capacities:
    packed = plan(capacity)
    ratio = cost(packed) / base
    if ratio < least and fits(packed):
      best, least = packed, ratio
  if best is not alone:
    console.say(
        f'  short rows share rows of up to {best.capacity} tokens, an estimated'
        f' {least:.2f} times the work of a row each'
    )
  return best


def longest(
    rows: Mapping[str, Sequence[batches.Row]], plan: plans.Plan
) -> batches.Shape:
  """The shape that holds all rows of both splits, packed as planned."""
  needs = [batches.need(rows['train'], plan.index_SABP)]
  if rows.get('val'):
    alone = np.arange(len(rows['val']))[:, None]
    needs.append(batches.need(rows['val'], alone))
  return batches.shapes(needs, limit=1)[0]


def train(
    plan: plans.Plan,
    rows: Sequence[batches.Row],
    shapes: int | None = None,
) -> list[batches.Part]:
  """The micro-batches of the first epoch: each row is in one of them.

  In bfloat16 what a model thinks of a row depends on its shape as well, so a
  reference that policies are compared with is computed in these.
  """
  choices = train_shapes(plan, rows, shapes)
  parts = []
  for number in range(plan.steps_per_epoch):
    index_ABP = plan.index_SABP[number]
    shape = batches.pick(choices, batches.need(rows, index_ABP))
    parts += [
        batches.Part(index_BP, shape)
        for index_BP in index_ABP
        if index_BP.max() >= 0
    ]
  return parts


def val(rows: Sequence[batches.Row], batch: int) -> list[batches.Part]:
  """The batches that rows are validated in, none of them packed."""
  found = batches.by_length(rows, batch)
  needs = [batches.need(rows, index_BP) for index_BP in found]
  choices = batches.shapes(needs, limit=2)
  return [
      batches.Part(index_BP, batches.pick(choices, needed))
      for index_BP, needed in zip(found, needs, strict=True)
  ]


def train_shapes(
    plan: plans.Plan, rows: Sequence[batches.Row], limit: int | None
) -> tuple[batches.Shape, ...]:
  """Chosen from all steps of the run: a resumed run chooses the same."""
  needs = [batches.need(rows, index_ABP) for index_ABP in plan.index_SABP]
  if limit is None:
    done = int((plan.index_SABP >= 0).any((2, 3)).sum())
    limit = min(_MAX_SHAPES, 1 + done // _BATCHES_PER_SHAPE)
  return batches.shapes(needs, limit=limit)


def choose(
    cfg: decoder.DecoderConfig, rows: Sequence[batches.Row], *, asked: str
) -> int:
  """Sequences of a row."""
  if not any(len(row.completions) > 1 for row in rows) or asked == SHARED:
    return 1
  if asked == APART or estimate(cfg, rows) < _CLEARLY:
    return 2
  return 1


def estimate(cfg: decoder.DecoderConfig, rows: Sequence[batches.Row]) -> float:
  """What two sequences a pair cost, as a part of what one costs."""
  one, two = (_flops(cfg, _laid_out(rows, count)) for count in (1, 2))
  return two / one


def _laid_out(rows: Sequence[batches.Row], count: int) -> list[batches.Row]:
  """The rows with so many sequences each."""
  return [row._replace(sequences=count) for row in rows]


def _cost(cfg: decoder.DecoderConfig, parts: Sequence[batches.Part]) -> float:
  """FLOPs of micro-batches as they are computed, padding and all."""
  each = roofline.row_flops(cfg, length=_PASS, completion=0)
  return sum(
      each
      + len(index_BP)
      * shape.sequences
      * roofline.row_flops(
          cfg,
          length=shape.length,
          completion=shape.completion,
          attended=attention.computed(shape.length),
      )
      for index_BP, shape in parts
  )


# With all of attention, not the part that is computed as in `_cost`: SmolLM2's
# pairs with prompts of 50 and 100 tokens and answers of 300 took in two
# sequences 0.95 and 1.00 of the time of one; estimated so 0.95 and 1.00, with
# the part 0.99 and 1.05 (docs/LOG.md).
def _flops(cfg: decoder.DecoderConfig, rows: Sequence[batches.Row]) -> float:
  shapes = (batches.size(row) for row in rows)
  return sum(
      s.sequences
      * roofline.row_flops(cfg, length=s.length, completion=s.completion)
      for s in shapes
  )
