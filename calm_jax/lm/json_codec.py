"""tokenizer.json, run by `tokenizers` as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import json
import pathlib
from typing import Any

import tokenizers

from calm_jax.lm import codec

Place = codec.Place
_FLAGS = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')
_CHILDREN = ('normalizers', 'pretokenizers', 'decoders')


class JsonCodec:
  """The vocabulary of a tokenizer.json."""

  def __init__(
      self, path: pathlib.Path, added: Mapping[int, Mapping[str, Any]]
  ):
    spec = _read(path, added)
    self._start = _build(spec, path)
    unprefixed = {
        **spec,
        **{
            name: _unprefixed(spec.get(name))
            for name in ('normalizer', 'pre_tokenizer', 'decoder')
        },
    }
    changed = unprefixed != spec
    self._after_text = _build(unprefixed, path) if changed else self._start
    # 'first' means first in the whole string, of which we encode a part.
    first = any(
        step.get('prepend_scheme') == 'first'
        for step in _steps(spec.get('pre_tokenizer'))
    )
    self._after_special = self._after_text if first else self._start
    self._start.encode_special_tokens = True
    self._after_text.encode_special_tokens = True

    self.specials: Mapping[str, codec.Special] = {
        token['content']: codec.special(token, token['id'])
        for token in spec['added_tokens']
        if token['special']
    }
    self.size = max(self._start.get_vocab().values()) + 1
    self.unknown: int | None = spec['model'].get('unk_id')
    if text := spec['model'].get('unk_token'):
      self.unknown = self._start.token_to_id(text)

  def encode(self, text: str, place: Place) -> list[int]:
    return self._at(place).encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int], place: Place) -> str:
    return self._at(place).decode(list(ids), skip_special_tokens=True)

  def whole(self, text: str) -> list[int] | None:
    self._start.encode_special_tokens = False
    try:
      return self._start.encode(text, add_special_tokens=False).ids
    finally:
      self._start.encode_special_tokens = True

  def _at(self, place: Place) -> tokenizers.Tokenizer:
    if place is Place.START:
      return self._start
    if place is Place.AFTER_SPECIAL:
      return self._after_special
    return self._after_text


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object that a file holds."""
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as e:
    raise ValueError(f'{path}: not JSON: {e}; copy the file again') from e
  if not isinstance(value, dict):
    raise ValueError(f'{path}: not a JSON object but {type(value).__name__}')
  return value


def _read(
    path: pathlib.Path, added: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
  """The file, but with every token that works like a special one marked so."""
  spec = read_object(path)
  spec.setdefault('added_tokens', [])
  # Left behind by whoever saved the file; it would cut data without a word.
  spec |= {'truncation': None, 'padding': None}
  known = {token['content'] for token in spec['added_tokens']}
  for token_id, token in sorted(added.items()):
    if token['content'] not in known:
      flags = {flag: token.get(flag, False) for flag in _FLAGS}
      entry = {'id': token_id, 'content': token['content'], **flags}
      spec['added_tokens'].append(entry)
  for token in spec['added_tokens']:
    token['special'] |= bool(codec.BRACKETED.fullmatch(token['content']))
  return spec


def _build(spec: dict[str, Any], path: pathlib.Path) -> tokenizers.Tokenizer:
  try:
    built = tokenizers.Tokenizer.from_str(json.dumps(spec))
  # The library raises nothing more exact.
  except Exception as e:
    raise ValueError(f'{path}: not a tokenizer: {e}') from e
  for token in spec['added_tokens']:
    if (got := built.token_to_id(token['content'])) != token['id']:
      raise ValueError(
          f'{path}: the added token {token["content"]!r} should have id'
          f' {token["id"]} but gets {got}; the files of the folder disagree'
      )
  return built


def _steps(step: Any) -> Iterator[dict[str, Any]]:
  """The steps of a normalizer, pre-tokenizer or decoder, one by one."""
  if step is None:
    return
  if step['type'] != 'Sequence':
    yield step
  for name in _CHILDREN:
    for child in step.get(name, ()):
      yield from _steps(child)


def _unprefixed(step: Any) -> Any:
  """A step that neither adds nor removes a space before a text."""
  match step:
    case {'type': 'Sequence'}:
      return step | {
          name: [s for c in step[name] if (s := _unprefixed(c)) is not None]
          for name in _CHILDREN
          if name in step
      }
    case {'type': 'Prepend'} | {'type': 'Strip', 'content': ' '}:
      return None
    case {'type': 'Metaspace'}:
      old = {'add_prefix_space': False} if 'add_prefix_space' in step else {}
      return step | {'prepend_scheme': 'never'} | old
    case {'type': 'ByteLevel'}:
      return step | {'add_prefix_space': False}
  return step
