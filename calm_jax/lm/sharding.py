"""The mesh, and one table that says how arrays lie on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import functools
import math
import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

from calm_jax import console

AXES = ('data', 'fsdp', 'tensor')

# Path of a parameter -> its axes; below `lora` and `opt_state` too. The first
# match wins; a parameter without a rule is an error. A dimension that its axis
# does not divide stays whole on every device (8 kv heads on 16 tensor devices,
# say). Norms and counts are too small to be worth a message.
_BASE, _LORA = r'layers/\d+/', r'(.+/)?layers/\d+/'
SHARDING = (
    (r'embed_VD', P('tensor', 'fsdp')),
    (r'head_DV', P(None, ('tensor', 'fsdp'))),
    (_BASE + r'attn/(q_DNH|k_DKH|v_DKH)', P('fsdp', 'tensor', None)),
    (_BASE + r'attn/o_NHD', P('tensor', None, 'fsdp')),
    (_BASE + r'attn/[qkv]_bias_[NK]H', P('tensor', None)),
    (_BASE + r'ffn/(gate|up)_DF', P('fsdp', 'tensor')),
    (_BASE + r'ffn/down_FD', P('tensor', 'fsdp')),
    (r'(layers/\d+/(attn|ffn)_)?norm_D', P(None)),
    # An adapter's factors lie as the weight whose input or output they share.
    (_LORA + r'(q|k|v|gate|up)_proj/a', P('fsdp', None)),
    (_LORA + r'o_proj/a', P('tensor', None, None)),
    (_LORA + r'down_proj/a', P('tensor', None)),
    (_LORA + r'[qkv]_proj/b', P(None, 'tensor', None)),
    (_LORA + r'(gate|up)_proj/b', P(None, 'tensor')),
    (_LORA + r'(o|down)_proj/b', P(None, 'fsdp')),
    (r'(.+/)?(step|count)', P()),
)

# Rows of a batch, which pmap would spread over its devices.
_ROWS = ('data', 'fsdp')

# Dimension -> its axes while it is computed with, by the letter in its name.
# With many tokens every device has rows of its own, and the parts of a weight
# are brought together for a layer at a time.
TOKENS: Mapping[str, Any] = {
    'B': _ROWS,
    'N': 'tensor',
    'K': 'tensor',
    'F': 'tensor',
}
# With one token a row the weights would be far more to send than what is
# computed from them: they stay where they are, and the model's width is split.
TOKEN: Mapping[str, Any] = {**TOKENS, 'B': 'data', 'D': 'fsdp'}
# Fewer hidden states are asked about the vocabulary than it has words.
LOGITS: Mapping[str, Any] = {'B': 'data', 'V': ('tensor', 'fsdp')}
# Draws need whole rows of logits, and nothing of each other.
DRAWS: Mapping[str, Any] = {'B': (*_ROWS, 'tensor')}


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
  sizes = _sizes(data, fsdp, tensor, len(devices))
  # Explicit axes, the default, reject plain gathers and updates.
  kinds = (AxisType.Auto,) * len(AXES)
  return jax.make_mesh(sizes, AXES, axis_types=kinds, devices=devices)


def make_local_mesh(data: int, fsdp: int, tensor: int) -> Mesh:
  """This process's part of a mesh, for programs of its own.

  It has whole copies of the weights: where `fsdp` spreads one over several
  processes, it is spread over this one's devices alone.

  Raises:
    ValueError: `tensor` needs devices of several; or as in make_mesh.
  """
  _, fsdp, tensor = _sizes(data, fsdp, tensor, jax.device_count())
  devices = jax.local_devices()
  if len(devices) % tensor:
    raise ValueError(
        f'mesh tensor={tensor} spreads layers over several processes, but each'
        f' samples on its own {len(devices)} devices, which tensor must divide:'
        ' lower mesh.tensor, and raise mesh.fsdp for models that are too large'
    )
  own = math.gcd(fsdp, len(devices) // tensor)
  if own < fsdp:
    console.say(f'  each process samples alone: mesh fsdp={own}, not {fsdp}')
  return make_mesh(-1, own, tensor, devices=devices)


def _sizes(
    data: int, fsdp: int, tensor: int, count: int
) -> tuple[int, int, int]:
  """The sizes with -1 filled in, for `count` devices."""
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
  return sizes[0], sizes[1], sizes[2]


def rows(mesh: Mesh) -> int:
  """How many parts a batch is split into."""
  return math.prod(mesh.shape[axis] for axis in _ROWS)


def spec(path: str) -> P:
  """The axes of the parameter at `path` ('layers/0/attn/q_DNH')."""
  for pattern, axes in SHARDING:
    if re.fullmatch(pattern, path):
      return axes
  raise ValueError(f'no sharding rule for the parameter {path!r}')


def place(mesh: Mesh) -> Callable[[str, Any], jax.Array]:
  """A function that puts a parameter where the table says."""

  def put(path: str, array: Any) -> jax.Array:
    return _put(mesh, _fit(mesh, spec(path), np.shape(array)), array)

  return put


def place_tree(mesh: Mesh, tree: Any) -> Any:
  """Parameters, factors or a training state, put where the table says."""
  return jax.tree.map(lambda x, s: _put(mesh, s.spec, x), tree, of(mesh, tree))


def of(mesh: Mesh, tree: Any) -> Any:
  """The sharding of every parameter of a tree; `tree` may be abstract."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: NamedSharding(mesh, _axes(mesh, path, x)), tree
  )


