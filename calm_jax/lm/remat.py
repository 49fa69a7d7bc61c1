"""Whether training computes layers a second time: where memory asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calm_jax import console
from calm_jax.lm import batches, capacity, hosts, memory, planner, sharding
from calm_jax.lm import lora as lora_lib

_WAYS = {'none': (False,), 'full': (True,), capacity.AUTO: (False, True)}
_TOKENS = 64  # in steps of so many the longest row that fits is looked for


def settle(
    model: memory.Model,
    rows: Mapping[str, Sequence[batches.Row]],
    *,
    asked: str,
    lora: lora_lib.LoraConfig,
    batch: int,
    eval_batch: int,
    chunk: int,
) -> tuple[bool, memory.Need]:
  """Chooses for the longest of all rows; all processes choose the same.

  `batch` and `eval_batch` are rows of a device.

  Raises:
    ValueError: training does not fit on a device, or not as it is asked for.
  """
  shape = _longest(rows)
  parts = sharding.rows(model.mesh)
  job = memory.Training(
      rows=batch * parts,
      eval_rows=eval_batch * parts,
      length=shape.length,
      completion=shape.completion,
      chunk=chunk,
      remat=False,
      sequences=shape.sequences,
  )
  free = capacity.room(model.mesh)
  remat = hosts.anywhere(
      'layers computed twice',
      choose(model, job, asked=asked, lora=lora, free=free),
  )
  need = planner.training(model, job._replace(remat=remat), lora=lora)
  times = 'twice' if remat else 'once'
  console.say(
      f'  layers are computed {times}: {_rows(job)} take {need} a device'
  )
  return remat, need


def choose(
    model: memory.Model,
    job: memory.Training,
    *,
    asked: str,
    lora: lora_lib.LoraConfig,
    free: int | None,
) -> bool:
  """Whether layers are computed twice: as asked, or where it is needed.

  Raises:
    ValueError: the job does not fit in `free` bytes beside the weights.
  """
  ways = _WAYS[asked]
  if free is None:
    return ways[0]
  for remat in ways:
    need = planner.training(model, job._replace(remat=remat), lora=lora)
    # Safely, where there is another way.
    if capacity.fits(need, free, safely=remat != ways[-1]):
      return remat
  raise ValueError(_too_large(model, job, ways[-1], lora, free))


def _too_large(
    model, job: memory.Training, remat: bool, lora, free: int
) -> str:
  """What does not fit, and the largest job that does."""
  parts = sharding.rows(model.mesh)

  def fits(remat: bool, **changes: int) -> bool:
    changed = job._replace(remat=remat, **changes)
    need = planner.training(model, changed, lora=lora)
    return capacity.fits(need, free, safely=True)

  text = (
      f'training on {job.rows // parts} {_rows(job)} a device needs'
      f' {planner.training(model, job, lora=lora)},'
      f' and {capacity.beside(free)}.'
  )
  if not remat and fits(True):
    return f'{text} It fits with train.remat=auto or full'
  rows = lambda n: min(n * parts, job.eval_rows)
  best = memory.largest(
      lambda n: fits(True, rows=n * parts, eval_rows=rows(n)),
      most=max(job.rows, job.eval_rows) // parts,
  )
  if best:
    return (
        f'{text} The largest train.batch_size and train.eval_batch_size that'
        f' fit are {best}'
    )
  tokens = _TOKENS * memory.largest(
      lambda n: fits(True, rows=parts, eval_rows=parts, length=n * _TOKENS),
      most=job.length // _TOKENS,
  )
  if tokens:
    one, of = (
        ('row', 'its answers')
        if job.sequences == 1
        else ('pair', 'an answer in each row')
    )
    return (
        f'{text} One {one} fits with up to {tokens} tokens, of its prompt and'
        f' {of}: lower train.max_length, or use more devices (mesh.fsdp or'
        ' mesh.tensor)'
    )
  return (
      f'{text} Not even a row of {_TOKENS} tokens fits: use more devices'
      ' (mesh.fsdp or mesh.tensor), or a smaller model'
  )


def _rows(job: memory.Training) -> str:
  if job.sequences == 1:
    return f'rows of {job.length} tokens'
  return f'pairs of {job.sequences} rows of {job.length} tokens'


def _longest(rows: Mapping[str, Sequence[batches.Row]]) -> batches.Shape:
  needs = [
      batches.need(found, np.arange(len(found)))
      for found in rows.values()
      if found
  ]
  return batches.shapes(needs, limit=1)[0]
