"""The stages in order: what each depends on; skip, resume or refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import importlib
import pathlib
import shlex
import time
from typing import Any

from ml_collections import ConfigDict

from calm_jax import console, guard, ledger, records, settings


def _data(cfg: ConfigDict) -> dict[str, str]:
  """The raw data by content: a moved folder is still the same data."""
  bundled = pathlib.Path(__file__).parent / 'datasets'
  return {'data': ledger.digest(pathlib.Path(cfg.data.path or bundled))}


def _model(cfg: ConfigDict) -> dict[str, str]:
  """A folder by content; a model on the hub by name, as asking it is slow."""
  folder = pathlib.Path(cfg.model)
  if not folder.is_dir():
    return {'model': f'{cfg.model} at {cfg.revision}'}
  # Late: --help and a look at a finished run need no numpy.
  from calm_jax.lm import hub

  try:
    return {'model': hub.identity(folder)}
  except ValueError as e:
    raise guard.Refusal(f'config.model = {cfg.model!r}: {e}') from e


def _translator(cfg: ConfigDict) -> dict[str, str]:
  if cfg.translate.backend == 'model':
    return _model(cfg) | {
        'translator.dtype': cfg.dtype,
        'translator.seed': str(cfg.seed),
        'translator.max_new_tokens': str(cfg.sample.max_new_tokens),
    }
  if cfg.translate.backend == 'files':
    folder = pathlib.Path(cfg.translate.path)
    return {'translations': ledger.digest(folder)}
  return {}


# What a stage's `needs` depend on is in their fingerprints, and not repeated.
# The mesh is no field of sampling: where it computes does not change a sample.
STAGES = (
    ledger.Stage(
        'read',
        'raw data to questions',
        needs=(),
        fields=(
            'data.name',
            'data.train_split',
            'data.test_split',
            'languages',
            'limit',
        ),
        inputs=_data,
    ),
    ledger.Stage(
        'translate',
        'questions into every language',
        needs=('read',),
        fields=('languages', 'translate.backend'),
        inputs=_translator,
    ),
    ledger.Stage(
        'sample',
        'several answers to every question in every language',
        needs=('translate',),
        fields=('dtype', 'seed', 'prompt', 'sample'),
        inputs=_model,
    ),
    ledger.Stage(
        'vote',
        'the most self-consistent answer to every question',
        needs=('translate', 'sample'),
        fields=('seed', 'vote'),
    ),
    ledger.Stage(
        'pair',
        'chosen and rejected answers, or targets to imitate',
        needs=('translate', 'sample', 'vote'),
        fields=('seed', 'pair', 'translate.backend', 'train.method'),
        inputs=_translator,
    ),
    ledger.Stage(
        'align',
        'a LoRA adapter that prefers the chosen answers',
        needs=('pair',),
        fields=('dtype', 'seed', 'mesh', 'lora', 'train'),
        inputs=_model,
    ),
    ledger.Stage(
        'evaluate',
        'answers to the test questions before and after',
        needs=('translate', 'align'),
        fields=('dtype', 'seed', 'prompt', 'sample', 'evaluate'),
        inputs=_model,
    ),
    ledger.Stage(
        'report',
        'tables, plots, and a page for any question',
        needs=('translate', 'sample', 'vote', 'pair', 'align', 'evaluate'),
        fields=(),
    ),
)


def run(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    stages: Sequence[str] = (),
    *,
    table: Sequence[ledger.Stage] = STAGES,
    package: str = 'calm_jax',
) -> None:
  """Runs the stages that are not done yet; all, when none is named.

  Raises:
    settings.ConfigError: the settings are wrong; nothing was touched.
    guard.Refusal: the folder is in use or holds other work; as above.
  """
  chosen = _choose(stages, table)
  settings.check(cfg)
  cfg = settings.normalise(cfg)
  with guard.stoppable(), guard.locked(workdir):
    plans = ledger.plan(cfg, workdir, table)
    _refuse_changed(_with_upstream(chosen, plans), workdir)
    _refuse_missing(chosen, plans)
    todo = [item for item in plans if item.stage.name in chosen]
    for number, item in enumerate(todo, 1):
      console.say(_header(item, f'{number}/{len(todo)}'))
      if not item.done:
        module = importlib.import_module(f'{package}.{item.stage.name}')
        _run_stage(item, module.run, cfg, workdir)
    if all(item.done for item in todo):
      console.say('Nothing to do: everything was done with these settings.')
    if 'report' in chosen:
      _summary(workdir, package)


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
    if item.stage.name in wanted:
      wanted.update(item.stage.needs)
  return [item for item in plans if item.stage.name in wanted]


def _refuse_changed(
    plans: Sequence[ledger.Plan], workdir: pathlib.Path
) -> None:
  """Refuses to touch what was made with other settings."""
  changed = [item for item in plans if item.changed]
  if not changed:
    return
  lines = [f'{workdir} was made with other settings; nothing was changed.']
  for item in changed:
    state = 'done' if item.done else 'begun'
    lines.append(f'  {item.stage.name} ({item.folder}, {state}):')
    lines += [f'    {line}' for line in item.differences()]
  folders = ' '.join(shlex.quote(str(item.folder)) for item in changed)
  lines.append('Use another --workdir, or delete what is out of date:')
  lines.append(f'  rm -r {folders}')
  raise guard.Refusal('\n'.join(lines))


def _refuse_missing(chosen: set[str], plans: Sequence[ledger.Plan]) -> None:
  """Refuses to run a stage whose upstream is neither done nor chosen."""
  ready = chosen | {item.stage.name for item in plans if item.done}
  lines = []
  for item in plans:
    missing = [name for name in item.stage.needs if name not in ready]
    if item.stage.name in chosen and not item.done and missing:
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


def _run_stage(
    item: ledger.Plan, verb: Verb, cfg: ConfigDict, workdir: pathlib.Path
) -> None:
  """Runs a stage's verb between the two marks in its folder."""
  ledger.begin(item)
  start = time.monotonic()
  counts = verb(cfg, workdir)
  seconds = time.monotonic() - start
  ledger.end(item, counts, seconds)
  told = ', '.join(f'{name} {value}' for name, value in counts.items())
  console.say(f'  done in {seconds:.1f} s: {told}')


def _summary(workdir: pathlib.Path, package: str) -> None:
  """The scores, and where everything is that a person may want to open."""
  report = importlib.import_module(f'{package}.report')
  path = workdir / 'evaluate' / 'scores.jsonl'
  scores = list(records.read_jsonl(path, records.Score))
  console.console.print(report.summary_table(scores))
  console.say(f'report   {workdir}/report/report.html')
  console.say(f'adapter  {workdir}/align/adapter')
  console.say(f'metrics  {workdir}/align/metrics.jsonl')
  folder = shlex.quote(str(workdir / 'align' / 'tensorboard'))
  console.say(f'curves   tensorboard --logdir {folder}')
