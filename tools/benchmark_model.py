"""Models to measure: from a folder, or random with known dimensions."""

from __future__ import annotations

from collections.abc import Sequence
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from calm_jax import console
from calm_jax.lm import config, decoder, sharding, tokenizer, weights
from tools import benchmark_work as work


def _shape(vocab, layers, dim, ffn, heads, kv_heads, **more):
  return decoder.DecoderConfig(
      vocab_size=vocab,
      num_layers=layers,
      model_dim=dim,
      ffn_dim=ffn,
      num_heads=heads,
      num_kv_heads=kv_heads,
      head_dim=dim // heads,
      norm_eps=1e-5,
      **more,
  )


SHAPES = {
    'llama3-8b': _shape(
        128256, 32, 4096, 14336, 32, 8, rope_theta=5e5, max_positions=8192
    ),
    'llama3-70b': _shape(
        128256, 80, 8192, 28672, 64, 8, rope_theta=5e5, max_positions=8192
    ),
    'mistral-7b': _shape(
        32000, 32, 4096, 14336, 32, 8, rope_theta=1e6, max_positions=32768
    ),
    'llama2-7b': _shape(
        32000, 32, 4096, 11008, 32, 32, rope_theta=1e4, max_positions=4096
    ),
    'smollm2-135m': _shape(
        49152,
        30,
        576,
        1536,
        9,
        3,
        rope_theta=1e5,
        max_positions=8192,
        tied=True,
    ),
    'tiny': _shape(512, 2, 64, 128, 4, 2, rope_theta=1e4, max_positions=2048),
}


class Model(NamedTuple):
  """A model to measure; `corpus` is what its prompts are made of."""

  cfg: decoder.DecoderConfig
  params: decoder.Params
  dtype: str
  corpus: Sequence[int]
  mesh: Mesh


def random_model(
    shape: str, dtype: str, seed: int, mesh: Mesh | None = None
) -> Model:
  """Random weights whose next token is about as uncertain as a real model's."""
  if shape not in SHAPES:
    raise ValueError(f'--shape={shape}: there are {", ".join(SHAPES)}')
  cfg, mesh = SHAPES[shape], mesh or _one_device()
  params = _init(cfg, jax.random.key(seed), jnp.dtype(dtype), mesh)
  params['norm_D'] *= peaked_norm(cfg)
  corpus = work.random_corpus(cfg.vocab_size, seed)
  return Model(cfg, jax.block_until_ready(params), dtype, corpus, mesh)


def peaked_norm(cfg: decoder.DecoderConfig) -> float:
  """The weight of the last norm that makes random logits as peaked as real.

  A flat distribution would send every draw down the path for large nuclei.
  Gaussian logits of deviation 2 sqrt(2 ln V) put most of the mass on a few.
  """
  wanted = 2 * math.sqrt(2 * math.log(cfg.vocab_size))
  return wanted / (0.02 * math.sqrt(cfg.model_dim))


def load_model(folder: pathlib.Path, dtype: str, mesh: Mesh) -> Model:
  """The weights of a folder; prompts are cut out of bundled questions."""
  cfg = weights.read_config(folder)
  place = None if mesh.size == 1 else sharding.place(mesh)
  params = weights.load(folder, cfg, dtype=dtype, place=place)
  # Natural text: random ids would surprise a real model.
  corpus = tokenizer.load(folder).encode(_text())
  return Model(cfg, jax.block_until_ready(params), dtype, corpus, mesh)


def config_json(cfg: decoder.DecoderConfig) -> dict[str, Any]:
  """The same dimensions, for other tools."""
  return config.to_json(cfg)


def _one_device() -> Mesh:
  return sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])


def _init(cfg: decoder.DecoderConfig, key, dtype, mesh: Mesh) -> decoder.Params:
  if mesh.size == 1:
    return decoder.init(cfg, key, dtype)
  layout = sharding.of(mesh, decoder.abstract(cfg, dtype))
  # Under jit no device ever holds more than its own part.
  return jax.jit(
      lambda key: decoder.init(cfg, key, dtype), out_shardings=layout
  )(key)


def _text() -> str:
  root = pathlib.Path(console.__file__).parent / 'datasets' / 'demo'
  parts = []
  for line in (root / 'en' / 'train.jsonl').read_text('utf-8').splitlines():
    question = json.loads(line)['question']
    parts.append(question['stem'])
    parts += [f'{c["label"]}. {c["text"]}' for c in question['choices']]
  return '\n'.join(parts)
