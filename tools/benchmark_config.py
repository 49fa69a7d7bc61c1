"""The settings of a run as those of a benchmark: --config=configs/demo.py."""

from __future__ import annotations

from typing import Any

from absl import flags
from ml_collections import ConfigDict


def apply(values: flags.FlagValues, cfg: ConfigDict) -> None:
  """Sets the flags that a config says, but for those given by hand."""
  for name, value in settings(cfg).items():
    by_hand = ('model', 'shape') if name == 'model' else (name,)
    if not any(values[other].present for other in by_hand):
      values[name].value = value


def settings(cfg: ConfigDict) -> dict[str, Any]:
  """What the fields of a config are called here."""
  found = {
      'model': cfg.model,
      'dtype': cfg.dtype,
      'samples': cfg.sample.m,
      'max_new_tokens': cfg.sample.max_new_tokens,
      'batch': cfg.train.batch_size,
  }
  if isinstance(cfg.sample.slots, int):
    found['slots'] = cfg.sample.slots
  return found
