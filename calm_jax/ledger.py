"""What a stage's folder was made from: fingerprints, and DONE.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import pathlib
import shutil
from typing import Any

from ml_collections import ConfigDict

import calm_jax
from calm_jax import guard, records, settings

DONE = 'DONE.json'  # written last: the folder is complete
PENDING = 'PENDING.json'  # written first: what a killed stage was doing
_NO_RESULT = (PENDING, 'slots.json')

Inputs = Callable[[ConfigDict], dict[str, str]]  # name -> identity of files


def nothing(cfg: ConfigDict) -> dict[str, str]:
  """The inputs of a stage that reads only other stages' folders."""
  del cfg
  return {}


@dataclasses.dataclass(frozen=True)
class Stage:
  """A verb module, and everything that its result depends on."""

  name: str
  about: str
  needs: tuple[str, ...]  # stages whose folders it reads
  fields: tuple[str, ...]  # config fields and groups that it reads
  inputs: Inputs = nothing
  # Whether the processes of a run share its work; if not, the leader does it.
  on_devices: Callable[[ConfigDict], bool] = lambda cfg: False
  # Whether the settings switch it off: then it is passed over, has no folder,
  # and its readers find nothing.
  idle: Callable[[ConfigDict], bool] = lambda cfg: False


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a stage would be made from now, beside what its folder says.

  `record` is the folder's DONE.json or, without one, its PENDING.json. It is
  None where nothing was begun, and empty where files of unknown origin lie.
  An idle stage would be made from nothing.
  """

  stage: Stage
  folder: pathlib.Path
  config: Mapping[str, Any]
  inputs: Mapping[str, str]
  upstream: Mapping[str, str]  # stage -> fingerprint
  record: Mapping[str, Any] | None
  done: bool
  idle: bool = False

  @property
  def fingerprint(self) -> str:
    made_from = (dict(self.config), dict(self.inputs), dict(self.upstream))
    text = json.dumps(made_from, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

  @property
  def changed(self) -> bool:
    """Whether the folder was made from something else."""
    if self.record is None:
      return False
    return self.record.get('fingerprint') != self.fingerprint

  def differences(self) -> list[str]:
    """Its own fields and files that changed, with the old and new value."""
    if self.idle:
      return ['is switched off now, but later stages would read its results']
    if not self.record:
      return [f'holds files, but no {DONE} or {PENDING} says what made them']
    lines = []
    for part, now in (('config', self.config), ('inputs', self.inputs)):
      was = self.record.get(part, {})
      for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
          lines.append(f'{name}: was {was.get(name)!r}, now {now.get(name)!r}')
    return lines

  def outdated(self) -> list[str]:
    """The stages of which the folder was made from another result."""
    was = (self.record or {}).get('upstream', {})
    return [name for name, now in self.upstream.items() if was.get(name) != now]


def plan(
    cfg: ConfigDict, workdir: pathlib.Path, table: Sequence[Stage]
) -> list[Plan]:
  """Every stage under a config, and the state of its folder."""
  flat = settings.flatten(cfg)
  idle = {stage.name for stage in table if stage.idle(cfg)}
  identities = {s.inputs: {} for s in table if s.name not in idle}
  for inputs in identities:  # once each: some hash gigabytes
    identities[inputs] = inputs(cfg)
  prints, plans = {}, []
  for stage in table:
    record, done = _recorded(workdir / stage.name)
    off = stage.name in idle
    item = Plan(
        stage=stage,
        folder=workdir / stage.name,
        config={} if off else _declared(flat, stage.fields),
        inputs={} if off else identities[stage.inputs],
        upstream={} if off else {name: prints[name] for name in stage.needs},
        record=record,
        done=done,
        idle=off,
    )
    prints[stage.name] = item.fingerprint
    plans.append(item)
  return plans


def result(folder: pathlib.Path) -> str:
  """The fingerprint of what a stage's folder holds, '' where it is not done."""
  record, done = _recorded(folder)
  return record.get('fingerprint', '') if record and done else ''


def begin(item: Plan) -> dict[str, Any]:
  """Says in the folder, and returns, what is going to be made from what."""
  made_from = {
      'stage': item.stage.name,
      'fingerprint': item.fingerprint,
      'config': item.config,
      'inputs': item.inputs,
      'upstream': item.upstream,
      # A resumed stage began when it was first begun.
      'started': (item.record or {}).get('started') or _now(),
  }
  _write(item.folder / PENDING, made_from)
  return made_from


def end(
    item: Plan,
    made_from: Mapping[str, Any],
    counts: Mapping[str, Any],
    seconds: float,
) -> None:
  """Seals the folder: all of it is there."""
  ended = {
      'finished': _now(),
      'seconds': round(seconds, 3),
      'counts': dict(counts),
      'versions': _versions(),
  }
  _write(item.folder / DONE, {**made_from, **ended})
  (item.folder / PENDING).unlink()


def forget(item: Plan) -> None:
  """Takes back that a stage began, where it failed before making anything.

  What it chose before that (`lm.batching`) is not a result.
  """
  made = (p for p in item.folder.rglob('*') if p.is_file())
  if all(p.name in _NO_RESULT or p.suffix == '.tmp' for p in made):
    shutil.rmtree(item.folder, ignore_errors=True)


def digest(path: pathlib.Path) -> str:
  """A hash of a file, or of the names and contents of a folder's files.

  Source code and hidden files are left out: they are not data.
  """
  files = sorted(path.rglob('*')) if path.is_dir() else [path]
  total = hashlib.sha256()
  for file in files:
    name = file.relative_to(path).as_posix()
    if file.is_dir() or file.suffix in ('.py', '.pyc') or file.name[0] == '.':
      continue
    with file.open('rb') as f:
      content = hashlib.file_digest(f, 'sha256').hexdigest()
    total.update(f'{content} {name}\n'.encode())
  return f'sha256:{total.hexdigest()}'


def _declared(flat: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
  """The named fields, and all fields of the named groups, as plain JSON."""
  chosen = {
      name: value
      for name, value in flat.items()
      if any(name == f or name.startswith(f + '.') for f in fields)
  }
  return json.loads(json.dumps(chosen))


def _recorded(folder: pathlib.Path) -> tuple[Mapping[str, Any] | None, bool]:
  """The folder's record (see Plan), and whether it is done."""
  for name in (DONE, PENDING):
    path = folder / name
    if path.is_file():
      try:
        return dict(json.loads(path.read_text('utf-8'))), name == DONE
      except (ValueError, TypeError) as e:
        raise guard.Refusal(
            f'{path} is damaged ({e}): delete {folder} to make it again'
        ) from e
  # A kill while PENDING.json was being written leaves only its .tmp.
  if folder.is_dir() and any(p.suffix != '.tmp' for p in folder.iterdir()):
    return {}, False
  return None, False


def _write(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
  records.write_text(path, text + '\n')


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')


def _versions() -> dict[str, str]:
  others = (
      'jax',
      'jaxlib',
      'flax',
      'optax',
      'orbax-checkpoint',
      'transformers',
  )
  versions = {name: importlib.metadata.version(name) for name in others}
  return {'calm_jax': calm_jax.__version__} | versions
