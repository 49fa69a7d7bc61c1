"""The sampler's and the trainer's own programs, for the planner to be tested.

Each is compiled for abstract arrays; only `resident` makes arrays and runs it.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import ctypes
import gc
import pathlib
import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from calm_jax.lm import (
    batches,
    decoder,
    memory,
    optimizer,
    planner,
    slots,
    steps,
    training,
)
from calm_jax.lm import lora as lora_lib

LORA = lora_lib.LoraConfig(8, 16.0, ('q_proj', 'v_proj'))
_SAMPLES = 3
_PACKED = 4  # pairs in a row
_DRAWN = 2  # tokens of an answer where decoding is run: steps are all alike


class Program(NamedTuple):
  """A jitted function, the arguments that it is compiled for, and its plan."""

  name: str
  plan: memory.Need
  function: Any
  static: tuple[Any, ...]  # arguments that stand before the others
  arguments: tuple[Any, ...]  # trees of shapes
  filled: Callable[[], tuple[Any, ...]]  # the same as arrays

  def lower(self) -> Any:
    return self.function.lower(*self.static, *self.arguments)


def of(
    kind: str, model: memory.Model, job: memory.Sampling | memory.Training
) -> Program:
  """The program of a job: 'decode', 'prefill', 'train' or 'packed'."""
  if isinstance(job, memory.Training):
    return train(model, job, pairs=_PACKED if kind == 'packed' else 1)
  return decode(model, job) if kind == 'decode' else prefill(model, job)


def decode(model: memory.Model, job: memory.Sampling) -> Program:
  """A chunk of decoding, every slot in use."""
  made, settings, weights, state = _sampler(model, job)

  def filled():
    state_now = slots.empty_state(made, settings, job.length, 4, 5)
    last = jnp.full(job.slots, job.length - _DRAWN - 1, jnp.int32)
    drawing = state_now._replace(
        job=state_now.job._replace(limit_B=jnp.full_like(last, _DRAWN)),
        phase_B=jnp.full_like(last, slots.DRAWING),
        position_B=last,
    )
    return _filled(weights), drawing, jnp.int32(0)

  return Program(
      f'decode {job.slots} x {job.length}',
      planner.sampling_programs(model, job)['decoding'],
      slots.decode_chunk,
      (made, settings),
      (weights, state, jax.ShapeDtypeStruct((), jnp.int32)),
      filled,
  )


def prefill(model: memory.Model, job: memory.Sampling) -> Program:
  """Prompts prefilled together, and their entries put into the cache."""
  made, settings, weights, state = _sampler(model, job)
  rows = job.prompts * _SAMPLES
  ints = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  each = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), state.job
  )
  rest = ints(job.prompts, job.width), (ints(rows),) * 4, each

  def filled():
    empty = slots.empty_state(made, settings, job.length, 4, 5)
    tokens, _, jobs = _filled(rest)
    row_R = jnp.arange(rows, dtype=jnp.int32)
    width_R = jnp.full(rows, job.width - 1, jnp.int32)
    where = row_R, row_R // _SAMPLES, jnp.zeros_like(row_R), width_R
    return _filled(weights), empty, tokens, where, jobs

  return Program(
      f'prefill {job.prompts} x {job.width} into {job.slots} x {job.length}',
      planner.sampling_programs(model, job)['prefill'],
      slots.admit,
      (made,),
      (weights, state, *rest),
      filled,
  )


def train(
    model: memory.Model,
    job: memory.Training,
    *,
    accumulation: int = 2,
    pairs: int = 1,
) -> Program:
  """An optimiser step of DPO; `pairs` that share each row fill it."""
  adamw = optimizer.adamw(
      lambda step: jnp.float32(1e-5),
      b1=0.9,
      b2=0.999,
      eps=1e-8,
      weight_decay=0.0,
      clip_norm=1.0,
  )
  objective = training.Objective('dpo', LORA.scale, remat=job.remat)
  lora = jax.eval_shape(
      lambda: lora_lib.init(model.cfg, LORA, jax.random.key(0))
  )
  state = jax.eval_shape(
      lambda lora: training.TrainState(jnp.int32(0), lora, adamw.init(lora)),
      lora,
  )
  params = decoder.abstract(model.cfg, model.dtype)
  each = job._replace(
      length=job.length // pairs, completion=job.completion // pairs
  )
  rows = [batches.Row(*_pair(each))] * (job.rows * pairs)
  index = np.arange(len(rows)).reshape(job.rows, pairs)
  index = np.tile(index, (accumulation, 1, 1))
  shape = batches.Shape(job.length, job.completion, job.sequences, pairs)
  batch = batches.build(
      rows, index, shape, np.zeros((len(rows), 2), np.float32)
  )
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch
  )
  layers = 'full' if job.remat else 'none'
  of = f', of {pairs} pairs' if pairs > 1 else ''
  return Program(
      f'train {job.rows} x {job.length} ({job.completion}){of}, remat {layers}',
      planner.training_programs(model, job, lora=LORA)['step'],
      training.make_step(model.cfg, objective, adamw, model.mesh),
      (),
      (state, params, abstract),
      lambda: (*_filled((state, params)), jax.tree.map(jnp.asarray, batch)),
  )


def compiled_bytes(program: Program, compiled: Any) -> int:
  """Arguments, temporaries, and results that are no argument's buffer."""
  found = compiled.memory_analysis()
  given = sum(
      x.size * x.dtype.itemsize for x in jax.tree.leaves(program.arguments)
  )
  return (
      given
      + found.temp_size_in_bytes
      + found.output_size_in_bytes
      - found.alias_size_in_bytes
  )


