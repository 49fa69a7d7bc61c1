"""Low-rank adapters: a second tree of arrays, read and written as PEFT does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
import difflib
import functools
import json
import math
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import numpy as safetensors

from calm_jax import records
from calm_jax.lm import decoder

CONFIG = 'adapter_config.json'
WEIGHTS = 'adapter_model.safetensors'

# PEFT's settings that a plain adapter may have. Any other one that is set, in
# whatever version of PEFT, makes the adapter compute something else.
_PLAIN = frozenset(
    {
        'auto_mapping',
        'base_model_name_or_path',
        'inference_mode',
        'init_lora_weights',
        'lora_alpha',
        'lora_dropout',
        'megatron_core',
        'peft_type',
        'peft_version',
        'qalora_group_size',
        'r',
        'revision',
        'target_modules',
        'task_type',
    }
)
_UNSET = (None, False, 'none', {}, [])
# Other initialisations (PiSSA, OLoRA, ...) change the base model too.
_PLAIN_INITS = (None, True, False, 'gaussian', 'orthogonal')


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """Which projections are adapted, and how strongly: alpha / rank."""

  rank: int
  alpha: float
  targets: tuple[str, ...]

  def __post_init__(self):
    if self.rank < 1:
      raise ValueError(f'LoRA rank {self.rank}: must be at least 1')
    for name in self.targets:
      if name not in decoder.PROJECTIONS:
        near = difflib.get_close_matches(name, decoder.PROJECTIONS, 1, 0)[0]
        raise ValueError(
            f'LoRA target {name!r} is no projection; did you mean {near!r}?'
            f' There are {", ".join(decoder.PROJECTIONS)}'
        )

  @property
  def scale(self) -> float:
    return self.alpha / self.rank


def init(
    cfg: decoder.DecoderConfig, lora_cfg: LoraConfig, key: jax.Array
) -> decoder.Params:
  """Float32 factors as PEFT draws them: `a` uniform, `b` zero."""
  order = list(decoder.PROJECTIONS)
  layers = {}
  for i in range(cfg.num_layers):
    layers[i] = {}
    for name in lora_cfg.targets:
      ins, outs = _shapes(cfg, name)
      # kaiming_uniform(a=sqrt(5)) is this bound.
      bound = 1 / math.sqrt(math.prod(ins))
      draw = jax.random.fold_in(key, i * len(order) + order.index(name))
      shape = (*ins, lora_cfg.rank)
      layers[i][name] = {
          'a': jax.random.uniform(draw, shape, jnp.float32, -bound, bound),
          'b': jnp.zeros((lora_cfg.rank, *outs), jnp.float32),
      }
  return {'layers': layers}


def scaled(lora: decoder.Params, scale: float) -> decoder.Params:
  """The factors as `decoder.forward` takes them: `b` times alpha / rank."""
  return {
      'layers': {
          i: {name: {'a': f['a'], 'b': f['b'] * scale} for name, f in d.items()}
          for i, d in lora['layers'].items()
      }
  }


def merge(
    params: decoder.Params, lora: decoder.Params, scale: float
) -> decoder.Params:
  """Base parameters with the adapter added; what it leaves alone is shared."""
  layers = {}
  for i, layer in params['layers'].items():
    layers[i] = {
        k: dict(v) if isinstance(v, dict) else v for k, v in layer.items()
    }
    for name, factors in lora['layers'][i].items():
      group, weight, _ = decoder.PROJECTIONS[name]
      old = layers[i][group][weight]
      update = jnp.tensordot(
          factors['a'], factors['b'], 1, preferred_element_type=jnp.float32
      )
      new = old.astype(jnp.float32) + scale * update
      layers[i][group][weight] = new.astype(old.dtype)
  return {**params, 'layers': layers}


def save_peft(
    folder: pathlib.Path,
    lora: decoder.Params,
    lora_cfg: LoraConfig,
    *,
    base_model: str,
) -> None:
  """Writes an adapter that PEFT, TRL and vLLM load."""
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {}
  for i, name, stem in _entries(lora['layers'], lora_cfg.targets):
    factors = {k: np.asarray(v) for k, v in lora['layers'][i][name].items()}
    a_RI = factors['a'].reshape(-1, lora_cfg.rank).T
    b_OR = factors['b'].reshape(lora_cfg.rank, -1).T
    # safetensors writes the buffer as it lies in memory.
    tensors[f'{stem}.lora_A.weight'] = np.ascontiguousarray(a_RI, np.float32)
    tensors[f'{stem}.lora_B.weight'] = np.ascontiguousarray(b_OR, np.float32)
  tmp = folder / (WEIGHTS + '.tmp')
  with tmp.open('wb') as f:
    f.write(safetensors.save(tensors, {'format': 'pt'}))
    f.flush()
    os.fsync(f.fileno())
  os.replace(tmp, folder / WEIGHTS)
  text = json.dumps(_peft_config(lora_cfg, base_model), indent=2)
  records.write_text(folder / CONFIG, text + '\n')


def load_peft(
    folder: pathlib.Path, cfg: decoder.DecoderConfig
) -> tuple[decoder.Params, LoraConfig]:
  """An adapter as float32 factors, and its settings.

  Raises:
    ValueError: it uses a setting of PEFT that is not supported, or its tensors
      are not exactly those that the settings and the model call for.
  """
  path = folder / CONFIG
  settings = json.loads(path.read_text(encoding='utf-8'))
  lora_cfg = _read_config(path, settings)
  path = folder / WEIGHTS
  tensors = dict(safetensors.load_file(path))
  layers = {i: {} for i in range(cfg.num_layers)}
  for i, name, stem in _entries(layers, lora_cfg.targets):
    ins, outs = _shapes(cfg, name)
    rank = lora_cfg.rank
    shape = (rank, math.prod(ins))
    a_RI = _take(tensors, f'{stem}.lora_A.weight', shape, path)
    shape = (math.prod(outs), rank)
    b_OR = _take(tensors, f'{stem}.lora_B.weight', shape, path)
    layers[i][name] = {
        'a': jnp.asarray(a_RI.T.reshape(*ins, rank)),
        'b': jnp.asarray(b_OR.T.reshape(rank, *outs)),
    }
  if tensors:
    raise ValueError(
        f'{path}: {len(tensors)} tensors belong to no target of {CONFIG}'
        f' or to no layer of the model: {sorted(tensors)[:3]}'
    )
  return {'layers': layers}, lora_cfg


@functools.lru_cache(maxsize=64)
def _shapes(
    cfg: decoder.DecoderConfig, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """The input and the output dimensions of a projection, in every layer."""
  group, weight, in_dims = decoder.PROJECTIONS[name]
  one_layer = dataclasses.replace(cfg, num_layers=1)
  layer = decoder.abstract(one_layer, jnp.float32)['layers'][0]
  shape = layer[group][weight].shape
  return shape[: len(in_dims)], shape[len(in_dims) :]


def _entries(
    layers: Mapping[int, Any], targets: tuple[str, ...]
) -> Iterator[tuple[int, str, str]]:
  """Layer, projection and PEFT's name for it."""
  modules = {'attn': 'self_attn', 'ffn': 'mlp'}
  for i in layers:
    for name in targets:
      module = modules[decoder.PROJECTIONS[name][0]]
      yield i, name, f'base_model.model.model.layers.{i}.{module}.{name}'


