"""Several systems of one run: one config, and what is different in each."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
import pathlib
import re
from typing import Any

from ml_collections import ConfigDict

from calm_jax import rules, settings

BASE = 'base'  # the model before any training, where a run has it
FOLDER = 'systems'  # of a run: one folder a system

# What only the run as a whole has.
_OF_THE_RUN = ('order', 'rounds', 'paper')
_NAME = re.compile(r'[A-Za-z0-9_-]+')
_FLAG = re.compile(r'--?config\.systems\.([^.=]+)\.([^=]+)=(.*)', re.DOTALL)

Overrides = dict[str, dict[str, Any]]  # system -> field -> value


def expand(cfg: ConfigDict) -> dict[str, ConfigDict]:
  """Each system's own config, in the order of running; {} for a plain run.

  An adapter that is still to be trained is `@` and its system's name there.

  Raises:
    settings.ConfigError: the systems do not fit together, or lack a field.
  """
  settings.refuse(_misfits(cfg))
  overrides = _overrides(cfg)
  return {name: _own(cfg, overrides, name) for name in _ordered(cfg, overrides)}


def check(cfg: ConfigDict) -> None:
  """Raises settings.ConfigError with all problems of all systems."""
  found = {name: settings.problems(own) for name, own in expand(cfg).items()}
  lines = [line for told in found.values() for line in told]
  everywhere = [
      line
      for line in dict.fromkeys(lines)
      if all(line in told for told in found.values())
  ]
  settings.refuse(
      [
          *everywhere,
          *(
              f'system {name}: {line}'
              for name, told in found.items()
              for line in told
              if line not in everywhere
          ),
      ]
  )


def parent(cfg: ConfigDict) -> str:
  """The system whose adapter this one starts from, '' where there is none."""
  return _above({'adapter': cfg.adapter})


def located(cfg: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
  """The same config, its adapter of another system as a folder of `workdir`."""
  if not parent(cfg):
    return cfg
  folder = workdir / FOLDER / parent(cfg) / 'align' / 'adapter'
  return _edited(cfg, {'adapter': str(folder)})


def take_flags(argv: Sequence[str]) -> tuple[list[str], Overrides]:
  """The arguments that are no --config.systems.NAME.FIELD=VALUE, and those.

  A system has only the fields that it overrides, so that the flags of a config
  do not know the others.
  """
  rest, found = [], {}
  for argument in argv:
    if match := _FLAG.fullmatch(argument):
      name, field, text = match.groups()
      found.setdefault(name, {})[field] = text
    else:
      rest.append(argument)
  return rest, found


def override(cfg: ConfigDict, flags: Overrides) -> None:
  """Sets the fields that flags named, read as the base config's types.

  Raises:
    settings.ConfigError: no such system or field.
  """
  unknown = [
      f'config.systems.{name}: there is no such system'
      + settings.suggest(name, cfg.systems.keys())
      for name in flags
      if name not in cfg.systems
  ]
  settings.refuse(
      [
          *unknown,
          *(line for name in flags for line in _unknown(name, flags[name])),
      ]
  )
  with cfg.unlocked(), cfg.ignore_type():
    for name, fields in flags.items():
      values = {
          field: _parsed(text, _kind(cfg, field))
          for field, text in fields.items()
      }
      merged = settings.flatten(cfg.systems[name]) | values
      cfg.systems[name] = ConfigDict(_nested(merged))


def _own(cfg: ConfigDict, overrides: Overrides, name: str) -> ConfigDict:
  """One system's config, in full."""
  fields = dict(overrides[name])
  own = _edited(cfg, {'order': (), 'rounds': 1, 'paper': ''} | fields)
  with own.unlocked():
    own.systems = ConfigDict()
  trains = own.train.method != 'none'
  before = 'evaluate.before'
  if trains and before not in fields and _has_base(cfg, overrides):
    own = _edited(own, {before: False})  # base is that already
  return settings.normalise(own)


def _has_base(cfg: ConfigDict, overrides: Overrides) -> bool:
  if BASE not in overrides:
    return False
  return overrides[BASE].get('train.method', cfg.train.method) == 'none'


def _overrides(cfg: ConfigDict) -> Overrides:
  if not cfg.systems and cfg.rounds > 1:
    return _rounds(cfg)
  return {name: settings.flatten(cfg.systems[name]) for name in cfg.systems}


def _rounds(cfg: ConfigDict) -> Overrides:
  """Each round samples from, and trains on, what the last one trained."""
  made: Overrides = {BASE: {'train.method': 'none'}, 'round1': {}}
  for number in range(2, cfg.rounds + 1):
    made[f'round{number}'] = {'adapter': f'@round{number - 1}'}
    if cfg.train.method == 'dpo':
      made[f'round{number}']['train.reference'] = 'start'
  return made


