"""Tiny vocabularies in the manner of real ones, and the real ones."""

from __future__ import annotations

import json
import pathlib

import pytest
import tokenizers
from tokenizers import (
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from calm_jax.lm import chat, tokenizer

CORPUS = (
    'The cat sat on the mat. Where is the cat? Answer: B. on the mat',
    'Le chat est assis sur le tapis. Où est le chat ? Réponse : B',
    'Die Katze sitzt auf der Matte. 1 2 3 10 2024 July <b> [x] |',
    '猫はマットの上に座っています。答え: B\n\n- one\n- two\n\tthree',
)
BYTE_SPECIALS = (
    '<|begin|>',
    '<|end|>',
    '<|header|>',
    '<|close|>',
    '<|im_start|>',
    '<|im_end|>',
)
PIECE_SPECIALS = ('<unk>', '<s>', '</s>', '[INST]', '[/INST]')
SPACE = '\u2581'


def _byte_level():
  """In the manner of Llama-3 and Qwen."""
  built = tokenizers.Tokenizer(models.BPE())
  built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  built.decoder = decoders.ByteLevel()
  built.post_processor = processors.TemplateProcessing(
      single='<|begin|> $A', special_tokens=[('<|begin|>', 0)]
  )
  trainer = trainers.BpeTrainer(
      vocab_size=400,
      special_tokens=list(BYTE_SPECIALS),
      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
  )
  built.train_from_iterator(CORPUS, trainer)
  return built


def _pieces(scheme):
  """In the manner of Llama-2 and Mistral; `scheme` is about the first space."""
  built = tokenizers.Tokenizer(
      models.BPE(byte_fallback=True, unk_token='<unk>', fuse_unk=True)
  )
  steps = [
      decoders.Replace(SPACE, ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
  ]
  if scheme != 'never':
    steps.append(decoders.Strip(content=' ', left=1))
  built.decoder = decoders.Sequence(steps)
  if scheme == 'prepend':
    built.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(' ', SPACE)]
    )
  else:
    built.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme=scheme, split=False
    )
  trainer = trainers.BpeTrainer(
      vocab_size=600,
      special_tokens=[*PIECE_SPECIALS, *(f'<0x{i:02X}>' for i in range(256))],
      initial_alphabet=[SPACE],
      show_progress=False,
  )
  words = [word for text in CORPUS for word in text.split(' ')]
  built.train_from_iterator(words, trainer)
  # The trainer makes the bytes special tokens too, which no real file does.
  spec = json.loads(built.to_str())
  spec['added_tokens'] = spec['added_tokens'][: len(PIECE_SPECIALS)]
  return tokenizers.Tokenizer.from_str(json.dumps(spec))


def _save(folder, built, config):
  folder.mkdir()
  built.save(str(folder / 'tokenizer.json'))
  (folder / 'tokenizer_config.json').write_text(json.dumps(config))
  return folder


@pytest.fixture(scope='session')
def vocabularies(tmp_path_factory):
  """Folders by name, without a template: do not write into them."""
  root = tmp_path_factory.mktemp('vocabularies')
  named = {'bos_token': '<|begin|>', 'eos_token': {'content': '<|im_end|>'}}
  folders = {'bytes': _save(root / 'bytes', _byte_level(), named)}
  named = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'}
  for scheme in ('always', 'first', 'never', 'prepend'):
    folders[scheme] = _save(root / scheme, _pieces(scheme), named)
  return folders


@pytest.fixture(scope='session')
def texts():
  """Texts by language or kind."""
  path = pathlib.Path(__file__).parent / 'texts.json'
  return json.loads(path.read_text(encoding='utf-8'))


@pytest.fixture(scope='session')
def look_alikes(texts):
  return texts['Look-alikes of special tokens']


@pytest.fixture(scope='session')
def every_text(texts):
  found = [text for group in texts.values() for text in group]
  assert len(found) >= 75
  return found


@pytest.fixture(scope='session')
def real_folders(real_data):
  """Folders of real tokenizers by name, the demo's where it is fetched."""
  base = real_data / 'tokenizers'
  found = {
      'llama3': base / 'llama3-hf',
      'mistral': base / 'mistral-7b-instruct-v0.2-hf',
      'selfrag': base / 'selfrag-hf',
  }
  demo = pathlib.Path(__file__).parents[2] / 'models/smollm2-135m-instruct'
  return found | ({'smollm2': demo} if demo.is_dir() else {})


@pytest.fixture(scope='session')
def real_tokenizers(real_folders):
  """Our tokenizers of them; Self-RAG's with the template that it lacks."""
  templates = {'selfrag': chat.SELFRAG}
  return {
      name: tokenizer.load(folder, template=templates.get(name))
      for name, folder in real_folders.items()
  }
