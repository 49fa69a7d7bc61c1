"""The memory that programs take beside what they are given.

It is counted as their formulas say (C is a chunk of completion positions,
letters as in `decoder`); the constants were read off programs that XLA compiled
(docs/benchmarks/memory.md).
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax

from calm_jax.lm import decoder, memory, sharding

# Whole [B, V] arrays that drawing a token needs at once, and [B, C, V] arrays
# that a chunk's scores and their gradient need: one more in the order in which
# XLA's CPU compiler computes layers twice.
_LOGITS, _CHUNK_LOGITS, _CHUNK_LOGITS_TWICE = 3, 2, 3
# Of queries, on CPU.
_BLOCK, _MOST_BLOCKS = 64, 6
# Copies of a block's scores [B, N, T, S] that exist at once in a forward pass.
_SCORES = 2
# Values of heads narrower than this a CPU's product copies before it starts.
_NARROW = 32


class _Kept(NamedTuple):
  """Bytes of a token and layer that training keeps, by what they belong to.

  Each but the last for an element of the model's dimension of that name;
  `scores` is a number of float32 arrays.
  """

  ffn_dim: float
  model_dim: float
  heads: float
  kv_heads: float
  scores: float


_KEPT = {
    # Gate and up; the inputs of both halves, and the first one normed; queries,
    # keys and values, the last two also turned round; what attention gives.
    'float32 on CPU': _Kept(8, 12, 12, 12, 1.25),
    # In a branch of its own XLA keeps what it has widened.
    'bfloat16 on CPU': _Kept(8, 12, 12, 12, 1.8),
    'float32': _Kept(8, 12, 4, 8, 1.0),
    'bfloat16': _Kept(4, 6, 2, 4, 1.0),
}
# The same of the one layer in work where layers are computed twice, on CPU: its
# values and most of their gradients.
_IN_WORK = _Kept(1.8 * 8, 1.8 * 12, 1.8 * 12, 1.8 * 12, 1.65)


def decoding(model: memory.Model, job: memory.Sampling) -> dict[str, int]:
  """A step for every slot, beside the cache: logits, or a layer's scores."""
  cfg, mesh = model.cfg, model.mesh
  rows = math.ceil(job.slots / sharding.rows(mesh))
  heads = model.part(cfg.num_heads)
  logits = (
      _LOGITS * math.ceil(job.slots / mesh.size) * cfg.vocab_size * memory.FLOAT
  )
  if mesh.size > 1:  # as they come from the projection
    vocab = model.part(cfg.vocab_size)
    logits += math.ceil(job.slots / mesh.shape['data']) * vocab * memory.FLOAT
  scores = _SCORES * rows * heads * job.length * memory.FLOAT
  scores += _copies(model)
  work = max(logits, scores) + _widened_head(model)
  values = model.part(cfg.num_kv_heads) * cfg.head_dim * memory.FLOAT
  return {'decoding': work} | _packing(
      model, rows * job.length * values if cfg.head_dim < _NARROW else 0
  )


def prefill(model: memory.Model, job: memory.Sampling) -> dict[str, int]:
  """The widest layer of all prompts at once, or its scores."""
  prompts = math.ceil(job.prompts / sharding.rows(model.mesh))
  scores = prompts * _scores(model, job.width)
  work = max(prompts * job.width * _layer_work(model), _SCORES * scores)
  work += _copies(model) + _gathered(model)
  return {'prefill': work} | _packing(model, _weighing(model, scores))


