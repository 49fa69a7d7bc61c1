"""GGUF to Hugging Face: rotary rows, dequantisation, tokenizer, config."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import numpy as safetensors
import tokenizers

from calm_jax.lm import decoder, weights
from tools import gguf_to_hf


@pytest.mark.parametrize(
    ('arch', 'pre'), [('llama', 'smollm'), ('qwen2', 'qwen2')]
)
def test_weights_are_those_before_the_conversion(
    tmp_path, write_gguf, arch, pre
):
  tiny = write_gguf(tmp_path / 'tiny.gguf', arch, pre)
  gguf_to_hf.convert(tiny.path, tmp_path / 'model')
  found = safetensors.load_file(tmp_path / 'model' / 'model.safetensors')
  assert found.keys() == tiny.tensors.keys()
  for name, array in tiny.tensors.items():
    np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize(
    ('arch', 'pre'), [('llama', 'smollm'), ('qwen2', 'qwen2')]
)
def test_our_loader_takes_the_folder(tmp_path, write_gguf, arch, pre):
  tiny = write_gguf(tmp_path / 'tiny.gguf', arch, pre)
  gguf_to_hf.convert(tiny.path, tmp_path / 'model')
  cfg = weights.read_config(tmp_path / 'model')
  assert cfg == decoder.DecoderConfig(
      vocab_size=len(tiny.vocabulary),
      num_layers=1,
      model_dim=32,
      ffn_dim=64,
      num_heads=4,
      num_kv_heads=2,
      head_dim=8,
      norm_eps=1e-5,
      rope_theta=1e5,
      max_positions=512,
      qkv_bias=arch == 'qwen2',
      tied=True,
  )
  weights.load(tmp_path / 'model', cfg, dtype='float32')


def test_quantised_weights_are_widened(tmp_path, write_gguf):
  tiny = write_gguf(tmp_path / 'tiny.gguf', quantised='blk.0.ffn_up.weight')
  gguf_to_hf.convert(tiny.path, tmp_path / 'model')
  found = safetensors.load_file(tmp_path / 'model' / 'model.safetensors')
  name = 'model.layers.0.mlp.up_proj.weight'
  assert found[name].dtype == np.float32
  gap = np.abs(found[name] - tiny.tensors[name]).max()
  assert 0 < gap < 0.03


@pytest.mark.parametrize(
    ('text', 'tokens'),
    [
        ('the', ['t', 'he']),
        (' the', ['Ġthe']),
        ('121', ['1', '2', '1']),
        ('<|im_end|>', ['<|im_end|>']),
        ('é', ['Ã', '©']),
    ],
)
def test_the_tokenizer_splits_digits_and_bytes(
    tmp_path, write_gguf, text, tokens
):
  tiny = write_gguf(tmp_path / 'tiny.gguf')
  gguf_to_hf.convert(tiny.path, tmp_path / 'model')
  tok = tokenizers.Tokenizer.from_file(str(tmp_path / 'model/tokenizer.json'))
  encoded = tok.encode(text)
  assert encoded.tokens == tokens
  assert encoded.ids == [tiny.vocabulary.index(t) for t in tokens]
  assert tok.decode(encoded.ids, skip_special_tokens=False) == text


def test_the_other_files_name_the_tokens(tmp_path, write_gguf):
  gguf_to_hf.convert(
      write_gguf(tmp_path / 'tiny.gguf').path, tmp_path / 'model'
  )
  read = lambda name: json.loads((tmp_path / 'model' / name).read_text())
  assert read('generation_config.json') == {
      'bos_token_id': 1,
      'eos_token_id': 2,
      'pad_token_id': 2,
  }
  named = read('tokenizer_config.json')
  assert named['bos_token'] == '<|im_start|>'
  assert named['eos_token'] == named['pad_token'] == '<|im_end|>'
  assert named['unk_token'] == '<|endoftext|>'
  template = (tmp_path / 'model' / 'chat_template.jinja').read_text()
  assert template == named['chat_template'] == '{{ messages[0].content }}'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'gemma'}, "general.architecture is 'gemma'; known: "),
        ({'pre': 'llama-bpe'}, "tokenizer.ggml.pre is 'llama-bpe'"),
        ({'extra': ['rope_freqs.weight']}, "tensor 'rope_freqs.weight'"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, write_gguf, options, message):
  tiny = write_gguf(tmp_path / 'tiny.gguf', **options)
  with pytest.raises(ValueError, match=message):
    gguf_to_hf.convert(tiny.path, tmp_path / 'model')
