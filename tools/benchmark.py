"""Measures sampling or training, against the device's floor and other tools.

python -m tools.benchmark --job=sampling --device=cpu --compare=hf \
    --model=models/smollm2-135m-instruct --json=sampling.json

Both sides draw the same numbers of tokens to the same prompts, or train on the
same pairs, in turns; the ratio is ours / theirs, higher is better. The peers
(hf: transformers generate; trl: TRL with PEFT) need the extra parity;
llama_cpp needs llama.cpp's server and the model in --gguf. Of several --slots
and --peer_batches each side gets its best, found by a pass over the work. With
`--shape` the weights are random; `--config` takes all settings of a run, its
flags --config.NAME=VALUE too, on both sides. On a busy machine trust the CPU
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import sys
import time
from typing import Any

from absl import app, logging
from ml_collections import config_flags, ConfigDict

from calm_jax import console, records
from calm_jax.lm import compilation, pages
from tools import benchmark_config as config
from tools import benchmark_flags as flags
from tools import benchmark_report as report
from tools import benchmark_sides as others
from tools import benchmark_turns as turns
from tools import benchmark_work as work

_START = time.monotonic()
_PACKAGES = ('jax', 'jaxlib', 'flax', 'calm_jax')


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  logging.set_verbosity(logging.WARNING)
  cfg = flags.settings()
  prepare_environment(
      flags.DEVICE.value,
      flags.THREADS.value,
      shared=flags.COMPARE.value != 'none',
  )
  try:
    result = measure(cfg)
  except (OSError, ValueError) as e:
    sys.exit(f'benchmark: {e}')
  for line in report.lines(result):
    console.say(line)
  if flags.JSON.value:
    text = json.dumps(result, indent=2) + '\n'
    records.write_text(pathlib.Path(flags.JSON.value), text)


def prepare_environment(device: str, threads: int, *, shared: bool) -> None:
  """Cores, platform and memory: before jax or torch is imported."""
  if threads and device == 'cpu':
    # However many threads XLA makes, they stay on these cores.
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
      raise app.UsageError(f'--threads={threads}: {len(cores)} cores are here')
    os.sched_setaffinity(0, cores[-threads:])
    os.environ['OMP_NUM_THREADS'] = str(threads)
  if device == 'cpu':
    os.environ['JAX_PLATFORMS'] = 'cpu'
  if device == 'gpu':
    # The other side holds a second copy of the weights on the same device. As
    # in launch/, where it is ours alone.
    fraction = '0.45' if shared else '0.92'
    os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', fraction)
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  # As calm_jax.main does.
  compilation.keep()
  pages.keep()


def measure(cfg: ConfigDict) -> dict[str, Any]:
  """Everything: loads, warms up, and measures both sides in turns."""
  # Only now: the environment counts when jax is imported.
  from tools import benchmark_device, benchmark_task

  task = _task(benchmark_task, cfg)
  imported = time.monotonic() - _START
  task, details = _with_best_slots(task)
  compilations = benchmark_device.Compilations()
  benchmark_device.check(flags.DEVICE.value)
  if flags.COMPARE.value != 'none' and benchmark_task.mesh(cfg).size > 1:
    raise ValueError(
        f'config.mesh is of {benchmark_task.mesh(cfg).size} devices, the other'
        ' side has one: set --mesh=1,1,1'
    )
  times = [time.monotonic()]
  model = benchmark_task.load(task)
  items = benchmark_task.items(task, model)
  times.append(time.monotonic())
  ours = benchmark_task.side(task, model, items)
  before = compilations.summary()
  ours.warm_up()
  times.append(time.monotonic())
  compiled = _difference(compilations.summary(), before)
  # Before the device is measured, which takes memory too.
  peak = benchmark_device.peak_memory()
  device = benchmark_device.measure_device(cfg.dtype)
  sides = {'ours': turns.Side(ours.run, lambda: peak, ours.chosen | details)}
  with _peer(task, model, items) as theirs:
    if theirs is not None:
      sides['theirs'] = theirs
    before = compilations.summary()
    runs = turns.in_turns(
        {k: side.run for k, side in sides.items()}, flags.REPEATS.value
    )
    memory = {k: side.peak_memory() for k, side in sides.items()}
  again = _difference(compilations.summary(), before)
  device = benchmark_device.best(
      device, benchmark_device.measure_device(cfg.dtype)
  )
  spent = [b - a for a, b in itertools.pairwise(times)]
  return {
      **report.provenance(
          'tools.benchmark',
          (*_PACKAGES, *others.PACKAGES.get(flags.COMPARE.value, ())),
      ),
      'job': task.job,
      'compare': flags.COMPARE.value,
      'model': task.shape or cfg.model,
      'dtype': cfg.dtype,
      'settings': config.told(task.settings, task.job),
      'device': dataclasses.asdict(device),
      'dimensions': dataclasses.asdict(model.cfg),
      'startup_seconds': dict(
          zip(('import', 'load', 'warm_up'), (imported, *spent), strict=True)
      ),
      'compilations': compiled,
      'compilations_while_measured': again,
      **_measured(task.job, sides, runs, memory, ours.floor(device)),
  }


def _measured(job: str, sides, runs, memory, floor: float) -> dict[str, Any]:
  """The sides' medians, and their ratio where there are two."""
  unit = {'sampling': 'tokens', 'training': 'pairs'}[job]
  measured = {
      k: report.summary(found, unit)
      | {'peak_memory_bytes': memory[k]}
      | sides[k].details
      for k, found in runs.items()
  }
  seconds = statistics.median(r.seconds for r in runs['ours'])
  measured['ours']['roofline'] = floor / seconds
  if 'theirs' in runs:
    measured |= report.ratios(runs['ours'], runs['theirs'])
  return measured


