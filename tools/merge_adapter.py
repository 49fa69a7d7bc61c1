"""Adds a LoRA adapter to its base model: a plain Hugging Face folder.

python -m tools.merge_adapter --adapter=runs/x/align/adapter --out=models/x

`--model` is the base model, a folder or a hub id; without it the adapter's own
note of its base model is followed. The sum is computed in float32 and kept in
the base model's type, or in `--dtype`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
import pathlib
import shutil
import sys

from calm_jax import console
from calm_jax.lm import hub, shards, weights
from calm_jax.lm import lora as lora_lib


def main(argv: Sequence[str] | None = None) -> None:
  args = _parser().parse_args(argv)
  adapter, out = args.adapter, args.out
  try:
    settings = shards.read_json(adapter / lora_lib.CONFIG)
    model = args.model or settings.get('base_model_name_or_path')
    if not model:
      raise ValueError(f'{adapter} does not name its base model: give --model')
    base = hub.resolve(model, args.revision)
    merge(base, adapter, out, dtype=args.dtype)
  except (OSError, ValueError) as e:
    sys.exit(f'merge_adapter: {e}')
  console.say(f'{out}: {model} with {adapter}')


def merge(
    base: pathlib.Path,
    adapter: pathlib.Path,
    out: pathlib.Path,
    *,
    dtype: str | None = None,
) -> None:
  """Writes `out`: merged weights, and the base model's other files.

  Raises:
    ValueError: `out` exists, or the adapter is not one of this model.
  """
  if out.exists():
    raise ValueError(f'{out} exists; remove it or choose another folder')
  config = shards.read_json(base / weights.CONFIG)
  stored = config.get('dtype') or config.get('torch_dtype') or 'float32'
  cfg = weights.read_config(base)
  lora, lora_cfg = lora_lib.load_peft(adapter, cfg)
  params = weights.load(base, cfg, dtype=dtype or stored)
  merged = lora_lib.merge(params, lora, lora_cfg.scale)
  tmp = out.with_name(f'.{out.name}.merging')
  shutil.rmtree(tmp, ignore_errors=True)
  weights.save(tmp, cfg, merged, base_config=config)
  hub.copy_text_files(base, tmp)
  os.replace(tmp, out)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  path = pathlib.Path
  add = parser.add_argument
  add('--adapter', type=path, required=True, help='folder in PEFT format')
  add('--out', type=path, required=True, help='to write; must not exist')
  add('--model', help='base model: folder or hub id')
  add('--revision', default='main', help='of --model on the hub')
  add('--dtype', choices=('float32', 'bfloat16', 'float16'), help='of it')
  return parser


if __name__ == '__main__':
  main()
