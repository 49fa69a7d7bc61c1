"""Whether training computes layers a second time: where memory asks for it."""

from __future__ import annotations

from calm_jax import console
from calm_jax.lm import capacity, hosts, memory, planner, sharding
from calm_jax.lm import lora as lora_lib

_WAYS = {'none': (False,), 'full': (True,), capacity.AUTO: (False, True)}
_TOKENS = 64  # in steps of so many the longest row that fits is looked for


def settle(
    model: memory.Model,
    job: memory.Training,
    *,
    asked: str,
    lora: lora_lib.LoraConfig,
) -> tuple[bool, memory.Need]:
  """Chooses for a job, and says what it takes; all processes choose the same.

  Raises:
    ValueError: training does not fit on a device, or not as it is asked for.
  """
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


def fits(
    model: memory.Model,
    job: memory.Training,
    *,
    asked: str,
    lora: lora_lib.LoraConfig,
    safely: bool = True,
) -> bool:
  """Whether a job fits on all processes' devices, `safely` with room to spare.

  With each layer computed once, if it is not asked that they are twice.
  """
  free = capacity.room(model.mesh)
  job = job._replace(remat=_WAYS[asked][0])
  need = planner.training(model, job, lora=lora)
  enough = free is None or capacity.fits(need, free, safely=safely)
  return not hosts.anywhere('rows that do not fit', not enough)


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
      f' {planner.training(model, job._replace(remat=remat), lora=lora)},'
      f' and {capacity.beside(free)}.'
  )
  if not remat and fits(True):
    return f'{text} It fits with train.remat=auto or full'
  # What is advised was looked for with layers computed twice.
  also = '' if remat else ', with train.remat=auto or full'
  rows = lambda n: min(n * parts, job.eval_rows)
  best = memory.largest(
      lambda n: fits(True, rows=n * parts, eval_rows=rows(n)),
      most=max(job.rows, job.eval_rows) // parts,
  )
  if best:
    return (
        f'{text} The largest train.batch_size and train.eval_batch_size that'
        f' fit are {best}{also}'
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
        f' {of}: lower train.max_length or train.packing, or use more devices'
        f' (mesh.fsdp or mesh.tensor){also}'
    )
  return (
      f'{text} Not even a row of {_TOKENS} tokens fits: use more devices'
      ' (mesh.fsdp or mesh.tensor), or a smaller model'
  )


def _rows(job: memory.Training) -> str:
  if job.sequences == 1:
    return f'rows of {job.length} tokens'
  return f'pairs of {job.sequences} rows of {job.length} tokens'
