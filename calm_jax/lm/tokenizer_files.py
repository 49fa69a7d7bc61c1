"""The files of a Hugging Face folder that say how a model reads and ends."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import datetime
import hashlib
import json
import pathlib
from typing import Any

from calm_jax.lm import json_codec, piece_codec

# Every file that can change an id, beside the stop ids.
_HASHED = (
    'tokenizer.json',
    'tokenizer.model',
    'tokenizer_config.json',
    'special_tokens_map.json',
    'added_tokens.json',
    'chat_template.jinja',
)
_NAMES = ('bos', 'eos', 'unk', 'pad', 'sep', 'cls', 'mask')


@dataclasses.dataclass(frozen=True)
class Files:
  """What the folder says.

  `added` describes tokens by id; `named` maps 'bos_token' and the like to
  text; `stop_ids` and `pad_id` are those of generation, beside the named ones.
  `template_source` says where the template comes from.
  """

  vocabulary: pathlib.Path
  added: Mapping[int, Mapping[str, Any]]
  named: Mapping[str, str]
  template: str | None
  template_source: str
  stop_ids: tuple[int, ...]
  pad_id: int | None
  fingerprint: str


def read(
    folder: pathlib.Path, *, template: str | None, date: datetime.date
) -> Files:
  """Reads a folder; `template` replaces the one it has."""
  vocabulary = _vocabulary(folder)
  config = _json(folder / 'tokenizer_config.json')
  source = 'the given template'
  if template is None:
    template, source = _template(folder, config)
  stop_ids, pad_id = _generation(folder)
  return Files(
      vocabulary=vocabulary,
      added=_added(folder, config),
      named=_named(folder, config),
      template=template,
      template_source=source,
      stop_ids=stop_ids,
      pad_id=pad_id,
      fingerprint=_fingerprint(
          folder, template, date.isoformat(), stop_ids, pad_id
      ),
  )


def _vocabulary(folder: pathlib.Path) -> pathlib.Path:
  if not folder.is_dir():
    raise ValueError(f'{folder}: no such folder; a tokenizer is read from one')
  for name in ('tokenizer.json', 'tokenizer.model'):
    if (folder / name).is_file():
      return folder / name
  there = sorted(path for path in folder.iterdir() if path.is_file())
  for path in there:
    if piece_codec.is_tiktoken(path):
      raise ValueError(piece_codec.TIKTOKEN.format(path))
  raise ValueError(
      f'{folder}: has neither tokenizer.json nor tokenizer.model but'
      f' {[path.name for path in there]}; copy one from the Hugging Face'
      ' version of the model'
  )


def _json(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object; empty where there is no file."""
  return json_codec.read_object(path) if path.is_file() else {}


def _template(
    folder: pathlib.Path, config: Mapping[str, Any]
) -> tuple[str | None, str]:
  """The chat template and the file that it is from."""
  path = folder / 'chat_template.jinja'
  if path.is_file():
    return path.read_text(encoding='utf-8'), str(path)
  where = f'{folder / "tokenizer_config.json"}: chat_template'
  value = config.get('chat_template')
  if isinstance(value, list):
    by_name = {entry['name']: entry['template'] for entry in value}
    if 'default' not in by_name:
      raise ValueError(
          f'{where} has no "default" but {sorted(by_name)}; pass the wanted'
          ' one as `template`'
      )
    value = by_name['default']
  if value is not None and not isinstance(value, str):
    raise ValueError(f'{where} is neither text nor a list: {value!r}')
  return value, where


def _added(
    folder: pathlib.Path, config: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
  """Tokens beside the vocabulary's own, by id."""
  if described := config.get('added_tokens_decoder'):
    return {int(i): token for i, token in described.items()}
  ids = _json(folder / 'added_tokens.json')
  return {i: {'content': text} for text, i in ids.items()}


def _named(folder: pathlib.Path, config: Mapping[str, Any]) -> dict[str, str]:
  """The text of the tokens that have a function by name."""
  other = _json(folder / 'special_tokens_map.json')
  named = {}
  for name in (f'{n}_token' for n in _NAMES):
    value = config.get(name) or other.get(name)
    if isinstance(value, dict):
      value = value.get('content')
    if value is not None and not isinstance(value, str):
      raise ValueError(f'{folder}: {name} is no token: {value!r}')
    if value:
      named[name] = value
  return named


def _generation(folder: pathlib.Path) -> tuple[tuple[int, ...], int | None]:
  """Stop ids and padding id of generation."""
  path = folder / 'generation_config.json'
  if not path.is_file():
    # As Hugging Face does for models older than that file.
    path = folder / 'config.json'
  values = _json(path)
  stops = values.get('eos_token_id')
  if stops is None:
    stops = []
  stops = stops if isinstance(stops, list) else [stops]
  pad = values.get('pad_token_id')
  if wrong := [i for i in [*stops, pad or 0] if not isinstance(i, int)]:
    raise ValueError(f'{path}: not a token id: {wrong[0]!r}')
  return tuple(stops), pad


def _fingerprint(folder: pathlib.Path, *settings: Any) -> str:
  digests = {
      name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
      for name in _HASHED
      if (folder / name).is_file()
  }
  text = json.dumps([digests, settings])
  return hashlib.sha256(text.encode()).hexdigest()
