"""Measures sampling or training, against the device's floor and other tools.

python -m tools.benchmark --job=sampling --device=cpu --compare=hf \
    --model=models/smollm2-135m-instruct --json=sampling.json

Both sides draw the same numbers of tokens to the same prompts, or train on the
same pairs, in turns; the ratio is ours / theirs, higher is better. The peers
(hf: transformers generate; trl: TRL with PEFT) need the extra parity;
llama_cpp needs llama.cpp's server and the model in --gguf. With
`--shape` the weights are random; `--config` takes the model and the sizes of a
run. On a busy machine trust the CPU seconds.
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

from absl import app, flags, logging
from ml_collections import config_flags

from calm_jax import console, records
from calm_jax.lm import compilation, pages
from tools import benchmark_config
from tools import benchmark_llama_server as servers
from tools import benchmark_report as report
from tools import benchmark_sides as others
from tools import benchmark_turns as turns
from tools import benchmark_work as work

_START = time.monotonic()
_DEFAULT_SHAPE = 'smollm2-135m'
_PACKAGES = ('jax', 'jaxlib', 'flax', 'calm_jax')

_JOB = flags.DEFINE_enum('job', 'sampling', ['sampling', 'training'], 'What.')
_DEVICE = flags.DEFINE_enum('device', 'cpu', ['cpu', 'gpu'], 'Where.')
_COMPARE = flags.DEFINE_enum(
    'compare', 'none', [*others.JOBS, 'none'], 'trl trains, the others sample.'
)
_JSON = flags.DEFINE_string('json', None, 'File to write.')
_MODEL = flags.DEFINE_string('model', None, 'Folder of a model.')
_SHAPE = flags.DEFINE_string(
    'shape',
    None,
    'Random weights instead: llama3-8b, mistral-7b, llama2-7b, smollm2-135m'
    ' (where no model is given) or tiny.',
)
_DTYPE = flags.DEFINE_enum(
    'dtype', 'float32', ['float32', 'bfloat16'], 'Of weights and activations.'
)
_LENGTHS = flags.DEFINE_enum(
    'lengths', 'short', list(work.LENGTHS), 'Of prompts, answers and pairs.'
)
_REQUESTS = flags.DEFINE_integer('requests', 96, 'Answers to draw.', 1)
_SAMPLES = flags.DEFINE_integer('samples', 3, 'Answers to each prompt.', 1)
_SLOTS = flags.DEFINE_integer('slots', 48, 'Answers drawn at a time.', 1)
_MAX_NEW_TOKENS = flags.DEFINE_integer(
    'max_new_tokens', 128, 'The longest answer.', 1
)
_PAIRS = flags.DEFINE_integer('pairs', 16, 'Preference pairs.', 1)
_BATCH = flags.DEFINE_integer('batch', 1, 'Pairs in a step.', 1)
_PEER_BATCHES = flags.DEFINE_list(
    'peer_batches',
    ['16', '48', '96'],
    'Batches of hf, or slots of llama_cpp, of which it gets its best.',
)
_LLAMA_SERVER = flags.DEFINE_string(
    'llama_server', 'llama-server', "llama.cpp's server: a name or a path."
)
_GGUF = flags.DEFINE_string('gguf', None, 'The model as llama_cpp reads it.')
_REPEATS = flags.DEFINE_integer('repeats', 3, 'Measurements of each side.', 1)
_THREADS = flags.DEFINE_integer(
    'threads', 1, 'Cores for each side, one side at a time; 0: all.', 0
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of weights, work and draws.')


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  if 'config' in flags.FLAGS and flags.FLAGS.config is not None:
    benchmark_config.apply(flags.FLAGS, flags.FLAGS.config)
  if not (_MODEL.value or _SHAPE.value):
    flags.FLAGS['shape'].value = _DEFAULT_SHAPE
  logging.set_verbosity(logging.WARNING)
  _check_flags()
  prepare_environment(
      _DEVICE.value, _THREADS.value, shared=_COMPARE.value != 'none'
  )
  try:
    result = measure()
  except (OSError, ValueError) as e:
    sys.exit(f'benchmark: {e}')
  for line in report.lines(result):
    console.say(line)
  if _JSON.value:
    text = json.dumps(result, indent=2) + '\n'
    records.write_text(pathlib.Path(_JSON.value), text)


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
    fraction = '0.6' if shared else '0.92'
    os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', fraction)
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  # As calm_jax.main does.
  compilation.keep()
  pages.keep()


def measure() -> dict[str, Any]:
  """Everything: loads, warms up, and measures both sides in turns."""
  # Only now: the environment counts when jax is imported.
  from tools import benchmark_device, benchmark_model, benchmark_ours

  compilations = benchmark_device.Compilations()
  times = [_START, time.monotonic()]
  benchmark_device.check(_DEVICE.value)
  model = _load(benchmark_model)
  times.append(time.monotonic())
  ours, items = _ours(benchmark_ours, model)
  before = compilations.summary()
  ours.warm_up()
  times.append(time.monotonic())
  compiled = _difference(compilations.summary(), before)
  # Before the device is measured, which takes memory too.
  peak = benchmark_device.peak_memory()
  device = benchmark_device.measure_device(_DTYPE.value)
  sides = {'ours': turns.Side(ours.run, lambda: peak)}
  with _peer(model, items) as theirs:
    if theirs is not None:
      sides['theirs'] = theirs
    before = compilations.summary()
    runs = turns.in_turns(
        {k: side.run for k, side in sides.items()}, _REPEATS.value
    )
    memory = {k: side.peak_memory() for k, side in sides.items()}
  again = _difference(compilations.summary(), before)
  device = benchmark_device.best(
      device, benchmark_device.measure_device(_DTYPE.value)
  )
  unit = {'sampling': 'tokens', 'training': 'pairs'}[_JOB.value]
  measured = {
      k: report.summary(found, unit) | {'peak_memory_bytes': memory[k]}
      for k, found in runs.items()
  }
  seconds = statistics.median(r.seconds for r in runs['ours'])
  measured['ours']['roofline'] = ours.floor(device) / seconds
  if theirs is not None:
    measured['theirs'] |= theirs.details
    measured |= report.ratios(runs['ours'], runs['theirs'])
  spent = [b - a for a, b in itertools.pairwise(times)]
  return {
      **report.provenance(
          'tools.benchmark',
          (*_PACKAGES, *others.PACKAGES.get(_COMPARE.value, ())),
      ),
      'job': _JOB.value,
      'compare': _COMPARE.value,
      'model': _MODEL.value or _SHAPE.value,
      'dtype': _DTYPE.value,
      'device': dataclasses.asdict(device),
      'dimensions': dataclasses.asdict(model.cfg),
      'startup_seconds': dict(
          zip(('import', 'load', 'warm_up'), spent, strict=True)
      ),
      'compilations': compiled,
      'compilations_while_measured': again,
      **measured,
  }


def _check_flags() -> None:
  if _MODEL.value and _SHAPE.value:
    raise app.UsageError('give either --model or --shape')
  if _COMPARE.value != 'none':
    fits = others.JOBS[_COMPARE.value]
    if _JOB.value != fits:
      raise app.UsageError(f'--compare={_COMPARE.value} needs --job={fits}')
  if _COMPARE.value == 'llama_cpp':
    _check_llama_cpp()
  if _PAIRS.value % _BATCH.value:
    raise app.UsageError('--batch must divide --pairs')


def _check_llama_cpp() -> None:
  """Before anything is loaded: what is missing takes time to make."""
  if not (_MODEL.value and _GGUF.value) or _DEVICE.value != 'cpu':
    raise app.UsageError(
        '--compare=llama_cpp needs --model, --gguf (the same weights for'
        ' llama.cpp) and --device=cpu'
    )
  try:
    servers.find(_LLAMA_SERVER.value)
    servers.check_gguf(_GGUF.value)
  except ValueError as e:
    raise app.UsageError(str(e)) from e


def _load(models):
  if _MODEL.value:
    return models.load_model(pathlib.Path(_MODEL.value), _DTYPE.value)
  return models.random_model(_SHAPE.value, _DTYPE.value, _SEED.value)


def _ours(ours_lib, model):
  """Our side, and the questions or pairs that it works on."""
  lengths, seed = work.LENGTHS[_LENGTHS.value], _SEED.value
  if _JOB.value == 'training':
    pairs = work.pairs(model.corpus, lengths, count=_PAIRS.value, seed=seed)
    ours = ours_lib.Training(model, pairs, batch=_BATCH.value, seed=seed)
    return ours, pairs
  questions = work.questions(
      model.corpus,
      lengths,
      requests=_REQUESTS.value,
      samples=_SAMPLES.value,
      max_new_tokens=_MAX_NEW_TOKENS.value,
      seed=seed,
  )
  ours = ours_lib.Sampling(
      model,
      questions,
      slot_count=_SLOTS.value,
      max_new_tokens=_MAX_NEW_TOKENS.value,
      seed=seed,
  )
  return ours, questions


def _peer(model, items) -> contextlib.AbstractContextManager[turns.Side | None]:
  """The other side, in a process of its own; None where there is none."""
  from tools import benchmark_model, benchmark_ours

  peer = work.Peer(
      folder=_MODEL.value,
      config=benchmark_model.config_json(model.cfg),
      norm=benchmark_model.peaked_norm(model.cfg),
      dtype=_DTYPE.value,
      device=_DEVICE.value,
      threads=_THREADS.value,
      seed=_SEED.value,
  )
  sizes = [int(size) for size in _PEER_BATCHES.value]
  if _COMPARE.value == 'hf':
    limit = _MAX_NEW_TOKENS.value
    return others.hf(peer, items, sizes=sizes, max_new_tokens=limit)
  if _COMPARE.value == 'trl':
    return others.trl(
        peer,
        items,
        batch=_BATCH.value,
        lora=benchmark_ours.LORA,
        learning_rate=benchmark_ours.LEARNING_RATE,
    )
  if _COMPARE.value == 'llama_cpp':
    where = (_LLAMA_SERVER.value, _GGUF.value or '')
    return others.llama_cpp(*where, peer, items, sizes=sizes)
  return contextlib.nullcontext()


def _difference(
    after: Mapping[str, float], before: Mapping[str, float]
) -> dict[str, float]:
  return {name: after[name] - before[name] for name in after}


if __name__ == '__main__':
  # Not above: calm_jax.main has a flag of this name.
  config_flags.DEFINE_config_file(
      'config', None, 'A run whose model and sizes to take.'
  )
  app.run(main)
