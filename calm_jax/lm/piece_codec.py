"""tokenizer.model, run by sentencepiece, whose ids are the reference here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import pathlib
import re
from typing import Any

import sentencepiece

from calm_jax.lm import codec

Place = codec.Place

# Appended to a serialised model, of which protobuf keeps the last value of a
# field: normalizer_spec { add_dummy_prefix: false }.
_NO_DUMMY_PREFIX = b'\x1a\x02\x18\x00'

TIKTOKEN = (
    '{}: a tiktoken file, neither JSON nor a sentencepiece model; use the'
    ' tokenizer.json of the Hugging Face version of the model'
)
_TIKTOKEN_LINE = re.compile(rb'[A-Za-z0-9+/]+=* \d+\s')


class PieceCodec:
  """The vocabulary of a tokenizer.model; all added tokens are special.

  A text after a special token gets the dummy prefix, as a text of its own
  does: sentencepiece's way, and Hugging Face's legacy mode.
  """

  def __init__(
      self, path: pathlib.Path, added: Mapping[int, Mapping[str, Any]]
  ):
    if is_tiktoken(path):
      raise ValueError(TIKTOKEN.format(path))
    model = path.read_bytes()
    try:
      self._start = sentencepiece.SentencePieceProcessor(model_proto=model)
      self._after_text = sentencepiece.SentencePieceProcessor(
          model_proto=model + _NO_DUMMY_PREFIX
      )
    except RuntimeError as e:
      raise ValueError(f'{path}: not a sentencepiece model: {e}') from e
    self._pieces = self._start.get_piece_size()
    found = [
        codec.Special(self._start.id_to_piece(i), i)
        for i in range(self._pieces)
        if self._is_special(i)
    ]
    found += [codec.special(token, i) for i, token in added.items()]
    self.specials: Mapping[str, codec.Special] = {
        special.text: special for special in found
    }
    self.size = max(self._pieces, *(special.id + 1 for special in found))
    self.unknown: int | None = self._start.unk_id()
    self._dropped = {special.id for special in found}

  def encode(self, text: str, place: Place) -> list[int]:
    return self._at(place).encode(text, out_type=int)

  def decode(self, ids: Sequence[int], place: Place) -> str:
    kept = [i for i in ids if i < self._pieces and i not in self._dropped]
    return self._at(place).decode(kept)

  def whole(self, text: str) -> None:
    del text  # sentencepiece never reads a special token from text

  def _at(self, place: Place) -> sentencepiece.SentencePieceProcessor:
    return self._after_text if place is Place.AFTER_TEXT else self._start

  def _is_special(self, i: int) -> bool:
    if self._start.is_control(i) or self._start.is_unknown(i):
      return True
    # Symbols that a user defined have no mark of their own, but no score.
    return (
        self._start.get_score(i) == 0.0
        and not self._start.is_byte(i)
        and codec.BRACKETED.fullmatch(self._start.id_to_piece(i)) is not None
    )


def is_tiktoken(path: pathlib.Path) -> bool:
  """Whether a file is in the format of Llama-3's original tokenizer.model."""
  with path.open('rb') as f:
    return _TIKTOKEN_LINE.match(f.readline(4096)) is not None