def _peft_config(lora_cfg: LoraConfig, base_model: str) -> dict[str, Any]:
  return {
      'base_model_name_or_path': base_model,
      'bias': 'none',
      'fan_in_fan_out': False,
      'inference_mode': True,
      'init_lora_weights': True,
      'lora_alpha': lora_cfg.alpha,
      'lora_dropout': 0.0,
      'modules_to_save': None,
      'peft_type': 'LORA',
      'r': lora_cfg.rank,
      'target_modules': list(lora_cfg.targets),
      'task_type': 'CAUSAL_LM',
      'use_dora': False,
      'use_rslora': False,
  }


def _read_config(path: pathlib.Path, settings: Mapping[str, Any]) -> LoraConfig:
  wrong = {k: v for k, v in settings.items() if k not in _PLAIN}
  wrong = {k: v for k, v in wrong.items() if v not in _UNSET}
  if settings.get('init_lora_weights') not in _PLAIN_INITS:
    wrong['init_lora_weights'] = settings['init_lora_weights']
  if settings.get('peft_type') != 'LORA':
    wrong['peft_type'] = settings.get('peft_type')
  if isinstance(settings['target_modules'], str):
    wrong['target_modules'] = settings['target_modules']
  if wrong:
    name, value = min(wrong.items())
    raise ValueError(
        f'{path}: {name} = {value!r} is not supported; merge the adapter into'
        ' its base model with PEFT and use the merged model'
    )
  # PEFT also writes whole paths: model.layers.0.self_attn.q_proj.
  names = {target.rpartition('.')[2] for target in settings['target_modules']}
  order = [*decoder.PROJECTIONS]
  targets = sorted(names, key=lambda n: order.index(n) if n in order else -1)
  try:
    alpha = float(settings['lora_alpha'])
    return LoraConfig(settings['r'], alpha, tuple(targets))
  except ValueError as e:
    raise ValueError(f'{path}: {e}') from e


def _take(
    tensors: dict[str, np.ndarray],
    name: str,
    shape: tuple[int, ...],
    path: pathlib.Path,
) -> np.ndarray:
  if name not in tensors:
    raise ValueError(f'{path}: lacks {name}')
  tensor = tensors.pop(name)
  if tensor.shape != shape:
    raise ValueError(f'{path}: {name} is {tensor.shape}, not {shape}')
  return tensor.astype(np.float32)
