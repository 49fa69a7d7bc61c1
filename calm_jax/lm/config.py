"""config.json of Hugging Face <-> DecoderConfig, read without transformers."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

from calm_jax.lm import decoder
from calm_jax.lm import rope as rope_lib

# Fields that are absent in old files, with Hugging Face's defaults.
_NORM_EPS = 1e-6
_ROPE_THETA = 10000.0
_MAX_WINDOW_LAYERS = 28


@dataclasses.dataclass(frozen=True)
class _Family:
  architecture: str
  num_kv_heads: int | None  # where the file has none; None: as many as heads
  window: int | None = None  # where the file has none
  qkv_bias: bool = False


_FAMILIES = {
    'llama': _Family('LlamaForCausalLM', None),
    'mistral': _Family('MistralForCausalLM', 8, window=4096),
    'qwen2': _Family('Qwen2ForCausalLM', 32, qkv_bias=True),
}

# Fields that would change the computation: the one value that is supported.
_FIXED = {
    'hidden_act': 'silu',
    'mlp_bias': False,
    'partial_rotary_factor': 1.0,
    'quantization_config': None,
}


class _Fields:
  """A JSON object whose fields are read with their type checked."""

  def __init__(self, values: Any, where: str):
    if not isinstance(values, Mapping):
      raise ValueError(f'{where}: not a JSON object: {values!r}')
    self._values, self.where = values, where

  def get(self, name: str, default: Any = None) -> Any:
    """Any value; null is the same as absent."""
    value = self._values.get(name)
    return default if value is None else value

  def has(self, name: str) -> bool:
    return name in self._values

  def integer(self, name: str, default: int | None = None) -> int:
    value = self._need(name, default)
    if type(value) is not int or value < 1:
      raise self.error(name, 'is not a positive integer')
    return value

  def number(self, name: str, default: float | None = None) -> float:
    value = self._need(name, default)
    if type(value) not in (int, float) or not 0 < value < float('inf'):
      raise self.error(name, 'is not a positive number')
    return float(value)

  def boolean(self, name: str, *, default: bool) -> bool:
    value = self.get(name, default)
    if not isinstance(value, bool):
      raise self.error(name, 'is not true or false')
    return value

  def inner(self, name: str) -> _Fields:
    return _Fields(self.get(name, {}), f'{self.where}, {name}')

  def error(self, name: str, problem: str) -> ValueError:
    return ValueError(f'{self.where}: {name} {self.get(name)!r} {problem}')

  def _need(self, name: str, default: Any) -> Any:
    value = self.get(name, default)
    if value is None:
      raise ValueError(f'{self.where}: lacks the field {name!r}')
    return value


def from_json(
    values: Mapping[str, Any], path: pathlib.Path
) -> decoder.DecoderConfig:
  """The decoder that a config.json describes; `path` is for messages.

  Raises:
    ValueError: a field is missing or wrong, or asks for what the decoder does
      not compute.
  """
  fields = _Fields(values, str(path))
  family = _family(fields)
  for name, supported in _FIXED.items():
    if fields.get(name, supported) != supported:
      raise fields.error(name, f'is not supported, only {supported!r}')
  if not family.qkv_bias and fields.boolean('attention_bias', default=False):
    raise fields.error('attention_bias', 'is not supported in this family')
  heads = fields.integer('num_attention_heads')
  dim = fields.integer('hidden_size')
  layers = fields.integer('num_hidden_layers')
  cfg = decoder.DecoderConfig(
      vocab_size=fields.integer('vocab_size'),
      num_layers=layers,
      model_dim=dim,
      ffn_dim=fields.integer('intermediate_size'),
      num_heads=heads,
      num_kv_heads=fields.integer(
          'num_key_value_heads', family.num_kv_heads or heads
      ),
      head_dim=fields.integer('head_dim', dim // heads),
      norm_eps=fields.number('rms_norm_eps', _NORM_EPS),
      rope_theta=_rope(fields).number(
          'rope_theta', fields.number('rope_theta', _ROPE_THETA)
      ),
      max_positions=fields.integer('max_position_embeddings'),
      rope_scaling=_rope_scaling(_rope(fields)),
      window=_window(fields, family, layers),
      qkv_bias=family.qkv_bias,
      tied=fields.boolean('tie_word_embeddings', default=False),
  )
  if cfg.num_heads % cfg.num_kv_heads:
    raise fields.error(
        'num_key_value_heads', f'does not divide {heads} attention heads'
    )
  if cfg.head_dim % 2:
    raise fields.error('head_dim', f'({cfg.head_dim}) is odd')
  return cfg


def to_json(cfg: decoder.DecoderConfig) -> dict[str, Any]:
  """A config.json that computes the same, of the plainest family that does."""
  if cfg.qkv_bias:
    model_type = 'qwen2'
    extra = {
        'use_sliding_window': cfg.window is not None,
        'sliding_window': cfg.window,
        # The first layer with a window.
        'max_window_layers': cfg.num_layers if cfg.window is None else 0,
    }
  elif cfg.window is not None:
    model_type, extra = 'mistral', {'sliding_window': cfg.window}
  else:
    model_type, extra = 'llama', {'attention_bias': False, 'mlp_bias': False}
  return {
      'architectures': [_FAMILIES[model_type].architecture],
      'model_type': model_type,
      'vocab_size': cfg.vocab_size,
      'hidden_size': cfg.model_dim,
      'intermediate_size': cfg.ffn_dim,
      'num_hidden_layers': cfg.num_layers,
      'num_attention_heads': cfg.num_heads,
      'num_key_value_heads': cfg.num_kv_heads,
      'head_dim': cfg.head_dim,
      'max_position_embeddings': cfg.max_positions,
      'rms_norm_eps': cfg.norm_eps,
      'rope_theta': cfg.rope_theta,
      'rope_scaling': _rope_scaling_json(cfg.rope_scaling),
      'hidden_act': 'silu',
      'tie_word_embeddings': cfg.tied,
  } | extra


def _family(fields: _Fields) -> _Family:
  by_architecture = {f.architecture: f for f in _FAMILIES.values()}
  named = fields.get('architectures', [])
  unknown = [name for name in named if name not in by_architecture]
  if unknown:
    raise fields.error(
        'architectures', f'is not supported; known: {sorted(by_architecture)}'
    )
  model_type = fields.get('model_type')
  if model_type is None and named:
    return by_architecture[named[0]]
  if model_type not in _FAMILIES:
    raise fields.error(
        'model_type', f'is not supported; known: {sorted(_FAMILIES)}'
    )
  return _FAMILIES[model_type]


def _rope(fields: _Fields) -> _Fields:
  """What transformers 4 calls rope_scaling and 5 calls rope_parameters."""
  old = fields.get('rope_scaling')
  return fields.inner('rope_scaling' if old else 'rope_parameters')


def _rope_scaling(rope: _Fields) -> rope_lib.RopeScaling | None:
  if rope.get('partial_rotary_factor', 1.0) != 1.0:
    raise rope.error('partial_rotary_factor', 'is not supported, only 1.0')
  name = 'rope_type' if rope.has('rope_type') else 'type'
  kind = rope.get(name, 'default')
  if kind == 'default':
    return None
  if kind == 'linear':
    return rope_lib.RopeScaling(kind, rope.number('factor'))
  if kind != 'llama3':
    raise rope.error(name, 'is not supported; known: default, linear, llama3')
  return rope_lib.RopeScaling(
      kind,
      rope.number('factor'),
      low_freq_factor=rope.number('low_freq_factor'),
      high_freq_factor=rope.number('high_freq_factor'),
      original_positions=rope.integer('original_max_position_embeddings'),
  )


def _rope_scaling_json(
    scaling: rope_lib.RopeScaling | None,
) -> dict[str, Any] | None:
  if scaling is None:
    return None
  result = {'rope_type': scaling.kind, 'factor': scaling.factor}
  if scaling.kind == 'linear':
    return result
  return result | {
      'low_freq_factor': scaling.low_freq_factor,
      'high_freq_factor': scaling.high_freq_factor,
      'original_max_position_embeddings': scaling.original_positions,
  }


def _window(fields: _Fields, family: _Family, layers: int) -> int | None:
  """The sliding window, which must be the same in every layer."""
  if family is _FAMILIES['qwen2']:
    return _qwen2_window(fields, layers)
  if family.window is None:
    return None
  if fields.has('sliding_window') and fields.get('sliding_window') is None:
    return None
  return fields.integer('sliding_window', family.window)


def _qwen2_window(fields: _Fields, layers: int) -> int | None:
  if not fields.boolean('use_sliding_window', default=False):
    return None
  first = fields.get('max_window_layers', _MAX_WINDOW_LAYERS)
  if type(first) is not int:
    raise fields.error('max_window_layers', 'is not an integer')
  windowed = fields.get(
      'layer_types',
      ['sliding_attention' if i >= first else 'full' for i in range(layers)],
  ).count('sliding_attention')
  if windowed == 0:
    return None
  if windowed < layers:
    raise fields.error(
        'use_sliding_window',
        f'for {windowed} of {layers} layers is not supported: all or none',
    )
  return fields.integer('sliding_window')
