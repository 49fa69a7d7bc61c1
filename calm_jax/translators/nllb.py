"""NLLB-200, or OPUS-MT models, through CTranslate2: local, on CPU or GPU.

config.translate.path is the folder of a converted NLLB-200, or a folder of
OPUS-MT models each called after its direction (en-fr, zh-en). docs/
TRANSLATION.md says how to convert them. They translate sentence by sentence.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import hashlib
import importlib.util
import json
import pathlib

from ml_collections import ConfigDict

from calm_jax.qa import languages
from calm_jax.translators import sentences, translator

CODES = {code: row.codes.nllb for code, row in languages.LANGUAGES.items()}

_BEAM = 4
# Tokens of a sentence; the models saw few longer ones, and drop words there.
_LONGEST = 400
_EOS = '</s>'

Pieces = list[str]


@dataclasses.dataclass(frozen=True)
class Text:
  """How texts become pieces for a model, and pieces become texts."""

  encode: Callable[[str], Pieces]
  decode: Callable[[Pieces], str]


def problem(path: str) -> str | None:
  if importlib.util.find_spec('ctranslate2') is None:
    return "needs CTranslate2: pip install 'calm_jax[translate]'"
  folder = pathlib.Path(path)
  if path and _models(folder):
    return None
  return (
      f'finds no model in config.translate.path = {path!r}: neither model.bin'
      ' nor folders like en-fr with one'
  )


def depends(cfg: ConfigDict) -> dict[str, str]:
  return {'translator': Local(pathlib.Path(cfg.translate.path)).version}


def build(cfg: ConfigDict, folder: pathlib.Path) -> translator.Translator:
  del folder
  return Local(pathlib.Path(cfg.translate.path))


class Local(translator.Translator):
  """Loads a model at the first text that needs it."""

  def __init__(self, folder: pathlib.Path, *, device: str = 'auto'):
    self._folder, self._device = folder, device
    self._multilingual = (folder / 'model.bin').is_file()
    self._loaded: dict[pathlib.Path, _Model] = {}
    self._version = ''

  @property
  def version(self) -> str:
    if not self._version:
      self._version = f'{_digest(self._folder)} beam {_BEAM}'
    return self._version

  def supports(self, source: str, target: str) -> bool:
    if self._multilingual:
      return source != target and {source, target} <= CODES.keys()
    return (self._folder / f'{source}-{target}' / 'model.bin').is_file()

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    if not self.supports(source, target):
      return [None] * len(texts)
    split = [sentences.split(text) for text in texts]
    unique = dict.fromkeys(s for parts in split for s, _ in parts)
    model = self._model(source, target)
    done = model.translate(list(unique), source, target)
    known = dict(zip(unique, done, strict=True))
    return [_joined(parts, known, target) for parts in split]

  def _model(self, source: str, target: str) -> _Model:
    folder = self._folder
    if not self._multilingual:
      folder = folder / f'{source}-{target}'
    if folder not in self._loaded:
      self._loaded[folder] = _Model(folder, self._device, self._multilingual)
    return self._loaded[folder]


class _Model:
  """A CTranslate2 model and its pieces."""

  def __init__(self, folder: pathlib.Path, device: str, multilingual: bool):
    import ctranslate2

    self._engine = ctranslate2.Translator(str(folder), device=device)
    self._multilingual = multilingual
    self._text = _read_text(folder)
    self._known = _vocabulary(folder)
    config = json.loads((folder / 'config.json').read_text('utf-8'))
    self._ends = [] if config.get('add_source_eos') else [_EOS]

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    rows = [self._text.encode(text) for text in texts]
    # Too long a sentence would lose its end without a word.
    fine = [i for i, row in enumerate(rows) if 0 < len(row) <= _LONGEST]
    starts = self._starts(source, target)
    prefix = [[CODES[target]] if self._multilingual else None] * len(fine)
    answers = self._engine.translate_batch(
        [[*starts, *rows[i], *self._ends] for i in fine],
        target_prefix=prefix,
        beam_size=_BEAM,
        max_batch_size=2048,
        batch_type='tokens',
        max_input_length=0,
        max_decoding_length=2 * _LONGEST,
        disable_unk=True,
    )
    done: list[str | None] = [None] * len(texts)
    for i, answer in zip(fine, answers, strict=True):
      pieces = answer.hypotheses[0]
      if len(pieces) < 2 * _LONGEST:  # else it never came to an end
        words = pieces[1:] if self._multilingual else pieces
        done[i] = self._text.decode(words).strip() or None
    return done

  def _starts(self, source: str, target: str) -> Pieces:
    if self._multilingual:
      return [CODES[source]]
    # A model of several targets is told which one by its first token.
    names = languages.get(target).codes.opus
    marks = [f'>>{name}<<' for name in names]
    return [mark for mark in marks if mark in self._known][:1]


def _joined(
    parts: list[tuple[str, str]], known: dict[str, str | None], target: str
) -> str | None:
  done = [known[sentence] for sentence, _ in parts]
  if not done or None in done:
    return None
  whole = [text for text in done if text is not None]
  return sentences.join(whole, [gap for _, gap in parts], target)


def _models(folder: pathlib.Path) -> list[pathlib.Path]:
  return [*folder.glob('model.bin'), *folder.glob('??-??/model.bin')]


def _read_text(folder: pathlib.Path) -> Text:
  """The tokenizer that stands beside the model."""
  names = ('sentencepiece.bpe.model', 'source.spm', 'tokenizer.json')
  paths = [folder / name for name in names if (folder / name).is_file()]
  if not paths:
    raise FileNotFoundError(
        f'{folder}: none of {", ".join(names)} is here: copy it from the model'
        ' that was converted (docs/TRANSLATION.md)'
    )
  if paths[0].name == 'tokenizer.json':
    return _fast(paths[0])
  target = folder / 'target.spm'
  return _sentencepiece(paths[0], target if target.is_file() else paths[0])


def _sentencepiece(source: pathlib.Path, target: pathlib.Path) -> Text:
  import sentencepiece

  encoder = sentencepiece.SentencePieceProcessor(model_file=str(source))
  decoder = sentencepiece.SentencePieceProcessor(model_file=str(target))
  return Text(
      encode=lambda text: encoder.encode(text, out_type=str),
      decode=lambda pieces: decoder.decode_pieces(pieces),
  )


def _fast(path: pathlib.Path) -> Text:
  import tokenizers

  fast = tokenizers.Tokenizer.from_file(str(path))

  def decode(pieces: Pieces) -> str:
    ids = [fast.token_to_id(piece) for piece in pieces]
    return fast.decode([i for i in ids if i is not None])

  return Text(
      encode=lambda text: fast.encode(text, add_special_tokens=False).tokens,
      decode=decode,
  )


def _vocabulary(folder: pathlib.Path) -> frozenset[str]:
  """The source tokens that a model knows."""
  for name in ('source_vocabulary.json', 'shared_vocabulary.json'):
    path = folder / name
    if path.is_file():
      return frozenset(json.loads(path.read_text('utf-8')))
  return frozenset()


def _digest(folder: pathlib.Path) -> str:
  """Changes with any file that a translation depends on."""
  total = hashlib.sha256()
  for model in sorted(_models(folder)):
    for path in sorted(p for p in model.parent.iterdir() if p.is_file()):
      with path.open('rb') as f:
        content = hashlib.file_digest(f, 'sha256').hexdigest()
      total.update(f'{content} {path.relative_to(folder)}\n'.encode())
  return total.hexdigest()