def _task(tasks, cfg: ConfigDict):
  return tasks.Task(
      cfg,
      job=flags.JOB.value,
      shape=flags.shape(cfg),
      lengths=flags.LENGTHS.value,
      requests=flags.REQUESTS.value,
      pairs=flags.PAIRS.value,
      row_shapes=flags.ROW_SHAPES.value,
  )


def _with_best_slots(task):
  """The task with the slots to have, and how they were found, if they were."""
  if not flags.slots() or task.job != 'sampling':
    return task, {}
  sizes = flags.sizes(flags.slots())
  best, rates = others.ours(task, sizes)
  settled = config.edited(task.settings, {'sample.slots': best})
  return task._replace(settings=settled), others.probe(rates, sizes)


def _peer(
    task, model, items
) -> contextlib.AbstractContextManager[turns.Side | None]:
  """The other side, in a process of its own; None where there is none."""
  from tools import benchmark_model, benchmark_task

  cfg = task.settings
  folder = None if task.shape else str(benchmark_task.folder(cfg))
  peer = work.Peer(
      folder=folder,
      config=benchmark_model.config_json(model.cfg),
      norm=benchmark_model.peaked_norm(model.cfg),
      dtype=cfg.dtype,
      device=flags.DEVICE.value,
      threads=flags.THREADS.value,
      seed=cfg.seed,
  )
  sizes = flags.sizes(flags.peer_batches())
  draws = benchmark_task.draws(cfg)
  if flags.COMPARE.value == 'hf':
    return others.hf(peer, items, sizes=sizes, draws=draws)
  if flags.COMPARE.value == 'trl':
    lora, train = cfg.lora.to_dict(), cfg.train.to_dict()
    return others.trl(peer, items, lora=lora, train=train)
  if flags.COMPARE.value == 'llama_cpp':
    where = (flags.LLAMA_SERVER.value, flags.GGUF.value or '')
    return others.llama_cpp(where, peer, items, sizes=sizes, draws=draws)
  return contextlib.nullcontext()


def _difference(
    after: Mapping[str, float], before: Mapping[str, float]
) -> dict[str, float]:
  return {name: after[name] - before[name] for name in after}


if __name__ == '__main__':
  # Not above: calm_jax.main has a flag of this name.
  config_flags.DEFINE_config_file(
      'config', None, 'A run whose settings to take.'
  )
  app.run(main)
