"""Adds a LoRA adapter to its base model: a plain Hugging Face folder.

python -m tools.merge_adapter --adapter=runs/x/align/adapter --out=models/x

`--model` is the base model, a folder or a hub id; without it the adapter's own
note of its base model is followed. The sum is computed in float32 and kept in
the base model's type, or in `--dtype`.
"""

from __future__ import annotations

from collections.abc import Sequence
import os
import pathlib
import shutil
import sys

from absl import app, flags

from calm_jax import console
from calm_jax.lm import hub, shards, weights
from calm_jax.lm import lora as lora_lib

_MODEL = flags.DEFINE_string('model', None, 'Base model: folder or hub id.')
_REVISION = flags.DEFINE_string('revision', 'main', 'Of --model on the hub.')
_ADAPTER = flags.DEFINE_string('adapter', None, 'Folder in PEFT format.')
_OUT = flags.DEFINE_string('out', None, 'Folder to write; must not exist.')
_DTYPE = flags.DEFINE_enum(
    'dtype', None, ['float32', 'bfloat16', 'float16'], 'Of the result.'
)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  if not _ADAPTER.value or not _OUT.value:
    raise app.UsageError('--adapter and --out are needed')
  adapter, out = pathlib.Path(_ADAPTER.value), pathlib.Path(_OUT.value)
  try:
    settings = shards.read_json(adapter / lora_lib.CONFIG)
    model = _MODEL.value or settings.get('base_model_name_or_path')
    if not model:
      raise ValueError(f'{adapter} does not name its base model: give --model')
    base = hub.resolve(model, _REVISION.value)
    merge(base, adapter, out, dtype=_DTYPE.value)
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


if __name__ == '__main__':
  app.run(main)
