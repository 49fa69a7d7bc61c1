"""The sampler's and the trainer's programs for a mesh, with no array made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax

from calm_jax.lm import (
    batches,
    decoder,
    shapes,
    sharding,
    slots,
    steps,
    training,
)
from calm_jax.lm import lora as lora_lib


@dataclasses.dataclass(frozen=True)
class Work:
  """How much each program does at once."""

  slots: int = 512  # all devices together
  samples: int = 3  # of a prompt
  prompt: int = 512  # tokens
  new_tokens: int = 512
  batch: int = 1  # rows of training per part of the mesh
  accumulation: int = 8
  length: int = 1024  # tokens of a row
  completion: int = 384  # tokens of its two answers
  rank: int = 8
  targets: tuple[str, ...] = ('q_proj', 'v_proj')
  remat: bool = False


class Program(NamedTuple):
  """`function.lower(*args)` makes it; `groups` names what lives on devices."""

  name: str
  function: Any
  args: tuple[Any, ...]
  groups: Mapping[str, Any]


class Replica(NamedTuple):
  """An array that is whole along axes of the mesh."""

  path: str
  nbytes: int  # on one device
  axes: tuple[str, ...]


def programs(
    cfg: decoder.DecoderConfig, dtype: Any, mesh: Mesh, work: Work
) -> Iterator[Program]:
  """Prefill, decode and the training step, as they run."""
  params = _abstract(mesh, decoder.abstract(cfg, dtype))
  lora_cfg = lora_lib.LoraConfig(work.rank, 2.0 * work.rank, work.targets)
  lora = jax.eval_shape(lambda: lora_lib.init(cfg, lora_cfg, jax.random.key(0)))
  yield from _sampling(cfg, dtype, mesh, work, (params, _abstract(mesh, lora)))
  yield _training(cfg, mesh, work, params, lora)


def per_device(tree: Any) -> int:
  """Bytes of a tree's arrays on each device."""
  return sum(_bytes(x) for x in jax.tree.leaves(tree))


def replicas(mesh: Mesh, tree: Any, *, least: int) -> list[Replica]:
  """Arrays of at least so many bytes that fsdp or tensor does not split."""
  found = []
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    used = {name for axes in x.sharding.spec for name in _names(axes)}
    axes = tuple(
        name
        for name in ('fsdp', 'tensor')
        if mesh.shape[name] > 1 and name not in used
    )
    if axes and _bytes(x) >= least:
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      found.append(Replica(name, _bytes(x), axes))
  return found


def _sampling(cfg, dtype, mesh, work: Work, weights) -> Iterator[Program]:
  settings = slots.Settings(work.slots, work.new_tokens, (0,), top_p=0.9)
  made = steps.decoder_steps(cfg, dtype, mesh)
  length = shapes.bucket(work.prompt) + work.new_tokens
  static = made, settings, length, 4, 5
  build = functools.partial(slots.empty_state, *static)
  laid = jax.jit(build).lower().compile().output_shardings
  state = jax.tree.map(_struct, jax.eval_shape(build), laid)
  # On CPU the cache would be float32, for its compiler's sake.
  typed = lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=x.sharding)
  state = state._replace(cache=jax.tree.map(typed, state.cache))
  prompts = shapes.prompts_at_once(work.slots, work.samples, made.parts)
  rows = prompts * work.samples
  ints = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  job = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), state.job
  )
  groups = {
      'weights': weights[0],
      'LoRA': weights[1],
      'KV cache': state.cache,
      'slots': state._replace(cache=()),
  }
  width = shapes.bucket(work.prompt)
  where = (ints(rows),) * 4
  tokens = ints(prompts, width)
  args = (made, weights, state, tokens, where, job)
  yield Program(f'prefill {prompts} x {width}', slots.admit, args, groups)
  args = (made, settings, weights, state, ints())
  yield Program(f'decode {work.slots}', slots.decode_chunk, args, groups)


def _training(cfg, mesh, work: Work, params, lora) -> Program:
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5))
  fresh = lambda lora: training.TrainState(
      jnp.int32(0), lora, optimizer.init(lora)
  )
  state = _abstract(mesh, jax.eval_shape(fresh, lora))
  objective = training.Objective('dpo', 2.0, remat=work.remat)
  rows = work.batch * sharding.rows(mesh)
  shape = batches.Shape(work.length, work.completion)
  row = batches.build([batches.Row((0,), ())], np.zeros((1, 1, 1), int), shape)
  spread = NamedSharding(mesh, P(None, ('data', 'fsdp')))
  batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
          (work.accumulation, rows, *x.shape[2:]), x.dtype, sharding=spread
      ),
      row,
  )
  step = training.make_step(cfg, objective, optimizer, mesh)
  groups = {
      'weights': params,
      'LoRA': state.lora,
      'Adam': state.opt_state,
      'batch': batch,
  }
  name = f'train {work.accumulation} x {rows} x {work.length}'
  return Program(name, step, (state, params, batch), groups)


def _abstract(mesh: Mesh, tree: Any) -> Any:
  return jax.tree.map(_struct, tree, sharding.of(mesh, tree))


def _struct(x, placed) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed)


def _bytes(x) -> int:
  return math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize


def _names(axes: Any) -> tuple[str, ...]:
  return (axes,) if isinstance(axes, str) else axes or ()
