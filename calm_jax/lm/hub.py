"""Where a model is, and what it is: no jax, so that asking costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
import hashlib
import json
import pathlib
import shutil
from typing import BinaryIO

from calm_jax.lm import shards

# Small files that say how the model reads, writes and stops.
TEXT_FILES = (
    'added_tokens.json',
    'chat_template.jinja',
    'generation_config.json',
    'merges.txt',
    'special_tokens_map.json',
    'tokenizer.json',
    'tokenizer.model',
    'tokenizer_config.json',
    'vocab.json',
)

# By name: '*.safetensors' would also fetch the second copy of the weights that
# some repositories hold (consolidated.safetensors, original/).
_WANTED = (
    'config.json',
    shards.SINGLE,
    shards.INDEX,
    'model-*-of-*.safetensors',
    *TEXT_FILES,
)

# Bytes read of a tensor: all of a small one, else this many evenly spread.
_BLOCKS, _BLOCK_BYTES = 4, 16384

_MOST_HEADER_BYTES = 100_000_000  # the format's own limit


def resolve(model: str, revision: str) -> pathlib.Path:
  """The folder of a model: itself, or its download from the hub.

  Raises:
    ValueError: `model` is neither a folder nor a model on the hub, or its
      download failed, with the reason and what to do.
  """
  folder = pathlib.Path(model).expanduser()
  if folder.is_dir():
    return folder
  # Late: it takes a while to import, and a local folder needs none of it.
  import huggingface_hub
  from huggingface_hub import errors

  try:
    found = huggingface_hub.snapshot_download(
        model, revision=revision, allow_patterns=list(_WANTED)
    )
  except errors.HFValidationError as e:
    problem = 'and it cannot be the name of a model on the Hugging Face hub'
    raise ValueError(f'{model}: there is no such folder, {problem}') from e
  except errors.GatedRepoError as e:
    raise ValueError(
        f'{model}: asks for its licence to be accepted on its Hugging Face'
        ' page; then log in here with `hf auth login`'
    ) from e
  except errors.RevisionNotFoundError as e:
    raise ValueError(f'{model}: has no revision {revision!r}') from e
  except errors.RepositoryNotFoundError as e:
    raise ValueError(
        f'{model}: there is no such folder, and no such model on the Hugging'
        ' Face hub (or it is private: `hf auth login`)'
    ) from e
  except (
      errors.LocalEntryNotFoundError,
      errors.HfHubHTTPError,
      ConnectionError,
  ) as e:
    raise ValueError(
        f'{model}: there is no such folder, it has not been downloaded before,'
        f' and the Hugging Face hub cannot be reached ({type(e).__name__}).'
        ' Download it where there is a network and give the path of the folder'
    ) from e
  # The client's transport has errors of its own, by the client's version.
  except Exception as e:
    raise ValueError(
        f'{model}: was not downloaded ({type(e).__name__}: {e}). Started again,'
        ' it fetches only what is missing'
    ) from e
  return pathlib.Path(found)


def identity(folder: pathlib.Path) -> str:
  """A hash of what the model is, the same wherever its folder lies.

  It covers config.json, the text files, and of every tensor its name, type,
  shape and evenly spread blocks, together 64 KiB at most: quick for any size,
  but an edit of a few numbers inside a tensor can go unseen. How the tensors
  are split into files does not matter.

  Raises:
    ValueError: the weights are missing, or their index is wrong.
  """
  digest = hashlib.sha256()
  for name in ('config.json', *TEXT_FILES):
    if (folder / name).is_file():
      _add(digest, name.encode(), (folder / name).read_bytes())
  tensors = [
      (name, kind, shape, path, span)
      for path in shards.files(folder)
      for name, kind, shape, span in _tensors(path)
  ]
  for name, kind, shape, path, (start, end) in sorted(tensors):
    with path.open('rb') as f:
      sampled = b''.join(_blocks(f, start, end))
    _add(digest, f'{name} {kind} {shape}'.encode(), sampled)
  return digest.hexdigest()


def copy_text_files(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies tokenizer, chat template and generation settings of a model."""
  for name in TEXT_FILES:
    if (source / name).is_file():
      shutil.copyfile(source / name, target / name)


def _tensors(
    path: pathlib.Path,
) -> Iterator[tuple[str, str, list[int], tuple[int, int]]]:
  """Name, type, shape and place of each tensor of a safetensors file."""
  try:
    with path.open('rb') as f:
      size = int.from_bytes(f.read(8), 'little')
      if size > _MOST_HEADER_BYTES:
        raise ValueError(f'a header of {size} bytes')
      header = json.loads(f.read(size))
    header.pop('__metadata__', None)
    for name, entry in header.items():
      start, end = entry['data_offsets']
      place = (8 + size + start, 8 + size + end)
      yield name, entry['dtype'], entry['shape'], place
  except (KeyError, TypeError, ValueError) as e:
    raise ValueError(
        f'{path}: not a safetensors file ({e!r}); download it again'
    ) from e


def _blocks(f: BinaryIO, start: int, end: int) -> Iterator[bytes]:
  if end - start <= _BLOCKS * _BLOCK_BYTES:
    f.seek(start)
    yield f.read(end - start)
    return
  room = end - start - _BLOCK_BYTES
  for i in range(_BLOCKS):
    f.seek(start + room * i // (_BLOCKS - 1))
    yield f.read(_BLOCK_BYTES)


def _add(digest, *parts: bytes) -> None:
  # The length keeps apart what would read the same joined.
  for part in parts:
    digest.update(len(part).to_bytes(8, 'little') + part)