def resident_bytes(program: Program, compiled: Any, *, runs: int = 5) -> int:
  """How far the process's resident memory rises for arguments and one run.

  That is its peak less what was resident before the arguments were made, the
  program having run once before: its code and the library's buffers, which are
  there once whatever the size, do not count. The median of some runs: a thread
  that loses its core in the middle of a product keeps what it has packed, and
  the next product packs beside it. On Linux only.
  """
  _run(program, compiled)
  return statistics.median_low(_rise(program, compiled) for _ in range(runs))


def _rise(program: Program, compiled: Any) -> int:
  gc.collect()
  # What is free in the process, the system gets back: it would not count again.
  with contextlib.suppress(AttributeError):
    ctypes.CDLL(None).malloc_trim(0)
  before = _status('VmRSS')
  pathlib.Path('/proc/self/clear_refs').write_text('5')  # peak = resident
  _run(program, compiled)
  return _status('VmHWM') - before


def _run(program: Program, compiled: Any) -> None:
  jax.block_until_ready(compiled(*program.filled()))


def _status(field: str) -> int:
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  found = dict(line.split(':', 1) for line in lines)
  return 1024 * int(found[field].split()[0])


def _sampler(model: memory.Model, job: memory.Sampling):
  made = steps.decoder_steps(model.cfg, model.dtype)
  settings = slots.Settings(job.slots, job.max_new_tokens, (0,), top_p=0.9)
  weights = (decoder.abstract(model.cfg, model.dtype), None)
  state = jax.eval_shape(
      lambda: slots.empty_state(made, settings, job.length, 4, 5)
  )
  return made, settings, weights, state


def _pair(job: memory.Training):
  """A prompt and two completions that fill a row to its last token."""
  half = job.completion // 2
  prompt = (1,) * (job.length - 2 * half)
  return prompt, ((2,) * half, (3,) * half)


def _filled(tree: Any) -> Any:
  """Arrays whose every page is written to; small numbers, ids of zero."""
  value = lambda x: 0.01 if jnp.issubdtype(x.dtype, jnp.floating) else 0
  return jax.tree.map(lambda x: jnp.full(x.shape, value(x), x.dtype), tree)
