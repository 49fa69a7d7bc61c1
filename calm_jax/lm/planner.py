"""How much memory of a device a job takes, known before it is compiled.

What programs are given is counted array by array, under the sharding table;
what they keep beside it, `workspace` knows.
"""

from __future__ import annotations

import math
from typing import Any

import jax

from calm_jax.lm import decoder, memory, sharding, workspace
from calm_jax.lm import lora as lora_lib

# Numbers that a slot is described by, beside its tokens.
_SLOT = 32


def sampling(
    model: memory.Model, job: memory.Sampling, *, lora: Any = None
) -> memory.Need:
  """What drawing answers takes; `lora` are the adapter's factors, if any."""
  return _most(sampling_programs(model, job, lora=lora))


def sampling_programs(
    model: memory.Model, job: memory.Sampling, *, lora: Any = None
) -> dict[str, memory.Need]:
  """The same of each program; they run in turns."""
  cfg = model.cfg
  rows = math.ceil(job.slots / sharding.rows(model.mesh))
  kv_heads = model.part(cfg.num_kv_heads)
  entry = 2 * kv_heads * cfg.head_dim * cfg.num_layers
  # The float32 cache of CPUs: see `steps`.
  itemsize = memory.FLOAT if model.on_cpu else model.itemsize
  lasting = {
      'weights': _weights(model, lora),
      'KV cache': rows * job.length * entry * itemsize,
      'answers': rows * (job.max_new_tokens + _SLOT) * memory.FLOAT,
  }
  decoding = workspace.decoding(model, job)
  if jax.default_backend() == 'tpu':
    # Its compiler lays the cache out anew inside the loop.
    decoding['copy of the cache'] = lasting['KV cache']
  return {
      'decoding': memory.Need.of(lasting | decoding),
      'prefill': memory.Need.of(lasting | workspace.prefill(model, job)),
  }


def training(
    model: memory.Model, job: memory.Training, *, lora: lora_lib.LoraConfig
) -> memory.Need:
  """What a training step, validation and the reference pass take."""
  return _most(training_programs(model, job, lora=lora))


def training_programs(
    model: memory.Model, job: memory.Training, *, lora: lora_lib.LoraConfig
) -> dict[str, memory.Need]:
  """The same of each program; they run in turns."""
  factors = jax.eval_shape(
      lambda: lora_lib.init(model.cfg, lora, jax.random.key(0))
  )
  adapter = memory.tree_bytes(model.mesh, factors)
  lasting = {
      'weights': _weights(model, None),
      'adapter and Adam': 3 * adapter,
  }
  gradients = {'gradients': 3 * adapter}
  return {
      'step': memory.Need.of(lasting | gradients | workspace.step(model, job)),
      'forward': memory.Need.of(lasting | workspace.forward(model, job)),
  }


def _most(programs: dict[str, memory.Need]) -> memory.Need:
  return max(programs.values(), key=lambda need: need.total)


def _weights(model: memory.Model, lora: Any) -> int:
  params = decoder.abstract(model.cfg, model.dtype)
  size = memory.tree_bytes(model.mesh, params)
  return size + (memory.tree_bytes(model.mesh, lora) if lora else 0)
