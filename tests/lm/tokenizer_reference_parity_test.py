"""Real tokenizers: our ids against those of the models' own libraries."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from calm_jax.lm import chat, tokenizer

pytestmark = pytest.mark.parity


@pytest.fixture(scope='module')
def piece_folder(real_data, tmp_path_factory):
  """Mistral's folder as it was before it had a tokenizer.json."""
  source = real_data / 'tokenizers' / 'mistral-7b-instruct-v0.2-hf'
  folder = tmp_path_factory.mktemp('mistral')
  for name in (
      'tokenizer.model',
      'tokenizer_config.json',
      'chat_template.jinja',
  ):
    shutil.copy(source / name, folder)
  return folder


def _differing(ours, theirs, texts):
  return {t: (ours(t), theirs(t)) for t in texts if ours(t) != theirs(t)}


def test_llama3_is_tiktokens(real_tokenizers, real_data, every_text):
  tiktoken = pytest.importorskip('tiktoken', reason='the reference')
  load = pytest.importorskip('tiktoken.load', reason='the reference')
  path = real_data / 'tokenizers' / 'llama3.tokenizer.model'
  reference = tiktoken.Encoding(
      name='llama3',
      # The split of Meta's own release.
      pat_str=(
          r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
      ),
      mergeable_ranks=load.load_tiktoken_bpe(str(path)),
      special_tokens={'<|eot_id|>': 128009},
  )

  def encode(text):
    return reference.encode(text, disallowed_special=())

  def prompt(text):
    start, end = 128006, 128007
    return [
        128000,
        *(start, *encode('user'), end, *encode('\n\n' + text.strip())),
        *(128009, start, *encode('assistant'), end, *encode('\n\n')),
    ]

  tok = real_tokenizers['llama3']
  assert not _differing(tok.encode, encode, every_text)
  assert not _differing(tok.continuation, encode, every_text)
  assert not _differing(tok.chat_prompt, prompt, every_text)


# Byte-level vocabularies write the bytes that are no printable character as
# the characters from 256 on.
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTES = {chr(byte): byte for byte in _PRINTABLE}
_BYTES |= {chr(256 + n): byte for n, byte in enumerate(_OTHERS)}


def test_smollm2_is_tiktokens(real_tokenizers, real_folders, every_text):
  tiktoken = pytest.importorskip('tiktoken', reason='the reference')
  if 'smollm2' not in real_folders:
    pytest.skip('the model is missing: run python -m tools.fetch_demo_model')
  path = real_folders['smollm2'] / 'tokenizer.json'
  spec = json.loads(path.read_text())
  special = {token['content'] for token in spec['added_tokens']}
  reference = tiktoken.Encoding(
      name='smollm2',
      # GPT-2's split.
      pat_str=(
          r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
          r'|\s+(?!\S)|\s+'
      ),
      mergeable_ranks={
          bytes(_BYTES[c] for c in token): i
          for token, i in spec['model']['vocab'].items()
          if token not in special
      },
      special_tokens={},
  )

  def encode(text):
    # One digit at a time, and split off before all else. What is numeric to
    # Unicode is so to Python and to the tokenizer alike.
    cut = ''.join(f'\0{c}\0' if c.isnumeric() else c for c in text)
    parts = [part for part in cut.split('\0') if part]
    return [i for part in parts for i in reference.encode_ordinary(part)]

  texts = [text for text in every_text if '\0' not in text]
  assert not _differing(real_tokenizers['smollm2'].encode, encode, texts)


def _other_spaces(text):
  """Where the tokenizer.json given for Mistral departs from its model.

  Whoever derived it merges runs of spaces first, not last, and puts no space
  before a text that has one. Hugging Face's ids are ours there.
  """
  return text.startswith(' ') or re.search('  |\u2581', text) is not None


def test_mistral_is_sentencepieces(real_tokenizers, piece_folder, every_text):
  reference = sentencepiece.SentencePieceProcessor(
      model_file=str(piece_folder / 'tokenizer.model')
  )
  encode = tokenizer.load(piece_folder).encode
  assert not _differing(encode, reference.encode, every_text)
  same = [text for text in every_text if not _other_spaces(text)]
  assert len(same) >= 60
  encode = real_tokenizers['mistral'].encode
  assert not _differing(encode, reference.encode, same)


