"""Vocabularies of a tokenizer.json with uncommon settings."""

from __future__ import annotations

import json
import shutil

import pytest
import tokenizers
from tokenizers import decoders, models
import transformers

from calm_jax.lm import tokenizer


@pytest.mark.parametrize('flag', ['lstrip', 'rstrip', 'single_word'])
def test_flags_of_special_tokens(vocabularies, tmp_path, flag):
  folder = tmp_path / flag
  shutil.copytree(vocabularies['bytes'], folder)
  spec = json.loads((folder / 'tokenizer.json').read_text())
  spec['added_tokens'] = [t | {flag: True} for t in spec['added_tokens']]
  (folder / 'tokenizer.json').write_text(json.dumps(spec))
  template = (
      "{% for m in messages %}{{ '<|header|> \\n ' + m.content + ' <|end|>' }}"
      '{{ m.content }}<|close|>{% endfor %}'
  )
  tok = tokenizer.load(folder, template=template)
  reference = transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(folder / 'tokenizer.json'), chat_template=template
  )
  for text in ('', 'cat', ' cat ', '\n\n', '猫 \u3000', '- ', '_1'):
    assert tok.chat_prompt(text) == reference.apply_chat_template(
        [{'role': 'user', 'content': text}], return_dict=False
    )


def test_the_longest_special_token_is_found(vocabularies, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(vocabularies['bytes'], folder)
  path = str(folder / 'tokenizer.json')
  built = tokenizers.Tokenizer.from_file(path)
  built.add_special_tokens(['<|end|>!!', '<|end|>!'])
  built.save(path)
  template = '{% for m in messages %}{{ m.content }}<|end|>!!!{% endfor %}'
  tok = tokenizer.load(folder, template=template)
  end = tok.id_of('<|end|>!!')
  assert tok.chat_prompt('a') == [*tok.encode('a'), end, *tok.encode('!')]


def test_vocabulary_that_finds_special_tokens_in_any_text(tmp_path):
  texts = ('</s>', '<|im_end|>' * 3, 'x</s></s><|im_<|im_end|>end|> The </s')
  specials = [('<unk>', 0.0), ('</s>', 0.0), ('<|im_end|>', 0.0)]
  alphabet = [(c, -9.0) for c in sorted(set(''.join(texts)))]
  built = tokenizers.Tokenizer(models.Unigram([*specials, *alphabet], unk_id=0))
  built.decoder = decoders.Fuse()
  assert built.encode('</s>').ids == [1]
  built.add_special_tokens([text for text, _ in specials])
  built.save(str(tmp_path / 'tokenizer.json'))
  (tmp_path / 'tokenizer_config.json').write_text('{"eos_token": "</s>"}')
  tok = tokenizer.load(tmp_path)
  for text in texts:
    assert not set(tok.encode(text)) & {1, 2}
    assert tok.decode(tok.encode(text)) == text
  assert tok.encode('é') == [0]
