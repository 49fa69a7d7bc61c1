"""Weights of Hugging Face folders into our tree and back, strict both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import json
import math
import os
import pathlib
import re
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from calm_jax import records
from calm_jax.lm import config, decoder, shards

CONFIG = 'config.json'

# Puts a parameter, named by its path ('layers/0/attn/q_DNH'), on its devices.
Place = Callable[[str, np.ndarray], jax.Array]

# By path.
_Shapes = Mapping[str, tuple[int, ...]]


class _Home(NamedTuple):
  """Where a tensor goes in our tree.

  Hugging Face keeps a map as [outputs, inputs], both flat; `inputs` counts the
  leading dimensions of ours that are inputs (0: a bias). None: no map, and
  kept as it is.
  """

  path: str
  inputs: int | None


_TOP = {
    'model.embed_tokens.weight': _Home('embed_VD', None),
    'model.norm.weight': _Home('norm_D', None),
    'lm_head.weight': _Home('head_DV', 1),
}
_LAYER = {
    'input_layernorm.weight': _Home('attn_norm_D', None),
    'self_attn.q_proj.weight': _Home('attn/q_DNH', 1),
    'self_attn.k_proj.weight': _Home('attn/k_DKH', 1),
    'self_attn.v_proj.weight': _Home('attn/v_DKH', 1),
    'self_attn.q_proj.bias': _Home('attn/q_bias_NH', 0),
    'self_attn.k_proj.bias': _Home('attn/k_bias_KH', 0),
    'self_attn.v_proj.bias': _Home('attn/v_bias_KH', 0),
    'self_attn.o_proj.weight': _Home('attn/o_NHD', 2),
    'post_attention_layernorm.weight': _Home('ffn_norm_D', None),
    'mlp.gate_proj.weight': _Home('ffn/gate_DF', 1),
    'mlp.up_proj.weight': _Home('ffn/up_DF', 1),
    'mlp.down_proj.weight': _Home('ffn/down_FD', 1),
}

# Tensors of some files that say nothing new.
_HARMLESS = r'model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq'
_HARMLESS_IF_TIED = _HARMLESS + r'|lm_head\.weight'


def read_config(folder: pathlib.Path) -> decoder.DecoderConfig:
  """The decoder that the folder's config.json describes.

  Raises:
    ValueError: there is none, or it is not one that the decoder computes.
  """
  path = folder / CONFIG
  return config.from_json(shards.read_json(path), path)


def load(
    folder: pathlib.Path,
    cfg: decoder.DecoderConfig,
    *,
    dtype: Any,
    place: Place | None = None,
) -> decoder.Params:
  """Reads the parameters, holding one tensor at a time in host memory.

  All files are checked before a tensor is read. `place` is given each
  parameter in `dtype`.

  Raises:
    ValueError: tensors are missing, unexpected, or of a wrong shape or type.
  """
  shapes = _shapes(cfg)
  homes = _homes(cfg, shapes)
  files = shards.files(folder)
  _check(folder, files, homes, shapes, tied=cfg.tied)
  params: decoder.Params = {}
  for name, array in _read(files, homes):
    path, inputs = homes[name]
    array = array.astype(jnp.dtype(dtype), copy=False)
    if inputs:
      array = _transpose(array)
    array = array.reshape(shapes[path])
    _insert(params, path, place(path, array) if place else jnp.asarray(array))
  return params


def count(cfg: decoder.DecoderConfig) -> int:
  """How many tensors `load` places."""
  return len(_shapes(cfg))


def save(
    folder: pathlib.Path,
    cfg: decoder.DecoderConfig,
    params: decoder.Params,
    *,
    base_config: Mapping[str, Any] | None = None,
    shard_bytes: int = 5_000_000_000,
) -> None:
  """Writes config.json and weights that transformers and `load` read.

  `base_config` is the config.json to keep, which must describe `cfg`. One
  tensor at a time is in host memory; `folder` appears when it is complete.

  Raises:
    ValueError: `folder` exists, or `base_config` is of another model.
  """
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(f'{folder} exists; remove it or choose another folder')
  values = dict(config.to_json(cfg) if base_config is None else base_config)
  if config.from_json(values, folder / CONFIG) != cfg:
    raise ValueError(f'{folder / CONFIG}: base_config is not of this model')
  # transformers 5 calls it dtype, and reads the older name too.
  values.pop('dtype', None)
  values['torch_dtype'] = str(params['embed_VD'].dtype)
  tmp = folder.with_name(f'.{folder.name}.tmp')
  shutil.rmtree(tmp, ignore_errors=True)
  tmp.mkdir(parents=True)
  shards.write(tmp, _tensors(cfg, params), shard_bytes=shard_bytes)
  text = json.dumps(values, indent=2, ensure_ascii=False)
  records.write_text(tmp / CONFIG, text + '\n')
  os.replace(tmp, folder)


def _homes(cfg: decoder.DecoderConfig, shapes: _Shapes) -> dict[str, _Home]:
  """Hugging Face's names of exactly this model's tensors."""
  every = dict(_TOP)
  for i in range(cfg.num_layers):
    for name, home in _LAYER.items():
      path = f'layers/{i}/{home.path}'
      every[f'model.layers.{i}.{name}'] = home._replace(path=path)
  homes = {name: home for name, home in every.items() if home.path in shapes}
  if lost := shapes.keys() - {home.path for home in homes.values()}:
    raise AssertionError(f'the table lacks {shards.some(lost)}')
  return homes


@functools.lru_cache(maxsize=8)
def _shapes(cfg: decoder.DecoderConfig) -> _Shapes:
  abstract = _flatten(decoder.abstract(cfg, jnp.float32))
  return {path: leaf.shape for path, leaf in abstract.items()}


def _check(
    folder: pathlib.Path,
    files: Sequence[pathlib.Path],
    homes: Mapping[str, _Home],
    shapes: _Shapes,
    *,
    tied: bool,
) -> None:
  """Compares names, shapes and types with what the model needs."""
  found = {
      name: (path, *entry)
      for path in files
      for name, entry in shards.header(path).items()
  }
  harmless = _HARMLESS_IF_TIED if tied else _HARMLESS
  unexpected = {
      name
      for name in found.keys() - homes.keys()
      if not re.fullmatch(harmless, name)
  }
  for problem, names in (
      ('lacks', homes.keys() - found.keys()),
      ('has unexpected', unexpected),
  ):
    if names:
      raise ValueError(
          f'{folder}: {problem} {len(names)} tensors, by its {CONFIG}:'
          f' {shards.some(names)}'
      )
  for name, home in homes.items():
    path, shape, kind = found[name]
    wanted = _theirs(home.inputs, shapes[home.path])
    if shape != wanted:
      raise ValueError(
          f'{path}: {name} has shape {shape}; by {CONFIG} it has {wanted}'
      )
    if kind not in shards.DTYPES:
      raise ValueError(
          f'{path}: {name} is {kind}; known: {sorted(shards.DTYPES)}. Load the'
          ' model that this was quantised from'
      )


def _read(
    files: Sequence[pathlib.Path], homes: Mapping[str, _Home]
) -> Iterator[tuple[str, np.ndarray]]:
  for path in files:
    with safetensors.safe_open(path, 'numpy') as tensors:
      for name in tensors.keys():
        if name in homes:
          yield name, tensors.get_tensor(name)


def _tensors(
    cfg: decoder.DecoderConfig, params: decoder.Params
) -> Iterator[shards.Tensor]:
  leaves = _flatten(params)
  for name, (path, inputs) in _homes(cfg, _shapes(cfg)).items():
    leaf = leaves[path]
    shape = _theirs(inputs, leaf.shape)

    def read(leaf=leaf, inputs=inputs, shape=shape) -> np.ndarray:
      array = np.asarray(leaf)
      if inputs:
        array = _transpose(array.reshape(shape[::-1]))
      return array.reshape(shape)

    yield shards.Tensor(name, np.dtype(leaf.dtype), shape, read)


def _theirs(inputs: int | None, shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape that Hugging Face gives a tensor of ours."""
  if inputs is None:
    return shape
  outs, ins = math.prod(shape[inputs:]), math.prod(shape[:inputs])
  return (outs, ins) if inputs else (outs,)


def _transpose(array: np.ndarray) -> np.ndarray:
  # By blocks of rows: numpy's own copy is five times slower on big matrices.
  result = np.empty(array.shape[::-1], array.dtype)
  for start in range(0, array.shape[0], 16):
    result[:, start : start + 16] = array[start : start + 16].T
  return result


def _flatten(params: decoder.Params) -> dict[str, Any]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(params)
  return {
      jax.tree_util.keystr(path, simple=True, separator='/'): leaf
      for path, leaf in leaves
  }


def _insert(params: decoder.Params, path: str, leaf: jax.Array) -> None:
  *parents, last = path.split('/')
  for key in parents:
    params = params.setdefault(int(key) if key.isdigit() else key, {})
  params[last] = leaf