def _ordered(cfg: ConfigDict, overrides: Overrides) -> list[str]:
  """As `order` says, then base, then by name; none before what it needs."""
  first = settings.names(cfg.order)
  rest = sorted(overrides.keys() - set(first), key=_by_name)
  placed: dict[str, None] = {}

  def place(name: str) -> None:
    if name not in placed:
      above = _above(overrides[name])
      if above:
        place(above)
      placed[name] = None

  for name in (*first, *rest):
    place(name)
  return list(placed)


def _by_name(name: str) -> tuple[bool, list[str | int]]:
  """round10 after round9, and base before all."""
  parts = re.split(r'(\d+)', name)
  return name != BASE, [int(p) if p.isdigit() else p for p in parts]


def _above(fields: Mapping[str, Any]) -> str:
  adapter = fields.get('adapter', '')
  named = isinstance(adapter, str) and adapter.startswith('@')
  return adapter[1:] if named else ''


def _misfits(cfg: ConfigDict) -> list[str]:
  """What is wrong with the systems as such, one line a problem."""
  if not isinstance(cfg.systems, ConfigDict):
    return ['config.systems must map names to the fields that differ']
  if wrong := list(_wrong_values(cfg)):
    return wrong
  found = list(_plain_misfits(cfg))
  for name in cfg.systems.keys():
    fields = cfg.systems[name]
    if not _NAME.fullmatch(name):
      found.append(f'config.systems: {name!r} is no name: use letters, digits')
    if not isinstance(fields, ConfigDict):
      found.append(f'config.systems.{name} must hold fields, not {fields!r}')
    else:
      found += _unknown(name, settings.flatten(fields))
  found += [
      f'config.order: there is no system {name!r}'
      + settings.suggest(name, cfg.systems.keys())
      for name in settings.names(cfg.order)
      if cfg.systems and name not in cfg.systems
  ]
  return found or list(_lost_adapters(cfg, _overrides(cfg)))


def _wrong_values(cfg: ConfigDict) -> Iterator[str]:
  values = {'order': settings.names(cfg.order)}
  values |= {'rounds': cfg.rounds, 'paper': cfg.paper}
  for name, value in values.items():
    if wrong := rules.RULES[name](value):
      yield f'config.{name} = {value!r} {wrong}'


def _plain_misfits(cfg: ConfigDict) -> Iterator[str]:
  adapter = str(cfg.adapter)
  if cfg.systems and cfg.rounds > 1:
    yield 'config.rounds makes systems of its own: leave config.systems empty'
  if adapter.startswith('@'):
    yield (
        f'config.adapter = {adapter!r}: only one of config.systems can start'
        ' from another; name a folder here'
    )


def _lost_adapters(cfg: ConfigDict, overrides: Overrides) -> Iterator[str]:
  """Systems that start from one that is not there, or trains nothing."""
  for name, fields in overrides.items():
    above, seen = _above(fields), {name}
    where = f'config.systems.{name}.adapter = {"@" + above!r}'
    if above and above not in overrides:
      hint = settings.suggest(above, overrides)
      yield f'{where}: there is no such system{hint}'
      continue
    if above:
      method = overrides[above].get('train.method', cfg.train.method)
      if method == 'none':
        yield f'{where}: that system trains no adapter'
    while above in overrides and above not in seen:
      seen.add(above)
      above = _above(overrides[above])
    if above in seen:
      yield f'{where}: it would start from itself'


def _unknown(name: str, fields: Iterable[str]) -> list[str]:
  """Fields that no system can have."""
  found = settings.unknown(fields, prefix=f'systems.{name}.')
  return found + [
      f'config.systems.{name}.{field} is of the whole run: set config.{field}'
      for field in fields
      if field in _OF_THE_RUN
  ]


def _edited(cfg: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
  copy = cfg.copy_and_resolve_references()
  with copy.unlocked(), copy.ignore_type():
    copy.update_from_flattened_dict(fields)
  return copy.lock()


def _kind(cfg: ConfigDict, field: str) -> type:
  *groups, name = field.split('.')
  for group in groups:
    cfg = cfg[group]
  return cfg.get_type(name)


def _parsed(text: str, kind: type) -> Any:
  """A flag's text as a value of a type, where it is one."""
  if kind is str:
    return text
  if kind is tuple:
    return (text,)
  try:
    value = ast.literal_eval(
        text.capitalize() if text in ('true', 'false') else text
    )
  except (SyntaxError, ValueError):
    return text  # for the rules to judge
  return float(value) if kind is float and type(value) is int else value


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for name, value in flat.items():
    *groups, field = name.split('.')
    level = tree
    for group in groups:
      level = level.setdefault(group, {})
    level[field] = value
  return tree
