"""Turns a GGUF file into a Hugging Face folder, in numpy: no torch.

python -m tools.gguf_to_hf --gguf=model.gguf --out=models/mine

Reads Llama and Qwen2 models with a byte-level BPE vocabulary. Quantised weights
are widened to float32, so the folder computes what the GGUF file computes.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import pathlib
import re
import sys
import tempfile
from typing import Any

from absl import app, flags
import numpy as np
import safetensors.numpy
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from calm_jax import console, records

_ARCHITECTURES = {'llama': 'LlamaForCausalLM', 'qwen2': 'Qwen2ForCausalLM'}

_LAYER = r'model.layers.\1.'
_TENSORS = (
    (r'token_embd\.weight', 'model.embed_tokens.weight'),
    (r'output_norm\.weight', 'model.norm.weight'),
    (r'output\.weight', 'lm_head.weight'),
    (r'blk\.(\d+)\.attn_norm\.weight', _LAYER + 'input_layernorm.weight'),
    (
        r'blk\.(\d+)\.ffn_norm\.weight',
        _LAYER + 'post_attention_layernorm.weight',
    ),
    (
        r'blk\.(\d+)\.attn_([qkv])\.(weight|bias)',
        _LAYER + r'self_attn.\2_proj.\3',
    ),
    (r'blk\.(\d+)\.attn_output\.weight', _LAYER + 'self_attn.o_proj.weight'),
    (
        r'blk\.(\d+)\.ffn_(gate|up|down)\.weight',
        _LAYER + r'mlp.\2_proj.weight',
    ),
)

_CONTROL_TOKEN = 3

_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r'| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


def convert(gguf_file: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes config, weights, tokenizer and chat template into `folder`.

  Raises:
    ValueError: the file is of a kind that this converter does not know.
  """
  # Late, so that the message of a missing package can say what to install.
  import gguf

  reader = gguf.GGUFReader(gguf_file)
  meta = {name: field.contents() for name, field in reader.fields.items()}
  names = [tensor.name for tensor in reader.tensors]
  folder.mkdir(parents=True, exist_ok=True)
  _write_json(folder / 'config.json', config(meta, names))
  _write_json(folder / 'generation_config.json', _token_ids(meta))
  tokenizer(meta).save(str(folder / 'tokenizer.json'))
  _write_json(folder / 'tokenizer_config.json', tokenizer_config(meta))
  if template := meta.get('tokenizer.chat_template'):
    records.write_text(folder / 'chat_template.jinja', template)
  weights = folder / 'model.safetensors'
  safetensors.numpy.save_file(
      dict(_weights(reader, meta)), weights, metadata={'format': 'pt'}
  )
  # The library makes it readable by its owner only.
  weights.chmod((folder / 'config.json').stat().st_mode)


