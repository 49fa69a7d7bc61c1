"""What the stages' DONE.json say: settings, seconds, counts, versions."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any


@dataclasses.dataclass(frozen=True)
class Stage:
  """One stage that ended. Nested settings and counts have dotted names."""

  name: str
  seconds: float | None
  counts: Mapping[str, Any]
  config: Mapping[str, Any]
  inputs: Mapping[str, Any]
  versions: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Field:
  """A setting or version: its value and the stages that state it."""

  name: str
  value: str
  stages: tuple[str, ...]


def stage(name: str, done: Mapping[str, Any]) -> Stage:
  """Reads what it knows of a DONE.json and passes over the rest."""
  seconds = done.get('seconds')
  return Stage(
      name=name,
      seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
      counts=flatten(done.get('counts')),
      config=flatten(done.get('config')),
      inputs=flatten(done.get('inputs')),
      versions=flatten(done.get('versions')),
  )


def flatten(tree: Any, prefix: str = '') -> dict[str, Any]:
  """{'a': {'b': 1}} as {'a.b': 1}; nothing for what is not a mapping."""
  flat = {}
  for key, value in tree.items() if isinstance(tree, Mapping) else ():
    name = f'{prefix}{key}'
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{name}.'))
    else:
      flat[name] = value
  return flat


def fields(named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Field]:
  """Merges each stage's mapping; a name with two values gets two rows."""
  stages: dict[tuple[str, str], list[str]] = {}
  for stage_name, values in named:
    for name, value in values.items():
      stages.setdefault((name, plain(value)), []).append(stage_name)
  return [Field(n, v, tuple(s)) for (n, v), s in sorted(stages.items())]


def repeated(rows: Sequence[Field]) -> set[str]:
  """The names that have more than one value."""
  counts = collections.Counter(row.name for row in rows)
  return {name for name, count in counts.items() if count > 1}


def plain(value: Any) -> str:
  """A setting as a person would write it."""
  if isinstance(value, str):
    return value or '(empty)'
  if isinstance(value, (list, tuple)):
    return ', '.join(plain(v) for v in value) or '(none)'
  return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
