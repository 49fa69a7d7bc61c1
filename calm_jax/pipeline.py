"""Runs the stages in order: skip, resume or refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import importlib
import pathlib
import shlex
import time
from typing import Any

from ml_collections import ConfigDict

from calm_jax import console, guard, ledger, records, settings, stages
from calm_jax.lm import hosts

STAGES = stages.STAGES
_NEXT = 'next stage'  # what the leader tells the other processes


def run(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    stages: Sequence[str] = (),
    *,
    table: Sequence[ledger.Stage] = STAGES,
    package: str = 'calm_jax',
) -> None:
  """Runs the stages that are not done yet; all, when none is named.

  Of several processes one leads: it alone writes, prints, and runs what needs
  no devices. The others wait for its word, and join in where devices compute.

  Raises:
    settings.ConfigError: the settings are wrong; nothing was touched.
    guard.Refusal: the folder is in use or holds other work; as above.
  """
  with guard.stoppable(), hosts.together():
    if hosts.is_leader():
      _lead(cfg, workdir, _choose(stages, table), table, package)
      hosts.from_leader(_NEXT, '')
    else:
      _follow(cfg, workdir, package)


def _lead(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    chosen: set[str],
    table: Sequence[ledger.Stage],
    package: str,
) -> None:
  settings.check(cfg)
  cfg = settings.normalise(cfg)
  with guard.locked(workdir):
    plans = ledger.plan(cfg, workdir, table)
    _refuse_changed(_with_upstream(chosen, plans), workdir)
    _refuse_missing(chosen, plans)
    todo = [p for p in plans if p.stage.name in chosen and not p.idle]
    if any(p.stage.on_devices(cfg) and not p.done for p in todo):
      settings.check_machine(cfg)
    for number, item in enumerate(todo, 1):
      console.say(_header(item, f'{number}/{len(todo)}'))
      if not item.done:
        module = importlib.import_module(f'{package}.{item.stage.name}')
        run_stage(item, module.run, cfg, workdir)
    if not todo:
      console.say('Nothing to do: the settings switch these stages off.')
    elif all(item.done for item in todo):
      console.say('Nothing to do: everything was done with these settings.')
    if 'report' in chosen:
      _summary(workdir)


def _follow(cfg: ConfigDict, workdir: pathlib.Path, package: str) -> None:
  """Runs the stages that the leader names, until it names none."""
  console.console.quiet = True
  cfg = settings.normalise(cfg)
  while name := hosts.from_leader(_NEXT):
    if not (workdir / name).is_dir():
      raise hosts.HostsError(
          f'{workdir / name}, which process 0 has made, is not here: --workdir'
          ' must be a folder that all processes share'
      )
    importlib.import_module(f'{package}.{name}').run(cfg, workdir)
    hosts.barrier(name)


def _choose(stages: Sequence[str], table: Sequence[ledger.Stage]) -> set[str]:
  names = [stage.name for stage in table]
  for name in stages:
    if name not in names:
      hint = settings.suggest(name, names)
      raise guard.Refusal(f'--stages: {name!r} is no stage{hint}')
  return set(stages or names)


def _with_upstream(
    chosen: set[str], plans: Sequence[ledger.Plan]
) -> list[ledger.Plan]:
  """The chosen stages and all that they are made from, in order."""
  wanted = set(chosen)
  for item in reversed(plans):
    if item.stage.name in wanted and not item.idle:
      wanted.update(item.stage.needs)
  return [item for item in plans if item.stage.name in wanted]


def _refuse_changed(
    plans: Sequence[ledger.Plan], workdir: pathlib.Path
) -> None:
  """Refuses to touch what was made with other settings."""
  changed = {item.stage.name: item for item in plans if item.changed}
  if not changed:
    return
  lines = [f'{workdir} was made with other settings; nothing was changed.']
  follow = []
  for name, item in changed.items():
    found, outdated = item.differences(), item.outdated()
    if not found and changed.keys() & set(outdated):
      follow.append(name)
      continue
    state = 'done' if item.done else 'begun'
    lines.append(f'  {name} ({item.folder}, {state}):')
    found = found or [f'made from another result of {", ".join(outdated)}']
    lines += [f'    {line}' for line in found]
  if follow:
    lines.append(f'  and what was made from it: {", ".join(follow)}')
  folders = [shlex.quote(str(item.folder)) for item in changed.values()]
  lines.append('Use another --workdir, or delete what is out of date:')
  lines.append(f'  rm -r {" ".join(folders)}')
  raise guard.Refusal('\n'.join(lines))


def _refuse_missing(chosen: set[str], plans: Sequence[ledger.Plan]) -> None:
  """Refuses to run a stage whose upstream is neither done nor chosen."""
  ready = chosen | {p.stage.name for p in plans if p.done or p.idle}
  lines = []
  for item in plans:
    missing = [name for name in item.stage.needs if name not in ready]
    waits = item.stage.name in chosen and not (item.done or item.idle)
    if waits and missing:
      lines.append(f'  {item.stage.name} needs {", ".join(missing)}')
  if lines:
    lines.insert(0, 'Stages that are not done are missing from --stages:')
    lines.append('Add them, or leave --stages out to run all.')
    raise guard.Refusal('\n'.join(lines))


def _header(item: ledger.Plan, number: str) -> str:
  text = f'[{number}] {item.stage.name}: {item.stage.about}'
  if item.done:
    return f'{text}; already done, skipped'
  return f'{text}; going on from before' if item.record else text


Verb = Callable[[ConfigDict, pathlib.Path], Mapping[str, Any]]


def run_stage(
    item: ledger.Plan, verb: Verb, cfg: ConfigDict, workdir: pathlib.Path
) -> None:
  """Runs a stage's verb between the two marks in its folder."""
  made_from = ledger.begin(item)
  start = time.monotonic()
  try:
    if item.stage.on_devices(cfg):
      hosts.from_leader(_NEXT, item.stage.name)
      counts = verb(cfg, workdir)
      hosts.barrier(item.stage.name)
    else:
      counts = verb(cfg, workdir)
  except BaseException:
    # So that other settings may be tried at once; but what other processes
    # still write there must not be of unknown origin.
    if hosts.process_count() == 1:
      ledger.forget(item)
    raise
  seconds = time.monotonic() - start
  ledger.end(item, made_from, counts, seconds)
  console.say(f'  done in {seconds:.1f} s: {_listed(counts)}')


def _listed(counts: Mapping[str, Any]) -> str:
  """Counts for a person; DONE.json has them all, also those that are 0."""
  told = {
      name: f'{value:.4g}' if isinstance(value, float) else value
      for name, value in counts.items()
  }
  shown = [f'{k} {v}' for k, v in told.items() if v != 0]
  return ', '.join(shown) or 'nothing to do'


def _summary(workdir: pathlib.Path) -> None:
  """The scores, and where everything is that a person may want to open."""
  # Only now: it brings numpy, which a wrong flag can do without.
  from calm_jax.html import summary

  path = workdir / 'evaluate' / 'scores.jsonl'
  scores = records.read_jsonl(path, records.Score)
  console.console.print(summary.table(scores))
  console.say(f'report   {workdir}/report/report.html')
  if not (workdir / 'align').is_dir():
    return  # nothing was trained
  console.say(f'adapter  {workdir}/align/adapter')
  console.say(f'metrics  {workdir}/align/metrics.jsonl')
  folder = shlex.quote(str(workdir / 'align' / 'tensorboard'))
  console.say(f'curves   tensorboard --logdir {folder}')