def step(model: memory.Model, job: memory.Training) -> dict[str, int]:
  """What the backward pass finds, and what a layer or the logits need."""
  rows = job.sequences * math.ceil(job.rows / sharding.rows(model.mesh))
  layers = model.cfg.num_layers
  layer = rows * _kept(model, job.length, _KEPT[model.kind])
  logits = rows * _chunk_logits(model, job)
  # A product over many positions reads its first operand across.
  packing = max(rows * _scores(model, job.length), logits // 2)
  rest = _gathered(model)
  if job.completion > job.chunk:  # a loop, before which it is widened
    rest += _widened_head(model)
  if not job.remat:
    return {
        'activations': layers * layer,
        'logits or gradients of a layer': max(
            _CHUNK_LOGITS * logits, layer // 2
        ),
        'copies': rest + _copies(model),
    } | _packing(model, packing)
  count, work = _CHUNK_LOGITS, 4 * layer // 3
  if model.on_cpu:
    count = _CHUNK_LOGITS_TWICE
    work = rows * _kept(model, job.length, _IN_WORK)
  boundary = rows * job.length * model.cfg.model_dim * model.itemsize
  return {
      'activations': layers * boundary,
      'logits or a layer': max(count * logits, work),
      'copies': rest + _copies_of_a_layer(model),
  } | _packing(model, packing)


def forward(model: memory.Model, job: memory.Training) -> dict[str, int]:
  """Nothing is kept: logits, or the widest layer."""
  rows = job.sequences * math.ceil(job.eval_rows / sharding.rows(model.mesh))
  scores = rows * _scores(model, job.length)
  work = max(
      _CHUNK_LOGITS * rows * _chunk_logits(model, job),
      rows * job.length * _layer_work(model),
      _SCORES * scores,
  )
  work += _copies(model) + _widened_head(model) + _gathered(model)
  return {'forward pass': work} | _packing(model, _weighing(model, scores))


def _weighing(model: memory.Model, scores: int) -> int:
  """Of the weights that scores become, which are not always float32."""
  return scores * model.itemsize // memory.FLOAT


def _packing(model: memory.Model, size: int) -> dict[str, int]:
  """What a CPU's products copy into another order; XLA does not count it."""
  return {memory.PACKING: size} if model.on_cpu else {}


def _layer_work(model: memory.Model) -> int:
  """Bytes of a token where a layer is widest, nothing being kept."""
  wide = 3 * model.part(model.cfg.ffn_dim)
  if model.on_cpu:
    return wide * memory.FLOAT
  return (wide + 3 * model.cfg.model_dim) * model.itemsize


def _chunk_logits(model: memory.Model, job: memory.Training) -> int:
  """Bytes of an array [C, V], of one row."""
  chunks = math.ceil(job.completion / job.chunk)
  width = math.ceil(job.completion / chunks)
  vocab = model.part(model.cfg.vocab_size)
  return width * vocab * memory.FLOAT


def _kept(model: memory.Model, length: int, kept: _Kept) -> int:
  """Bytes of a layer and a row, `kept` or in work."""
  cfg = model.cfg
  heads = model.part(cfg.num_heads) * cfg.head_dim
  kv_heads = model.part(cfg.num_kv_heads) * cfg.head_dim
  token = (
      kept.ffn_dim * model.part(cfg.ffn_dim)
      + kept.model_dim * cfg.model_dim
      + kept.heads * heads
      + kept.kv_heads * kv_heads
  )
  return int(length * token + kept.scores * _scores(model, length))


def _scores(model: memory.Model, length: int) -> int:
  """Bytes of a layer's attention scores, of one row."""
  heads = model.part(model.cfg.num_heads)
  if not model.on_cpu:
    return heads * length * length * memory.FLOAT
  # In causal blocks, all of which XLA may compute at once.
  return heads * _block_scores(length) * memory.FLOAT


def _block_scores(length: int) -> int:
  """Pairs of a query and a key in all causal blocks (see `attention`)."""
  count = min(_MOST_BLOCKS, math.ceil(length / _BLOCK))
  return length * length * (count + 1) // (2 * count)


def _copies(model: memory.Model) -> int:
  """On CPU a map of attention is there twice, the second transposed."""
  if not model.on_cpu:
    return 0
  cfg = model.cfg
  heads = model.part(cfg.num_heads) * cfg.head_dim
  return cfg.num_layers * cfg.model_dim * heads * model.itemsize


def _copies_of_a_layer(model: memory.Model) -> int:
  """On CPU all maps of attention, in one layer at a time."""
  if not model.on_cpu:
    return 0
  cfg = model.cfg
  heads = model.part(cfg.num_heads) + model.part(cfg.num_kv_heads)
  return 2 * cfg.model_dim * heads * cfg.head_dim * model.itemsize


def _widened_head(model: memory.Model) -> int:
  if not model.widens:
    return 0
  vocab = model.part(model.cfg.vocab_size)
  return vocab * model.cfg.model_dim * memory.FLOAT


def _gathered(model: memory.Model) -> int:
  """Layers whose parts are brought together: one in use, one on its way."""
  if model.mesh.shape['fsdp'] == 1:
    return 0
  return 2 * _layer(model) * model.itemsize


def _layer(model: memory.Model) -> int:
  """Parameters of a layer that a device computes with."""
  one = dataclasses.replace(model.cfg, num_layers=1)
  layer = decoder.abstract(one, model.dtype)['layers'][0]
  whole = sum(math.prod(x.shape) for x in jax.tree.leaves(layer))
  return whole // model.tensor
