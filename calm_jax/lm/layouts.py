"""A pair as one sequence or two: which of both costs less to train on.

In one, prompt + chosen + rejected, the prompt is computed once, but attention
also computes what `rejected` must not see of `chosen`. With prompts that are
short beside their answers two sequences cost less, prompt + chosen and prompt +
rejected. Of targets (SFT) there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from calm_jax import console
from calm_jax.lm import batches, decoder, roofline

AUTO, SHARED, APART = 'auto', 'shared', 'apart'

_NAMES = {1: 'one sequence', 2: 'two sequences'}

# Two sequences where they are estimated to cost less than this part of one.
# On a CPU what was estimated as 1.00, 1.05, 1.05, 1.19 and 1.56 took 1.00,
# 1.06, 1.11, 1.45 and 1.77, and 0.95 once 0.89 and once 1.02, under load
# (docs/LOG.md): around 1 padding and chance decide.
_CLEARLY = 0.97


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


def _flops(cfg: decoder.DecoderConfig, rows: Sequence[batches.Row]) -> float:
  shapes = (batches.size(row) for row in rows)
  return sum(
      s.sequences
      * roofline.row_flops(cfg, length=s.length, completion=s.completion)
      for s in shapes
  )
