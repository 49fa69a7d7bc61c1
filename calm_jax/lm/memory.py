"""How much memory of a device a job takes, known before anything is compiled.

What programs are given is counted array by array, under the sharding table.
What they keep beside it is counted as their formulas say (C is a chunk of
completion positions, letters as in `decoder`); the constants were read off
programs that XLA compiled (docs/benchmarks/memory.md).
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from calm_jax.lm import decoder, sharding
from calm_jax.lm import lora as lora_lib

_FLOAT = 4  # bytes of a float32, in which logits, scores and sums are
_GIB = 2**30

# Whole [B, V] arrays that drawing a token needs at once, and [B, C, V] arrays
# that a chunk's scores and their gradient need.
_LOGITS, _CHUNK_LOGITS = 3, 2
# Of queries, on CPU.
_BLOCK, _MOST_BLOCKS = 64, 6
# Numbers that a slot is described by, beside its tokens.
_SLOT = 32
# Copies of a block's scores [B, N, T, S] that exist at once in a forward pass.
_SCORES = 2


class _Kept(NamedTuple):
  """Bytes of a token and layer that training keeps, by what they belong to.

  Each but the last for an element of the model's dimension of that name;
  `scores` is a number of float32 arrays.
  """

  ffn_dim: int
  model_dim: int
  heads: int
  kv_heads: int
  scores: float


_KEPT = {
    # Gate and up; the inputs of both halves, and the first one normed; queries,
    # keys and values, the last two also turned round; what attention gives.
    'float32 on CPU': _Kept(8, 12, 12, 12, 1.25),
    'bfloat16 on CPU': _Kept(4, 6, 6, 6, 1.9),
    'float32': _Kept(8, 12, 4, 8, 1.0),
    'bfloat16': _Kept(4, 6, 2, 4, 1.0),
}


@dataclasses.dataclass(frozen=True)
class Need:
  """Bytes of one device, part by part."""

  parts: tuple[tuple[str, int], ...]

  @classmethod
  def of(cls, parts: dict[str, int]) -> Need:
    return cls(tuple(parts.items()))

  @property
  def total(self) -> int:
    return sum(size for _, size in self.parts)

  @property
  def weights(self) -> int:
    """What is there before the first program runs."""
    return dict(self.parts)['weights']

  def __str__(self) -> str:
    parts = ', '.join(f'{name} {gib(size)}' for name, size in self.parts)
    return f'{gib(self.total)} GiB ({parts})'


class Model(NamedTuple):
  """A decoder as it lies on a mesh."""

  cfg: decoder.DecoderConfig
  dtype: Any
  mesh: Mesh

  @property
  def on_cpu(self) -> bool:
    # As the programs themselves ask.
    return jax.default_backend() == 'cpu'

  @property
  def itemsize(self) -> int:
    return jnp.dtype(self.dtype).itemsize

  @property
  def tensor(self) -> int:
    return self.mesh.shape['tensor']

  @property
  def kind(self) -> str:
    return f'{jnp.dtype(self.dtype).name}{" on CPU" if self.on_cpu else ""}'

  @property
  def widens(self) -> bool:
    """Whether XLA computes in float32 what is in bfloat16."""
    return self.on_cpu and self.itemsize < _FLOAT


class Sampling(NamedTuple):
  """What `sampler.run` holds at once, over all devices."""

  slots: int
  length: int  # positions of the cache
  max_new_tokens: int
  prompts: int  # that are prefilled together
  width: int  # of the longest of them, with padding


class Training(NamedTuple):
  """A step over micro-batches of `rows` rows, over all devices."""

  rows: int
  eval_rows: int
  length: int  # tokens of a row
  completion: int  # tokens of it whose logits count
  chunk: int
  remat: bool


def gib(size: float) -> str:
  return f'{size / _GIB:.2f}'


def tree_bytes(mesh: Mesh, tree: Any) -> int:
  """Bytes of a device for parameters, factors or a training state."""
  sizes = jax.tree.map(
      lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize,
      tree,
      sharding.of(mesh, tree),
  )
  return sum(jax.tree.leaves(sizes))


def sampling(model: Model, job: Sampling, *, lora: Any = None) -> Need:
  """What drawing answers takes; `lora` are the adapter's factors, if any."""
  return _most(sampling_programs(model, job, lora=lora))


