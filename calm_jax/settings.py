"""What a config may hold, checked before any work: every problem at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import difflib
import pathlib
from typing import Any

from ml_collections import ConfigDict

from calm_jax import combinations, needs, rules
from calm_jax.lm import hosts

# Fields that hold several names; flags hand 'en,zh' over as ('en,zh',).
_LISTS = ('languages', 'sample.languages', 'lora.targets', 'order')
_KNOWN = {*rules.RULES, 'systems'}
# A shell leaves the ~ of --config.model=~/x as it is.
_PATHS = (
    'model',
    'adapter',
    'data.path',
    'translate.path',
    'retrieve.corpus',
    'retrieve.index',
    'retrieve.model',
    'pair.file',
)


suggest = rules.suggest  # for all else that is chosen by name


class ConfigError(ValueError):
  """The settings cannot be run; the message lists every reason."""


def normalise(cfg: ConfigDict) -> ConfigDict:
  """A locked, resolved copy: lists of names are tuples, ~ is a folder."""
  cfg = cfg.copy_and_resolve_references()
  flat = flatten(cfg)
  edits = {f: names(flat[f]) for f in _LISTS if f in flat}
  edits |= {f: _expanded(flat[f]) for f in _PATHS if f in flat}
  with cfg.unlocked(), cfg.ignore_type():
    cfg.update_from_flattened_dict(edits)
  return cfg.lock()


def flatten(cfg: ConfigDict) -> dict[str, Any]:
  """Every leaf by its dotted name."""
  flat = {}
  for name, value in cfg.items():
    if isinstance(value, ConfigDict):
      flat |= {f'{name}.{k}': v for k, v in flatten(value).items()}
    else:
      flat[name] = value
  return flat


def check(cfg: ConfigDict) -> None:
  """Raises ConfigError with all problems of a config."""
  refuse(problems(cfg))


def check_names(names: Iterable[str]) -> None:
  """Raises ConfigError with all names that are no setting."""
  refuse(unknown(names))


def unknown(names: Iterable[str], *, prefix: str = '') -> list[str]:
  """A line for every name that is no setting; `prefix` is where it stood."""
  return [_unknown(n, prefix) for n in names if n not in _KNOWN]


def check_machine(cfg: ConfigDict) -> None:
  """Raises ConfigError where devices or model would fail a later stage.

  A model that is on the hub is downloaded: hours of other stages should not
  come before a name that is wrong. `cfg` is normalised and has no problems.
  """
  refuse([*_mesh_problem(cfg), *_hub_problem(cfg)])


def problems(cfg: ConfigDict) -> list[str]:
  """What is wrong with a config, one line a problem."""
  flat = flatten(normalise(cfg))
  found = {}
  for name in rules.RULES.keys() - flat.keys():
    found[name] = f'config.{name} is missing; configs/base.py has every field'
  for name, value in flat.items():
    if name not in rules.RULES:
      found[name] = _unknown(name)
    elif wrong := rules.RULES[name](value):
      found[name] = f'config.{name} = {value!r} {wrong}'
  together = [
      wrong
      for fields, rule in (*combinations.TOGETHER, *needs.NEEDS)
      if not found.keys() & set(fields)
      and (wrong := rule(*(flat[f] for f in fields)))
  ]
  # Two rules may find the same, such as a language that neither split has.
  return list(dict.fromkeys([found[n] for n in sorted(found)] + together))


def refuse(found: list[str]) -> None:
  """Raises ConfigError with the lines found, where there are any."""
  if found:
    count = '1 problem' if len(found) == 1 else f'{len(found)} problems'
    lines = ''.join(f'\n  {line}' for line in found)
    raise ConfigError(f'{count} in the settings:{lines}')


def _mesh_problem(cfg: ConfigDict) -> Iterator[str]:
  mesh = (cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor)
  # Of several processes, none can ask for the devices before the others do.
  if mesh == (-1, 1, 1) or hosts.process_count() > 1:
    return
  # Late: it loads jax, and the default fits any devices.
  from calm_jax.lm import sharding

  try:
    sharding.make_mesh(*mesh)
  except ValueError as e:
    yield f'config.mesh: {e}'


def _hub_problem(cfg: ConfigDict) -> Iterator[str]:
  # Late: a config is checked without the libraries that read models.
  from calm_jax.lm import hub, shards

  try:
    # Some repositories have pickles only, and what is fetched no weights.
    shards.files(hub.resolve(cfg.model, cfg.revision))
  except ValueError as e:
    yield f'config.model = {e}'


def _unknown(name: str, prefix: str = '') -> str:
  """That a field is none, and the nearest one."""
  near = difflib.get_close_matches(name, sorted(_KNOWN), n=1, cutoff=0.5)
  hint = f'; did you mean config.{prefix}{near[0]}?' if near else ''
  return f'config.{prefix}{name} is no setting{hint}'


def names(value: Any) -> Any:
  """('en,zh',) and 'en, zh' as ('en', 'zh'); other types for the checks."""
  parts = [value] if isinstance(value, str) else value
  if not isinstance(parts, (tuple, list)):
    return value
  return tuple(
      name.strip() if isinstance(name, str) else name
      for part in parts
      for name in (part.split(',') if isinstance(part, str) else [part])
      if name != ''
  )


def _expanded(value: Any) -> Any:
  home = isinstance(value, str) and value.startswith('~')
  return str(pathlib.Path(value).expanduser()) if home else value
