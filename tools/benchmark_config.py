"""The settings of a benchmark: a run's, unless a flag says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from calm_jax import rules, settings, systems
from configs import base
from tools import benchmark_work as work

# Flag -> the field that it sets.
FIELDS = {
    'model': 'model',
    'dtype': 'dtype',
    'seed': 'seed',
    'slots': 'sample.slots',
    'samples': 'sample.m',
    'temperature': 'sample.temperature',
    'top_p': 'sample.top_p',
    'top_k': 'sample.top_k',
    'max_new_tokens': 'sample.max_new_tokens',
    'lora_rank': 'lora.rank',
    'lora_alpha': 'lora.alpha',
    'lora_targets': 'lora.targets',
    'batch': 'train.batch_size',
    'accumulation': 'train.accumulation',
    'length_window': 'train.length_window',
    'layout': 'train.layout',
    'remat': 'train.remat',
    'mesh': 'mesh',
}
# Where there is no config; the rest is as in configs/base.py.
_ALONE = {
    'model': '',
    'dtype': 'float32',
    'seed': 0,
    'mesh.data': 1,
    'sample.slots': 48,
    'sample.max_new_tokens': 128,
    'train.accumulation': 1,
    'train.length_window': 1,
    'train.remat': 'none',
}
_TRAINED = ('lora', 'train')
_GROUPS = {'sampling': ('sample',), 'training': _TRAINED}


def resolve(
    config: ConfigDict | None, system: str | None, given: Mapping[str, Any]
) -> ConfigDict:
  """The config, or the default one, with the flags that were `given`.

  Raises:
    ValueError: a field has a wrong value, or it is not said which system.
  """
  cfg = edited(base.get_config(), _ALONE) if config is None else config
  cfg = _system(cfg, system)
  edits = {FIELDS[flag]: value for flag, value in given.items()}
  sizes = edits.pop('mesh', None)
  if sizes is not None:
    edits |= zip(('mesh.data', 'mesh.fsdp', 'mesh.tensor'), sizes, strict=True)
  # Of training one pass is measured: the others cost the same.
  cfg = settings.normalise(edited(cfg, edits | {'train.epochs': 1}))
  flat = settings.flatten(cfg)
  names = [n for n in flat if n.split('.')[0] in ('mesh', 'sample', *_TRAINED)]
  settings.refuse(
      [
          f'config.{name} = {flat[name]!r} {wrong}'
          for name in ('dtype', 'seed', *names)
          if (wrong := rules.RULES[name](flat[name]))
      ]
  )
  return cfg


def edited(cfg: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
  """A copy in which these fields, by their dotted names, are others."""
  copy = cfg.copy_and_resolve_references()
  with copy.unlocked(), copy.ignore_type():
    copy.update_from_flattened_dict(fields)
  return copy


def told(cfg: ConfigDict, job: str) -> dict[str, Any]:
  """The settings that a job depends on, for its result."""
  found = {'seed': cfg.seed, 'mesh': cfg.mesh.to_dict()}
  return found | {name: cfg[name].to_dict() for name in _GROUPS[job]}


def problems(
    cfg: ConfigDict, *, job: str, compare: str, lengths: work.Lengths
) -> Iterator[str]:
  """What the benchmark, or the other side, cannot do as the config says."""
  if cfg.adapter:
    yield (
        f'config.adapter = {cfg.adapter!r}: measured is the model without one,'
        " or with new factors; set --config.adapter=''"
    )
  if job == 'sampling':
    yield from _sampling_problems(cfg, compare)
  else:
    yield from _training_problems(cfg, compare, lengths)


def _sampling_problems(cfg: ConfigDict, compare: str) -> Iterator[str]:
  if cfg.selfrag.mode != 'off':
    yield (
        f'config.selfrag.mode = {cfg.selfrag.mode!r}: an answer beside each'
        ' passage is not measured; set --config.selfrag.mode=off'
    )
  if cfg.sample.answer != 'free' and compare != 'none':
    yield (
        f'config.sample.answer = {cfg.sample.answer!r}: {compare} has no such'
        ' second step; set --config.sample.answer=free or --compare=none'
    )


def _training_problems(
    cfg: ConfigDict, compare: str, lengths: work.Lengths
) -> Iterator[str]:
  train = cfg.train
  if train.method == 'none':
    yield (
        "config.train.method = 'none': nothing is trained; set"
        ' --config.train.method=dpo'
    )
  longest = lengths.pair_prompt.high + lengths.completion.high
  if train.max_length < longest:
    yield (
        f'config.train.max_length = {train.max_length}: pairs have up to'
        f' {longest} tokens; choose shorter --lengths'
    )
  if compare != 'trl':
    return
  same = {'method': 'dpo', 'loss': 'sigmoid', 'sft_weight': 0.0}
  for name, value in same.items():
    if train[name] not in (value, 'none'):
      yield (
          f'config.train.{name} = {train[name]!r}: trl trains with {value!r}'
          f' here; set --config.train.{name}={value} or --compare=none'
      )


def _system(cfg: ConfigDict, system: str | None) -> ConfigDict:
  found = systems.expand(cfg)
  if system in found:
    return found[system]
  if system is not None:
    raise ValueError(
        f'--system={system}: there is no such system'
        + settings.suggest(system, found)
    )
  if found:
    raise ValueError(
        f'config.systems has {", ".join(found)}: choose one with --system=NAME'
    )
  return cfg
