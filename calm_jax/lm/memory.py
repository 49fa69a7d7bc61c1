"""What a job is, and the memory of a device that it takes: names for both.

`planner` counts it, before anything is compiled.
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

FLOAT = 4  # bytes of a float32, in which logits, scores and sums are
# A part of some needs: what XLA's compiler does not count.
PACKING = 'packing'
_GIB = 2**30


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

  def part(self, size: int) -> int:
    """Of a dimension over devices; whole where they do not divide it."""
    return size if size % self.tensor else size // self.tensor

  @property
  def kind(self) -> str:
    return f'{jnp.dtype(self.dtype).name}{" on CPU" if self.on_cpu else ""}'

  @property
  def widens(self) -> bool:
    """Whether XLA computes in float32 what is in bfloat16."""
    return self.on_cpu and self.itemsize < FLOAT


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
  length: int  # tokens of a sequence
  completion: int  # tokens of it whose logits count
  chunk: int
  remat: bool
  sequences: int = 1  # of a row


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
