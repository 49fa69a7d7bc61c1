"""The mesh, and one table that says how arrays lie on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

AXES = ('data', 'fsdp', 'tensor')

# Path of a base parameter -> its axes. The first match wins; a parameter
# without a rule is an error. A dimension that its axis does not divide stays
# whole on every device (8 kv heads on 16 tensor devices, say).
SHARDING = (
    (r'embed_VD', P('tensor', 'fsdp')),
    (r'head_DV', P('fsdp', 'tensor')),
    (r'layers/\d+/attn/(q_DNH|k_DKH|v_DKH)', P('fsdp', 'tensor', None)),
    (r'layers/\d+/attn/o_NHD', P('tensor', None, 'fsdp')),
    (r'layers/\d+/attn/[qkv]_bias_[NK]H', P('tensor', None)),
    (r'layers/\d+/ffn/(gate|up)_DF', P('fsdp', 'tensor')),
    (r'layers/\d+/ffn/down_FD', P('tensor', 'fsdp')),
    (r'(layers/\d+/(attn|ffn)_)?norm_D', P(None)),
)

# Rows of a batch, which pmap would spread over its devices.
_ROWS = ('data', 'fsdp')


def make_mesh(
    data: int,
    fsdp: int,
    tensor: int,
    *,
    devices: Sequence[Any] | None = None,
) -> Mesh:
  """A mesh of the given sizes over all devices; -1 takes what is left.

  Raises:
    ValueError: the sizes do not use every device exactly once.
  """
  devices = jax.devices() if devices is None else list(devices)
  count = len(devices)
  sizes = [data, fsdp, tensor]
  fixed = math.prod(size for size in sizes if size != -1)
  if sizes.count(-1) == 1 and fixed and count % fixed == 0:
    sizes[sizes.index(-1)] = count // fixed
  if math.prod(sizes) != count or min(sizes) < 1:
    raise ValueError(
        f'mesh data={data} fsdp={fsdp} tensor={tensor} does not fit the'
        f' {count} devices here: the product must be {count}, and one size may'
        ' be -1 (all that are left)'
    )
  # Explicit axes, the default, reject plain gathers and updates.
  kinds = (AxisType.Auto,) * len(AXES)
  return jax.make_mesh(tuple(sizes), AXES, axis_types=kinds, devices=devices)


def rows(mesh: Mesh) -> int:
  """How many parts a batch is split into."""
  return math.prod(mesh.shape[axis] for axis in _ROWS)


def spec(path: str) -> P:
  """The axes of the base parameter at `path` ('layers/0/attn/q_DNH')."""
  for pattern, axes in SHARDING:
    if re.fullmatch(pattern, path):
      return axes
  raise ValueError(f'no sharding rule for the parameter {path!r}')


def place(mesh: Mesh) -> Callable[[str, Any], jax.Array]:
  """A function that puts a base parameter where the table says."""

  def put(path: str, array: Any) -> jax.Array:
    return _put(mesh, _fit(mesh, spec(path), np.shape(array)), array)

  return put


def place_batch(mesh: Mesh, batch: Any, *, axis: int = 0) -> Any:
  """A batch of numpy arrays with its rows, at `axis`, over the devices."""
  axes = P(*(None,) * axis, _ROWS)
  return jax.tree.map(lambda x: _put(mesh, axes, x), batch)


def replicate(mesh: Mesh, tree: Any) -> Any:
  """A tree whose arrays are whole on every device."""
  return jax.tree.map(lambda x: _put(mesh, P(), x), tree)


def _put(mesh: Mesh, axes: P, array: Any) -> jax.Array:
  # Each process hands over only what its own devices hold.
  array = np.asarray(array)
  sharding = NamedSharding(mesh, axes)
  return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
  )


def _fit(mesh: Mesh, axes: P, shape: tuple[int, ...]) -> P:
  fits = (
      axis if axis is None or size % mesh.shape[axis] == 0 else None
      for axis, size in zip(axes, shape, strict=True)
  )
  return P(*fits)
