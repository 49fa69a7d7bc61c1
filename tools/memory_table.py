"""Planned memory beside what XLA says, and beside what running takes.

  python -m tools.memory_table --shapes=tiny,smollm2-135m --measure

Programs are compiled for abstract arrays, each in a process of its own, on the
default device. With --measure (on CPU) they also run there: "resident" is the
peak of the process's resident memory, less what was resident just before the
arguments were made, in the median of five runs; the program had run before, so
code and buffers that are there once do not count. Prints rows of Markdown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import concurrent.futures
import dataclasses
import multiprocessing
from typing import NamedTuple

from absl import app, flags
import jax

from calm_jax.lm import compilation, memory, pages, sharding, training
from tools import benchmark_model, memory_programs

KINDS = ('decode', 'prefill', 'train', 'packed')

# (slots, positions, prompts at once, width), and (rows, tokens, completion).
_SAMPLING = ((16, 256, 1, 128), (48, 384, 4, 256), (96, 1024, 8, 512))
_TRAINING = ((1, 448, 256), (2, 448, 256), (1, 1024, 512))


class Task(NamedTuple):
  """A program of a model, for another process; `cfg` lies on one device."""

  shape: str
  layers: int
  dtype: str
  kind: str
  job: memory.Sampling | memory.Training


class Row(NamedTuple):
  """Bytes of a program: as planned, as compiled, and where it ran.

  `packing` are those of the plan that XLA does not count.
  """

  program: str
  planned: int
  packing: int
  compiled: int
  resident: int | None = None

  @property
  def ratio(self) -> float:
    """Of the plan to what was measured, else to what XLA counts."""
    if self.resident:
      return self.planned / self.resident
    return (self.planned - self.packing) / self.compiled


def tasks(
    shapes: Sequence[str],
    dtypes: Sequence[str],
    kinds: Sequence[str],
    layers: int = 0,
) -> Iterator[Task]:
  """Every program of every model."""
  sampling = [
      memory.Sampling(count, length, 128, prompts, width)
      for count, length, prompts, width in _SAMPLING
  ]
  chunk = training.Objective.chunk
  steps = [
      memory.Training(rows, rows, length, completion, chunk, remat)
      for rows, length, completion in _TRAINING
      for remat in (False, True)
  ]
  for shape in shapes:
    for dtype in dtypes:
      for kind in kinds:
        for job in sampling if kind in ('decode', 'prefill') else steps:
          yield Task(shape, layers, dtype, kind, job)


def row(program: memory_programs.Program, *, measure: bool = False) -> Row:
  """Compiles a program and, if wanted, runs it."""
  compiled = program.lower().compile()
  resident = None
  if measure:
    resident = memory_programs.resident_bytes(program, compiled)
  return Row(
      program.name,
      program.plan.total,
      dict(program.plan.parts).get(memory.PACKING, 0),
      memory_programs.compiled_bytes(program, compiled),
      resident,
  )


def rows(of: Iterable[Task], *, measure: bool) -> Iterator[Row]:
  """The row of each task, from a process of its own."""
  pool = concurrent.futures.ProcessPoolExecutor(
      max_workers=1,
      mp_context=multiprocessing.get_context('spawn'),
      initializer=_start,
      max_tasks_per_child=1,
  )
  with pool:
    for task in of:
      yield pool.submit(_done, task, measure).result()


def _start() -> None:
  """A process with the memory and the compiled programs of calm_jax.main."""
  compilation.keep()
  pages.keep()


def _done(task: Task, measure: bool) -> Row:
  cfg = benchmark_model.SHAPES[task.shape]
  if task.layers:
    cfg = dataclasses.replace(cfg, num_layers=task.layers)
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  model = memory.Model(cfg, task.dtype, mesh)
  return row(memory_programs.of(task.kind, model, task.job), measure=measure)


def _define_flags() -> None:
  flags.DEFINE_list('shapes', ['tiny', 'smollm2-135m'], 'Of benchmark_model.')
  flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Of weights.')
  flags.DEFINE_list('kinds', list(KINDS), 'Of programs.')
  flags.DEFINE_integer('layers', 0, "In place of the model's, 0: its own.")
  flags.DEFINE_bool('measure', False, 'Run the programs too, on CPU.')


def main(argv: Sequence[str]) -> None:
  del argv
  found = flags.FLAGS
  print(f'jax {jax.__version__}\n')
  print('| model | dtype | program | planned | compiled | resident | ratio |')
  print('|---|---|---|---|---|---|---|')
  mib = lambda size: '-' if size is None else f'{size / 2**20:.1f}'
  todo = list(tasks(found.shapes, found.dtypes, found.kinds, found.layers))
  for task, row in zip(todo, rows(todo, measure=found.measure), strict=True):
    sizes = f'{mib(row.planned)} | {mib(row.compiled)} | {mib(row.resident)}'
    start = f'| {task.shape} | {task.dtype} | {row.program}'
    print(f'{start} | {sizes} | {row.ratio:.2f} |', flush=True)


if __name__ == '__main__':
  _define_flags()
  app.run(main)