@pytest.mark.parametrize('pieces', [True, False])
def test_mistral_prompts_are_mistral_commons(
    real_tokenizers, piece_folder, every_text, pieces
):
  theirs = _mistral_common(piece_folder)
  tok = tokenizer.load(piece_folder) if pieces else real_tokenizers['mistral']
  golden = [1, 733, 16289, 28793, 8500, 18777, 733, 28748, 16289, 28793]
  assert tok.chat_prompt('Bonjour') == theirs('Bonjour') == golden
  texts = [text for text in every_text if text.strip()]
  if not pieces:
    texts = [text for text in texts if not _other_spaces(f'x {text} x')]
  assert len(texts) >= 60
  assert not _differing(tok.chat_prompt, theirs, texts)


def test_mistral_common_puts_a_space_before_an_answer(piece_folder, every_text):
  template = (piece_folder / 'chat_template.jinja').read_text()
  old, new = "{{ message['content']", "{{ ' ' + message['content']"
  assert template.count(old) == 1
  tok = tokenizer.load(piece_folder, template=template.replace(old, new))
  theirs = _mistral_common(piece_folder)
  texts = [text for text in every_text if text.strip()]
  # It trims the end of an answer.
  for answer in (text for text in texts if text == text.rstrip()):
    prompt, completion = tok.chat_completion('Bonjour', answer)
    again = tok.encode('[INST] Encore [/INST]')
    ids = [*prompt, *completion, *again]
    assert ids == theirs('Bonjour', answer, 'Encore')


def _mistral_common(folder):
  pytest.importorskip('mistral_common', reason='the reference')
  from mistral_common.protocol.instruct import messages, request
  from mistral_common.tokens.tokenizers import mistral

  path = folder / 'tokenizer.model'
  reference = mistral.MistralTokenizer.from_file(str(path))
  kinds = (messages.UserMessage, messages.AssistantMessage)

  def encode(*texts):
    turns = [kinds[n % 2](content=text) for n, text in enumerate(texts)]
    asked = request.ChatCompletionRequest(messages=turns)
    return reference.encode_chat_completion(asked).tokens

  return encode


def test_selfrag_is_sentencepieces(real_tokenizers, real_folders, every_text):
  path = real_folders['selfrag'] / 'tokenizer.json'
  spec = json.loads(path.read_text())
  reference = _llama2(spec['model']['vocab'])
  assert reference.encode('Hello world') == [15043, 3186]
  tok = real_tokenizers['selfrag']
  assert not _differing(tok.encode, reference.encode, every_text)
  added = {t['content']: t['id'] for t in spec['added_tokens'] if t['id'] > 2}
  assert len(added) == 16
  assert {text: tok.id_of(text) for text in added} == added
  ids = [*tok.encode('Paris'), *added.values(), 2]
  assert tok.decode(ids) == 'Paris'


def _llama2(vocab):
  """Llama-2's tokenizer.model from its vocabulary: ids are ranks of merges.

  Only runs of spaces, which were put in by hand, are merged last.
  """
  model = sentencepiece_model_pb2.ModelProto()
  model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
  model.trainer_spec.byte_fallback = True
  model.normalizer_spec.name = 'identity'
  model.normalizer_spec.remove_extra_whitespaces = False
  piece = sentencepiece_model_pb2.ModelProto.SentencePiece
  kinds = [piece.UNKNOWN, piece.CONTROL, piece.CONTROL, *[piece.BYTE] * 256]
  for text, i in sorted(vocab.items(), key=lambda item: item[1]):
    by_hand = len(text) > 1 and set(text) == {'\u2581'}
    model.pieces.add(
        piece=text,
        score=-1e9 if by_hand else min(0.0, 259.0 - i),
        type=kinds[i] if i < len(kinds) else piece.NORMAL,
    )
  return sentencepiece.SentencePieceProcessor(
      model_proto=model.SerializeToString()
  )


def test_selfrag_prompt_is_its_authors(real_tokenizers):
  tok = real_tokenizers['selfrag']
  text = '### Instruction:\nWhere is\nthe cat?\n\n### Response:\n'
  assert tok.chat_prompt('Where is\nthe cat?') == [1, *tok.encode(text)]
  assert chat.SELFRAG.count('bos_token') == 1