def sampling_programs(
    model: Model, job: Sampling, *, lora: Any = None
) -> dict[str, Need]:
  """The same of each program; they run in turns."""
  cfg = model.cfg
  rows = math.ceil(job.slots / sharding.rows(model.mesh))
  kv_heads = _part(cfg.num_kv_heads, model.tensor)
  entry = 2 * kv_heads * cfg.head_dim * cfg.num_layers
  # The float32 cache of CPUs: see `steps`.
  itemsize = _FLOAT if model.on_cpu else model.itemsize
  lasting = {
      'weights': _weights(model, lora),
      'KV cache': rows * job.length * entry * itemsize,
      'answers': rows * (job.max_new_tokens + _SLOT) * _FLOAT,
  }
  decoding = {'decoding': _decoding(model, job)}
  if jax.default_backend() == 'tpu':
    # Its compiler lays the cache out anew inside the loop.
    decoding['copy of the cache'] = lasting['KV cache']
  return {
      'decoding': Need.of(lasting | decoding),
      'prefill': Need.of(lasting | {'prefill': _prefill(model, job)}),
  }


def training(model: Model, job: Training, *, lora: lora_lib.LoraConfig) -> Need:
  """What a training step, validation and the reference pass take."""
  return _most(training_programs(model, job, lora=lora))


def training_programs(
    model: Model, job: Training, *, lora: lora_lib.LoraConfig
) -> dict[str, Need]:
  """The same of each program; they run in turns."""
  factors = jax.eval_shape(
      lambda: lora_lib.init(model.cfg, lora, jax.random.key(0))
  )
  adapter = tree_bytes(model.mesh, factors)
  lasting = {
      'weights': _weights(model, None),
      'adapter and Adam': 3 * adapter,
  }
  gradients = {'gradients': 3 * adapter}
  return {
      'step': Need.of(lasting | gradients | _step(model, job)),
      'forward': Need.of(lasting | {'forward pass': _forward(model, job)}),
  }


def largest(fits: Callable[[int], bool], *, most: int) -> int:
  """The largest number up to `most` that fits; 0 where 1 does not."""
  low, high = 0, most
  while low < high:
    middle = (low + high + 1) // 2
    if fits(middle):
      low = middle
    else:
      high = middle - 1
  return low


def _most(programs: dict[str, Need]) -> Need:
  return max(programs.values(), key=lambda need: need.total)


def _weights(model: Model, lora: Any) -> int:
  params = decoder.abstract(model.cfg, model.dtype)
  size = tree_bytes(model.mesh, params)
  return size + (tree_bytes(model.mesh, lora) if lora else 0)


def _decoding(model: Model, job: Sampling) -> int:
  """A step for every slot, beside the cache: logits, or a layer's scores."""
  cfg, mesh = model.cfg, model.mesh
  rows = math.ceil(job.slots / sharding.rows(mesh))
  heads = _part(cfg.num_heads, model.tensor)
  logits = _LOGITS * math.ceil(job.slots / mesh.size) * cfg.vocab_size * _FLOAT
  if mesh.size > 1:  # as they come from the projection
    vocab = _part(cfg.vocab_size, model.tensor)
    logits += math.ceil(job.slots / mesh.shape['data']) * vocab * _FLOAT
  scores = _SCORES * rows * heads * job.length * _FLOAT
  scores += _copies(model)
  return max(logits, scores) + _widened_head(model)


def _prefill(model: Model, job: Sampling) -> int:
  """The widest layer of all prompts at once, or its scores."""
  prompts = math.ceil(job.prompts / sharding.rows(model.mesh))
  work = max(
      prompts * job.width * _layer_work(model),
      _SCORES * prompts * _scores(model, job.width),
  )
  return work + _copies(model) + _gathered(model)