def place_batch(mesh: Mesh, batch: Any, *, axis: int = 0) -> Any:
  """A batch of numpy arrays with its rows, at `axis`, over the devices."""
  axes = P(*(None,) * axis, _ROWS)
  return jax.tree.map(lambda x: _put(mesh, axes, x), batch)


def replicate(mesh: Mesh, tree: Any) -> Any:
  """A tree whose arrays are whole on every device."""
  return jax.tree.map(lambda x: _put(mesh, P(), x), tree)


def fetch(tree: Any) -> Any:
  """Whole numpy arrays of a tree; of several processes all must call it."""

  def whole(x: Any) -> np.ndarray:
    if not (x.is_fully_addressable or x.is_fully_replicated):
      everywhere = NamedSharding(x.sharding.mesh, P())
      x = jax.jit(lambda x: x, out_shardings=everywhere)(x)
    return np.asarray(x)

  return jax.tree.map(whole, tree)


def on(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
  """`function` for `jax.jit`, in which `split` and `lay` know the mesh.

  On a mesh of one device they do nothing.
  """
  if mesh.size == 1:
    return function

  @functools.wraps(function)
  def traced(*args):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args)

  return traced


def split(
    x: jax.Array, dims: str, table: Mapping[str, Any] = TOKENS
) -> jax.Array:
  """An array of a program, laid out by its dimensions' letters ('BTNH')."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  return jax.lax.with_sharding_constraint(x, _letters(mesh, x, dims, table))


def splits(axis: str) -> bool:
  """Whether this axis has several devices, for the program being traced."""
  mesh = jax.sharding.get_abstract_mesh()
  return not mesh.empty and mesh.shape[axis] > 1


def each_time(params: Any, x: Any) -> tuple[Any, Any]:
  """Parameters and what changes in a loop, for the body of that loop.

  Else XLA brings the parts of all weights together once, before it.
  """
  if not splits('fsdp'):
    return params, x
  params, x = jax.lax.optimization_barrier((params, x))
  # Told again, or the parts would be brought together in front of the barrier.
  return lay(params), x


def pin(mesh: Mesh, x: jax.Array, dims: str) -> jax.Array:
  """`split` for what a program makes of nothing: names the devices too."""
  axes = _letters(mesh, x, dims, TOKENS)
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, axes))


def lay(tree: Any) -> Any:
  """Parameters inside a program, laid out as the table says."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return tree
  return jax.tree_util.tree_map_with_path(
      lambda path, x: jax.lax.with_sharding_constraint(x, _axes(mesh, path, x)),
      tree,
  )


def whole(tree: Any) -> Any:
  """Arrays inside a program, whole on every device."""
  if jax.sharding.get_abstract_mesh().empty:
    return tree
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, P()), tree)


def _letters(mesh: Any, x, dims: str, table: Mapping[str, Any]) -> P:
  return _fit(mesh, P(*(table.get(letter) for letter in dims)), x.shape)


def _axes(mesh: Any, path: Any, array: Any) -> P:
  name = jax.tree_util.keystr(path, simple=True, separator='/')
  return _fit(mesh, spec(name), np.shape(array))


def _put(mesh: Mesh, axes: P, array: Any) -> jax.Array:
  # Each process hands over only what its own devices hold.
  array = np.asarray(array)
  sharding = NamedSharding(mesh, axes)
  return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
  )


def _fit(mesh: Any, axes: P, shape: tuple[int, ...]) -> P:
  """`axes`, but for those that do not divide their dimension."""
  return P(*(_divisors(mesh, *x) for x in zip(axes, shape, strict=True)))


def _divisors(mesh: Any, axes: Any, size: int) -> Any:
  """The first of the axes, as many as divide `size` together."""
  names = (axes,) if isinstance(axes, str) else axes or ()
  kept = 0
  for i in range(1, len(names) + 1):
    if size % math.prod(mesh.shape[name] for name in names[:i]) == 0:
      kept = i
  return axes if kept == len(names) else names[:kept] or None
