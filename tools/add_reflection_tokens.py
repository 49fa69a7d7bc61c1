"""Gives a model Self-RAG's reflection tokens: a Hugging Face folder to try it.

python -m tools.add_reflection_tokens --model=models/small --out=models/selfrag

Writes a copy whose tokenizer has the 15 tokens and whose embedding has rows for
them. The rows are drawn around the mean of the others, so the model knows the
tokens but not what they mean: for tests, or to be trained. A token that the
model has already stays as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import shutil
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from calm_jax import console, records
from calm_jax.lm import chat, hub, shards, tokenizer, weights
from calm_jax.retrieval import selfrag

_FLAGS = {
    'single_word': False,
    'lstrip': False,
    'rstrip': False,
    'normalized': False,
    'special': True,
}


def main(argv: Sequence[str] | None = None) -> None:
  args = _parser().parse_args(argv)
  try:
    base = hub.resolve(args.model, args.revision)
    added = add(base, args.out, seed=args.seed)
  except (OSError, ValueError) as e:
    sys.exit(f'add_reflection_tokens: {e}')
  console.say(f'{args.out}: {args.model} with {len(added)} tokens more')


def add(base: pathlib.Path, out: pathlib.Path, *, seed: int) -> dict[str, int]:
  """Writes `out`; the ids of the tokens that `base` did not have.

  Raises:
    ValueError: `out` exists, or `base` is no model that can be used.
  """
  if out.exists():
    raise ValueError(f'{out} exists; remove it or choose another folder')
  cfg = weights.read_config(base)
  # Any template: a model without one has a tokenizer too.
  known = tokenizer.load(base, template=chat.SELFRAG)
  names = [name for name in selfrag.TOKENS if not _has(known, name)]
  added = {name: known.vocab_size + i for i, name in enumerate(names)}
  size = max(cfg.vocab_size, known.vocab_size + len(added))
  values = dict(shards.read_json(base / weights.CONFIG))
  stored = values.get('dtype') or values.get('torch_dtype') or 'float32'
  params = weights.load(base, cfg, dtype=stored)
  rng = np.random.default_rng(seed)
  ids = [*added.values()]
  params['embed_VD'] = _grown(params['embed_VD'], size, ids, rng)
  if not cfg.tied:
    params['head_DV'] = _grown(params['head_DV'].T, size, ids, rng).T
  tmp = out.with_name(f'.{out.name}.growing')
  shutil.rmtree(tmp, ignore_errors=True)
  grown = dataclasses.replace(cfg, vocab_size=size)
  weights.save(tmp, grown, params, base_config=values | {'vocab_size': size})
  hub.copy_text_files(base, tmp)
  _write_tokens(tmp, added)
  os.replace(tmp, out)
  return added


def _has(known: tokenizer.Tokenizer, name: str) -> bool:
  try:
    known.id_of(name)
  except ValueError:
    return False
  return True


def _grown(
    old_VD: Any, size: int, ids: Sequence[int], rng: np.random.Generator
) -> jax.Array:
  """A matrix of `size` rows, those at `ids` drawn around the others' mean."""
  rows = np.asarray(old_VD, np.float32)
  mean, std = rows.mean(0), rows.std(0)
  grown = np.zeros((size, rows.shape[1]), np.float32)
  grown[: len(rows)] = rows
  grown[list(ids)] = mean + std * rng.standard_normal((len(ids), rows.shape[1]))
  return jnp.asarray(grown, old_VD.dtype)


def _write_tokens(folder: pathlib.Path, added: dict[str, int]) -> None:
  """Adds the tokens wherever the folder lists those that were added before."""
  entries = {i: {'content': name} | _FLAGS for name, i in added.items()}
  path = folder / 'tokenizer.json'
  if path.is_file():
    spec = dict(shards.read_json(path))
    tokens = spec.get('added_tokens') or []
    spec['added_tokens'] = tokens + [{'id': i} | e for i, e in entries.items()]
    _write(path, spec)
  path = folder / 'tokenizer_config.json'
  config = dict(shards.read_json(path)) if path.is_file() else {}
  described = config.get('added_tokens_decoder')
  if described is not None or not (folder / 'tokenizer.json').is_file():
    earlier = folder / 'added_tokens.json'
    if described is None and earlier.is_file():
      ids = shards.read_json(earlier)
      described = {i: {'content': name} | _FLAGS for name, i in ids.items()}
    new = {str(i): entry for i, entry in entries.items()}
    old = {str(i): entry for i, entry in (described or {}).items()}
    _write(path, config | {'added_tokens_decoder': old | new})


def _write(path: pathlib.Path, value: Any) -> None:
  text = json.dumps(value, indent=2, ensure_ascii=False)
  records.write_text(path, text + '\n')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add_argument = parser.add_argument
  add_argument('--model', required=True, help='folder or hub id')
  add_argument('--out', type=pathlib.Path, required=True, help='new folder')
  add_argument('--revision', default='main', help='of --model on the hub')
  add_argument('--seed', type=int, default=0, help='of the new rows')
  return parser


if __name__ == '__main__':
  main()