def _step(model: Model, job: Training) -> dict[str, int]:
  rows = math.ceil(job.rows / sharding.rows(model.mesh))
  layers = model.cfg.num_layers
  layer = rows * _kept(model, job.length)
  if job.remat:
    extra = _copies(model, all_maps=True)
  else:
    extra = _widened_layers(model) or _copies(model)
  extra += _widened_head(model) + _gathered(model)
  logits = rows * _chunk_logits(model, job)
  if not job.remat:
    return {
        'activations': layers * layer,
        'logits or gradients of a layer': max(logits, layer // 2),
        'copies': extra,
    }
  boundary = rows * job.length * model.cfg.model_dim
  return {
      'activations': 2 * layers * boundary * model.itemsize,
      'logits or a layer': max(logits, 5 * layer // 4),
      'copies': extra,
  }


def _forward(model: Model, job: Training) -> int:
  """Nothing is kept: logits, or the widest layer."""
  rows = math.ceil(job.eval_rows / sharding.rows(model.mesh))
  work = max(
      rows * _chunk_logits(model, job),
      rows * job.length * _layer_work(model),
      _SCORES * rows * _scores(model, job.length),
  )
  return work + _copies(model) + _widened_head(model) + _gathered(model)


def _layer_work(model: Model) -> int:
  """Bytes of a token where a layer is widest, nothing being kept."""
  wide = 3 * _part(model.cfg.ffn_dim, model.tensor)
  if model.on_cpu:
    return wide * _FLOAT
  return (wide + 3 * model.cfg.model_dim) * model.itemsize


def _chunk_logits(model: Model, job: Training) -> int:
  chunks = math.ceil(job.completion / job.chunk)
  width = math.ceil(job.completion / chunks)
  vocab = _part(model.cfg.vocab_size, model.tensor)
  return _CHUNK_LOGITS * width * vocab * _FLOAT


def _kept(model: Model, length: int) -> int:
  """Bytes that the backward pass finds of a layer and a row."""
  cfg, kept = model.cfg, _KEPT[model.kind]
  heads = _part(cfg.num_heads, model.tensor) * cfg.head_dim
  kv_heads = _part(cfg.num_kv_heads, model.tensor) * cfg.head_dim
  token = (
      kept.ffn_dim * _part(cfg.ffn_dim, model.tensor)
      + kept.model_dim * cfg.model_dim
      + kept.heads * heads
      + kept.kv_heads * kv_heads
  )
  return length * token + int(kept.scores * _scores(model, length))


def _scores(model: Model, length: int) -> int:
  """Bytes of a layer's attention scores, of one row."""
  heads = _part(model.cfg.num_heads, model.tensor)
  if not model.on_cpu:
    return heads * length * length * _FLOAT
  # In causal blocks, all of which XLA may compute at once.
  return heads * _block_scores(length) * _FLOAT


def _block_scores(length: int) -> int:
  """Pairs of a query and a key in all causal blocks (see `attention`)."""
  count = min(_MOST_BLOCKS, math.ceil(length / _BLOCK))
  return length * length * (count + 1) // (2 * count)


def _copies(model: Model, *, all_maps: bool = False) -> int:
  """On CPU some maps of attention are there twice, the second transposed."""
  if not model.on_cpu:
    return 0
  cfg = model.cfg
  heads = _part(cfg.num_heads, model.tensor) * cfg.head_dim
  if all_maps:
    kv_heads = _part(cfg.num_kv_heads, model.tensor) * cfg.head_dim
    heads = 2 * (heads + kv_heads)
  return cfg.num_layers * cfg.model_dim * heads * model.itemsize


def _widened_head(model: Model) -> int:
  if not model.widens:
    return 0
  vocab = _part(model.cfg.vocab_size, model.tensor)
  return vocab * model.cfg.model_dim * _FLOAT


def _widened_layers(model: Model) -> int:
  return _layer(model) * model.cfg.num_layers * _FLOAT if model.widens else 0


def _gathered(model: Model) -> int:
  """Layers whose parts are brought together: one in use, one on its way."""
  if model.mesh.shape['fsdp'] == 1:
    return 0
  return 2 * _layer(model) * model.itemsize


def _layer(model: Model) -> int:
  """Parameters of a layer that a device computes with."""
  one = dataclasses.replace(model.cfg, num_layers=1)
  layer = decoder.abstract(one, model.dtype)['layers'][0]
  whole = sum(math.prod(x.shape) for x in jax.tree.leaves(layer))
  return whole // model.tensor


def _part(size: int, parts: int) -> int:
  """Of a dimension over devices; whole where they do not divide it."""
  return size if size % parts else size // parts
