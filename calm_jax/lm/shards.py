"""The safetensors files of a Hugging Face folder: one, or several and an index.

Pickled weights are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import json
import math
import os
import pathlib
import re
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from calm_jax import records

SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'

DTYPES = {
    'F32': np.dtype(np.float32),
    'F16': np.dtype(np.float16),
    'BF16': np.dtype(ml_dtypes.bfloat16),
}

_PLAIN_NAME = r'[\w-][\w.-]*\.safetensors'
_PICKLE = (
    'Weights are read from safetensors only, never from pickles'
    ' (pytorch_model.bin). Convert them once, where torch is installed:'
    ' transformers.AutoModelForCausalLM.from_pretrained(OLD)'
    '.save_pretrained(NEW)'
)


class Tensor(NamedTuple):
  """A tensor to write; `read` fetches it when its turn comes."""

  name: str
  dtype: np.dtype
  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]

  @property
  def nbytes(self) -> int:
    return self.dtype.itemsize * math.prod(self.shape)


def files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The folder's weight files; those of an index are checked against it.

  Raises:
    ValueError: there are none, or the index and the files disagree.
  """
  if (folder / SINGLE).is_file():
    return [folder / SINGLE]
  path = folder / INDEX
  if not path.is_file():
    raise ValueError(f'{folder}: has neither {SINGLE} nor {INDEX}. {_PICKLE}')
  names_by_file = _names_by_file(path)
  for file, names in names_by_file.items():
    if not (folder / file).is_file():
      raise ValueError(
          f'{folder}: lacks {file}, which {INDEX} lists; download it again'
      )
    if odd := names ^ header(folder / file).keys():
      raise ValueError(
          f'{path}: disagrees with {file} on {len(odd)} tensors: {some(odd)}'
      )
  return [folder / file for file in names_by_file]


def header(path: pathlib.Path) -> dict[str, tuple[tuple[int, ...], str]]:
  """Shape and type of each tensor of a file."""
  try:
    with safetensors.safe_open(path, 'numpy') as tensors:
      slices = {name: tensors.get_slice(name) for name in tensors.keys()}
      return {
          name: (tuple(s.get_shape()), s.get_dtype())
          for name, s in slices.items()
      }
  except safetensors.SafetensorError as e:
    raise ValueError(
        f'{path}: not a whole safetensors file ({e}); download it again'
    ) from e


def write(
    folder: pathlib.Path, tensors: Iterable[Tensor], *, shard_bytes: int
) -> None:
  """Writes one file, or files of at most `shard_bytes` and their index."""
  shards = _split(tensors, shard_bytes)
  if len(shards) == 1:
    _write_file(folder / SINGLE, shards[0])
    return
  weight_map = {}
  for i, shard in enumerate(shards, 1):
    file = f'model-{i:05d}-of-{len(shards):05d}.safetensors'
    _write_file(folder / file, shard)
    weight_map |= {tensor.name: file for tensor in shard}
  total = sum(tensor.nbytes for shard in shards for tensor in shard)
  index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
  records.write_text(folder / INDEX, json.dumps(index, indent=2) + '\n')


def read_json(path: pathlib.Path) -> Mapping[str, Any]:
  """A JSON object.

  Raises:
    ValueError: there is no such file, or it holds something else.
  """
  if not path.is_file():
    raise ValueError(f'{path}: no such file; is this a Hugging Face folder?')
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as e:
    raise ValueError(f'{path}: not JSON: {e}') from e
  if not isinstance(value, dict):
    raise ValueError(f'{path}: not a JSON object but {type(value).__name__}')
  return value


def some(names: Iterable[str]) -> str:
  """The first few of many names."""
  names = sorted(names)
  return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


def _names_by_file(path: pathlib.Path) -> dict[str, set[str]]:
  weight_map = read_json(path).get('weight_map')
  if not isinstance(weight_map, dict) or not weight_map:
    raise ValueError(f'{path}: lacks the field weight_map, tensor to file')
  result: dict[str, set[str]] = {}
  for name, file in sorted(weight_map.items()):
    # Whoever made the model wrote the index: it may name no other place.
    if not isinstance(file, str) or not re.fullmatch(_PLAIN_NAME, file):
      raise ValueError(
          f'{path}: weight_map puts {name} into {file!r}, which is not the'
          ' plain name of a safetensors file in this folder'
      )
    result.setdefault(file, set()).add(name)
  return dict(sorted(result.items()))


def _split(
    tensors: Iterable[Tensor], shard_bytes: int
) -> Sequence[Sequence[Tensor]]:
  """Consecutive tensors of at most `shard_bytes` together, at least one."""
  shards: list[list[Tensor]] = [[]]
  size = 0
  for tensor in tensors:
    size += tensor.nbytes
    if shards[-1] and size > shard_bytes:
      shards.append([])
      size = tensor.nbytes
    shards[-1].append(tensor)
  return shards


def _write_file(path: pathlib.Path, tensors: Sequence[Tensor]) -> None:
  """One tensor after the other: the library would want all at once."""
  kinds = {dtype: kind for kind, dtype in DTYPES.items()}
  entries: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  end = 0
  for tensor in tensors:
    start, end = end, end + tensor.nbytes
    entries[tensor.name] = {
        'dtype': kinds[tensor.dtype],
        'shape': tensor.shape,
        'data_offsets': (start, end),
    }
  text = json.dumps(entries).encode()
  text += b' ' * (-len(text) % 8)
  with path.open('wb') as f:
    f.write(len(text).to_bytes(8, 'little') + text)
    for tensor in tensors:
      f.write(np.ascontiguousarray(tensor.read()).view(np.uint8).data)
    f.flush()
    os.fsync(f.fileno())
