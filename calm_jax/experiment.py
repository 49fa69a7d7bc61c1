"""Runs the systems of an experiment, stages they share once, and compares them.

Each system is a run of its own, in a folder of its own. A stage that would be
made from the same as an earlier system's is a link to that one's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import os
import pathlib
import shlex

from ml_collections import ConfigDict

from calm_jax import (
    console,
    guard,
    ledger,
    pipeline,
    settings,
    systems,
    translators,
)
from calm_jax.lm import hosts
from calm_jax.qa import lineage

COMPARE = 'compare'  # what --stages calls the comparison
_NEXT = 'next system'  # what the leader tells the other processes

Plans = Mapping[str, Sequence[ledger.Plan]]  # by system


def run(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    stages: Sequence[str] = (),
    *,
    table: Sequence[ledger.Stage] = pipeline.STAGES,
    package: str = 'calm_jax',
) -> None:
  """Runs the stages of every system; as `pipeline.run` where there is one.

  Raises:
    settings.ConfigError, guard.Refusal: as `pipeline.run`.
  """
  members = systems.expand(cfg)
  if not members:
    pipeline.run(cfg, workdir, stages, table=table, package=package)
    return
  with guard.stoppable(), hosts.together():
    if hosts.is_leader():
      systems.check(cfg)
      with guard.locked(workdir):
        _lead(cfg, workdir, stages, members, table, package)
      return
    while name := hosts.from_leader(_NEXT):
      own = systems.located(members[name], workdir)
      folder = workdir / systems.FOLDER / name
      pipeline.run(own, folder, stages, table=table, package=package)


def _lead(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    stages: Sequence[str],
    members: Mapping[str, ConfigDict],
    table: Sequence[ledger.Stage],
    package: str,
) -> None:
  console.say(f'{len(members)} systems: {", ".join(members)}')
  chosen = [name for name in stages if name != COMPARE]
  plans: dict[str, Sequence[ledger.Plan]] = {}
  for number, (name, own) in enumerate(members.items(), 1):
    if not _trained(systems.parent(own), plans):
      console.say(f'System {name} waits for @{systems.parent(own)}: left out')
      continue
    own = systems.located(own, workdir)
    folder = workdir / systems.FOLDER / name
    if chosen or not stages:
      told = f'System {name}, {number} of {len(members)}'
      console.say(f'{told}: {_differences(own, cfg)}')
      _share(ledger.plan(own, folder, table), folder)
      if translators.keeps(own.translate.backend):
        _share_translations(folder, workdir)
      hosts.from_leader(_NEXT, name)
      pipeline.run(own, folder, chosen, table=table, package=package)
    plans[name] = ledger.plan(own, folder, table)
  hosts.from_leader(_NEXT, '')
  if not stages or COMPARE in stages:
    _compare(settings.normalise(cfg), workdir, members, plans)


def _trained(name: str, plans: Plans) -> bool:
  """Whether a system's adapter is there; true of none at all."""
  if not name:
    return True
  found = plans.get(name, ())
  return any(p.stage.name == 'align' and p.done for p in found)


def _differences(own: ConfigDict, cfg: ConfigDict) -> str:
  """What a system has other than the whole, as a person would set it."""
  base, mine = settings.flatten(settings.normalise(cfg)), settings.flatten(own)
  told = [
      f'{name}={value!r}'
      for name, value in mine.items()
      if base[name] != value and name not in ('order', 'paper', 'rounds')
  ]
  return ', '.join(told) or 'the config as it is'


def _share(mine: Iterable[ledger.Plan], folder: pathlib.Path) -> None:
  """Links every stage that another system of the run has made from the same.

  That may be one of another config in the same workdir.
  """
  others = sorted(folder.parent.glob('*'))
  for item in mine:
    if item.folder.is_symlink():
      _check_link(item)
    elif not item.idle and not item.folder.exists():
      for made in (other / item.stage.name for other in others):
        if ledger.result(made) == item.fingerprint:
          folder.mkdir(parents=True, exist_ok=True)
          item.folder.symlink_to(
              os.path.relpath(made.resolve(), folder.resolve())
          )
          break


def _share_translations(folder: pathlib.Path, workdir: pathlib.Path) -> None:
  """One cache and one ledger for all: no text is paid for twice."""
  link, whole = folder / translators.FOLDER, workdir / translators.FOLDER
  whole.mkdir(exist_ok=True)
  if not link.exists():
    folder.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(whole.resolve(), folder.resolve()))


def _check_link(item: ledger.Plan) -> None:
  if not item.folder.exists() or not item.done:
    raise guard.Refusal(
        f'{item.folder} links to {os.readlink(item.folder)}, where that stage'
        f' is not done any more: rm {shlex.quote(str(item.folder))}'
    )


def _compare(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    members: Mapping[str, ConfigDict],
    plans: Plans,
) -> None:
  """Makes the comparison anew whenever a system is another, or one more."""
  # Late: it loads numpy, and only experiments need it.
  from calm_jax import compare

  stage = ledger.Stage(
      COMPARE,
      'the systems side by side',
      needs=(),
      fields=('seed', 'evaluate.bootstrap', 'paper'),
      inputs=lambda cfg: _compared(plans, compare.READS),
  )
  (item,) = ledger.plan(cfg, workdir, (stage,))
  if item.done and not item.changed:
    console.say(f'{COMPARE}: {stage.about}; already done, skipped')
  else:
    console.say(f'{COMPARE}: {stage.about}')
    pipeline.run_stage(
        item,
        lambda cfg, workdir: compare.run(
            [_system(name, members[name], workdir) for name in plans],
            workdir / COMPARE,
            paper=cfg.paper,
            resamples=cfg.evaluate.bootstrap,
            seed=cfg.seed,
        ),
        cfg,
        workdir,
    )
  folder = workdir / COMPARE
  console.say((folder / compare.TEXT).read_text('utf-8').rstrip())
  console.say(f'comparison  {folder / compare.PAGE}')


def _compared(plans: Plans, reads: Sequence[str]) -> dict[str, str]:
  """What the comparison is made from: the systems in order, and results."""
  found = {'systems': ','.join(plans)}
  for name, items in plans.items():
    for item in items:
      if item.stage.name in reads and item.done:
        found[f'{name}/{item.stage.name}'] = item.fingerprint
  return found


def _system(
    name: str, own: ConfigDict, workdir: pathlib.Path
) -> lineage.System:
  sampled = tuple(own.sample.languages or own.languages)
  return lineage.System(
      name=name,
      folder=workdir / systems.FOLDER / name,
      setting=f'{own.data.name} {own.data.test_split}',
      languages=tuple(own.languages),
      trained_on=() if own.train.method == 'none' else sampled,
      start=systems.parent(own),
  )