def config(meta: dict[str, Any], names: list[str]) -> dict[str, Any]:
  """The contents of config.json."""
  arch = _need(meta, 'general.architecture')
  if arch not in _ARCHITECTURES:
    raise ValueError(
        f'general.architecture is {arch!r}; known: {sorted(_ARCHITECTURES)}'
    )
  if scaling := meta.get(f'{arch}.rope.scaling.type'):
    raise ValueError(f'{arch}.rope.scaling.type {scaling!r} is not supported')
  heads = _need(meta, f'{arch}.attention.head_count')
  dim = _need(meta, f'{arch}.embedding_length')
  return {
      'architectures': [_ARCHITECTURES[arch]],
      'model_type': arch,
      'vocab_size': len(_need(meta, 'tokenizer.ggml.tokens')),
      'hidden_size': dim,
      'intermediate_size': _need(meta, f'{arch}.feed_forward_length'),
      'num_hidden_layers': _need(meta, f'{arch}.block_count'),
      'num_attention_heads': heads,
      'num_key_value_heads': meta.get(f'{arch}.attention.head_count_kv', heads),
      'head_dim': meta.get(f'{arch}.attention.key_length', dim // heads),
      'max_position_embeddings': _need(meta, f'{arch}.context_length'),
      'rms_norm_eps': _short(
          _need(meta, f'{arch}.attention.layer_norm_rms_epsilon')
      ),
      'rope_theta': _short(meta.get(f'{arch}.rope.freq_base', 10000.0)),
      'rope_scaling': None,
      'hidden_act': 'silu',
      'attention_bias': arch == 'qwen2',
      'tie_word_embeddings': 'output.weight' not in names,
      'torch_dtype': 'float32',
  } | _token_ids(meta)


def hf_name(name: str) -> str:
  """Hugging Face's name of a GGUF tensor."""
  for pattern, replacement in _TENSORS:
    if match := re.fullmatch(pattern, name):
      return match.expand(replacement)
  raise ValueError(f'unknown tensor {name!r} in the GGUF file')


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
  """Undoes llama.cpp's order of rotary rows: pairs become two halves."""
  pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
  return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def tokenizer(meta: dict[str, Any]) -> tokenizers.Tokenizer:
  """The byte-level BPE tokenizer of the file."""
  if (kind := _need(meta, 'tokenizer.ggml.model')) != 'gpt2':
    raise ValueError(f'tokenizer.ggml.model is {kind!r}; known: gpt2')
  tokens = _need(meta, 'tokenizer.ggml.tokens')
  merges = [tuple(m.split(' ')) for m in _need(meta, 'tokenizer.ggml.merges')]
  vocab = {token: i for i, token in enumerate(tokens)}
  result = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
  _set_pre_tokenizer(result, _need(meta, 'tokenizer.ggml.pre'))
  result.decoder = decoders.ByteLevel()
  kinds = _need(meta, 'tokenizer.ggml.token_type')
  control = [
      t for t, k in zip(tokens, kinds, strict=True) if k == _CONTROL_TOKEN
  ]
  result.add_special_tokens(
      [
          tokenizers.AddedToken(t, special=True, normalized=False)
          for t in control
      ]
  )
  return result


def tokenizer_config(meta: dict[str, Any]) -> dict[str, Any]:
  """The contents of tokenizer_config.json."""
  tokens = _need(meta, 'tokenizer.ggml.tokens')
  named = {
      f'{role}_token': tokens[meta[key]]
      for role, key in (
          ('bos', 'tokenizer.ggml.bos_token_id'),
          ('eos', 'tokenizer.ggml.eos_token_id'),
          ('pad', 'tokenizer.ggml.padding_token_id'),
          ('unk', 'tokenizer.ggml.unknown_token_id'),
      )
      if key in meta
  }
  arch = _need(meta, 'general.architecture')
  result = named | {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'add_bos_token': bool(meta.get('tokenizer.ggml.add_bos_token', False)),
      'add_prefix_space': False,
      'clean_up_tokenization_spaces': False,
      'model_max_length': _need(meta, f'{arch}.context_length'),
  }
  if template := meta.get('tokenizer.chat_template'):
    result['chat_template'] = template
  return result


def _set_pre_tokenizer(result: tokenizers.Tokenizer, kind: str) -> None:
  if kind == 'smollm':
    first = pre_tokenizers.Digits(individual_digits=True)
    last = pre_tokenizers.ByteLevel(add_prefix_space=False)
  elif kind == 'qwen2':
    result.normalizer = normalizers.NFC()
    words = tokenizers.Regex(_QWEN2_WORDS)
    first = pre_tokenizers.Split(words, behavior='isolated')
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  else:
    raise ValueError(f'tokenizer.ggml.pre is {kind!r}; known: smollm, qwen2')
  result.pre_tokenizer = pre_tokenizers.Sequence([first, last])


def _weights(reader, meta) -> Iterator[tuple[str, np.ndarray]]:
  from gguf import quants

  arch = meta['general.architecture']
  heads = meta[f'{arch}.attention.head_count']
  # llama.cpp reorders the rotary rows of Llama only.
  reordered = {
      'attn_q': heads,
      'attn_k': meta.get(f'{arch}.attention.head_count_kv', heads),
  }
  with console.progress('convert', len(reader.tensors)) as bar:
    for tensor in reader.tensors:
      weight = quants.dequantize(tensor.data, tensor.tensor_type)
      weight = np.asarray(weight, np.float32)
      part = tensor.name.split('.')[-2]
      if arch == 'llama' and part in reordered:
        weight = unpermute(weight, reordered[part])
      yield hf_name(tensor.name), np.ascontiguousarray(weight)
      bar.advance()


def _token_ids(meta: dict[str, Any]) -> dict[str, int]:
  keys = {
      'bos_token_id': 'tokenizer.ggml.bos_token_id',
      'eos_token_id': 'tokenizer.ggml.eos_token_id',
      'pad_token_id': 'tokenizer.ggml.padding_token_id',
  }
  return {name: int(meta[key]) for name, key in keys.items() if key in meta}


def _need(meta: dict[str, Any], key: str) -> Any:
  if key not in meta:
    raise ValueError(f'the GGUF file lacks the field {key}')
  return meta[key]


def _short(value: float) -> float:
  # The file holds float32: 9.999999747378752e-06 was written as 1e-05.
  return float(str(np.float32(value)))


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
  text = json.dumps(value, indent=2, ensure_ascii=False)
  records.write_text(path, text + '\n')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}')
  out = pathlib.Path(flags.FLAGS.out)
  if out.exists():
    raise app.UsageError(f'{out} exists; remove it or choose another --out')
  out.parent.mkdir(parents=True, exist_ok=True)
  try:
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.gguf-') as tmp:
      made = pathlib.Path(tmp) / 'model'
      convert(pathlib.Path(flags.FLAGS.gguf), made)
      made.rename(out)
  except ImportError as e:
    sys.exit(f"gguf_to_hf: {e}; run: pip install -e '.[demo]'")
  except (OSError, ValueError) as e:
    sys.exit(f'gguf_to_hf: {e}')
  console.say(f'wrote {out}')


if __name__ == '__main__':
  # Not above: fetch_demo_model imports this file and has its own --out.
  flags.DEFINE_string('gguf', None, 'The GGUF file to read.', required=True)
  flags.DEFINE_string(
      'out', None, 'The folder to write; must not exist.', required=True
  )
  app.run(main)
