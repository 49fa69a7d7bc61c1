"""Planned memory beside what XLA's compiler says of the same programs.

  python -m tools.memory_table --shapes=tiny,smollm2-135m

Nothing is allocated and nothing runs: programs are compiled for abstract
arrays, on the default device. Prints rows of Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any, NamedTuple

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from calm_jax.lm import (
    batches,
    decoder,
    memory,
    optimizer,
    sharding,
    slots,
    steps,
    training,
)
from calm_jax.lm import lora as lora_lib
from tools import benchmark_model

LORA = lora_lib.LoraConfig(8, 16.0, ('q_proj', 'v_proj'))
_SAMPLES = 3


class Row(NamedTuple):
  """Bytes of a program: as planned, and as compiled."""

  program: str
  planned: int
  compiled: int

  @property
  def ratio(self) -> float:
    return self.planned / self.compiled


def sampling_rows(model: memory.Model, job: memory.Sampling) -> Iterator[Row]:
  """Decoding and prefill, as the sampler compiles them."""
  planned = memory.sampling_programs(model, job)
  made = steps.decoder_steps(model.cfg, model.dtype)
  settings = slots.Settings(job.slots, job.max_new_tokens, (0,), top_p=0.9)
  params = decoder.abstract(model.cfg, model.dtype)
  state = jax.eval_shape(
      lambda: slots.empty_state(made, settings, job.length, 4, 5)
  )
  what = f'{job.slots} x {job.length}'
  lowered = slots.decode_chunk.lower(made, settings, (params, None), state, 0)
  given = _bytes((params, state))
  need = planned['decoding'].total
  yield Row(f'decode {what}', need, given + _extra(lowered))
  rows = job.prompts * _SAMPLES
  ints = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  each = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), state.job
  )
  tokens, where = ints(job.prompts, job.width), (ints(rows),) * 4
  lowered = slots.admit.lower(made, (params, None), state, tokens, where, each)
  what = f'{job.prompts} x {job.width} into {what}'
  need = planned['prefill'].total
  yield Row(f'prefill {what}', need, given + _extra(lowered))


def training_row(
    model: memory.Model, job: memory.Training, *, accumulation: int = 8
) -> Row:
  """The step of DPO, as the training loop compiles it."""
  planned = memory.training_programs(model, job, lora=LORA)['step']
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
  shape = batches.Shape(job.length, job.completion)
  one = batches.build([batches.Row((0,), ())], np.zeros((1, 1), int), shape)
  batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
          (accumulation, job.rows, *x.shape[2:]), x.dtype
      ),
      one,
  )
  step = training.make_step(model.cfg, objective, adamw, model.mesh)
  given = _bytes((state, params, batch))
  compiled = given + _extra(step.lower(state, params, batch))
  layers = 'full' if job.remat else 'none'
  what = f'train {job.rows} x {job.length} ({job.completion}), remat {layers}'
  return Row(what, planned.total, compiled)


def _bytes(tree: Any) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _extra(lowered: Any) -> int:
  """What a program needs beside its arguments."""
  found = lowered.compile().memory_analysis()
  return (
      found.temp_size_in_bytes
      + found.output_size_in_bytes
      - found.alias_size_in_bytes
  )


# (slots, positions, prompts at once, width), and (rows, tokens, completion).
_SAMPLING = ((16, 256, 1, 128), (48, 384, 4, 256), (96, 1024, 8, 512))
_TRAINING = ((1, 448, 256), (2, 448, 256), (1, 1024, 512))


def _rows(model: memory.Model) -> Iterator[Row]:
  for slot_count, length, prompts, width in _SAMPLING:
    yield from sampling_rows(
        model, memory.Sampling(slot_count, length, 128, prompts, width)
    )
  for rows, length, completion in _TRAINING:
    for remat in (False, True):
      job = memory.Training(
          rows, rows, length, completion, training.Objective.chunk, remat
      )
      yield training_row(model, job)


def _define_flags() -> None:
  flags.DEFINE_list('shapes', ['tiny', 'smollm2-135m'], 'Of benchmark_model.')
  flags.DEFINE_list('dtypes', ['float32', 'bfloat16'], 'Of weights.')
  flags.DEFINE_integer('layers', 0, "In place of the model's, 0: its own.")


def main(argv: Sequence[str]) -> None:
  del argv
  device = jax.devices()[0]
  mesh = sharding.make_mesh(1, 1, 1, devices=[device])
  print(f'{device.device_kind}, jax {jax.__version__}\n')
  print('| model | dtype | program | planned MiB | compiled MiB | ratio |')
  print('|---|---|---|---|---|---|')
  for name in flags.FLAGS.shapes:
    cfg = benchmark_model.SHAPES[name]
    if layers := flags.FLAGS.layers:
      cfg = dataclasses.replace(cfg, num_layers=layers)
    for dtype in flags.FLAGS.dtypes:
      for row in _rows(memory.Model(cfg, dtype, mesh)):
        mib = f'{row.planned / 2**20:.1f} | {row.compiled / 2**20:.1f}'
        print(
            f'| {name} | {dtype} | {row.program} | {mib} | {row.ratio:.2f} |',
            flush=True,
        )


if __name__ == '__main__':
  _define_flags()
  app.run(main)
