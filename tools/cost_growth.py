"""Shows that the cost of a run grows with its work, and no faster.

python -m tools.cost_growth --json=cost_growth.json

Samples 100 to 10,000 requests from a tiny model with random weights, and runs
read, vote, pair and report over made-up runs of up to a million samples: the
whole stages with their files, and the votes and pairs alone, on samples that
are read already. Every number comes from a process of its own, on one core, and
is the median of --repeats, with all sizes in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import importlib
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import statistics
import tempfile
import time
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from calm_jax import console, records, vote, wording
from calm_jax.lm import compilation, pages
from calm_jax.qa import ballots, preferences, prompts
from tools import benchmark_report as report
from tools import benchmark_work as work
from tools import cost_growth_data as data

STAGES = ('read', 'vote', 'pair', 'report')
# Few slots: with many, 100 requests would end before all are in use.
_SLOTS, _SEED = 6, 0
# One length of cache fits all prompts, so that few requests and many are alike.
_LENGTHS = work.Lengths(
    work.Spread(8, 62), work.Spread(1, 256), *work.LENGTHS['tiny'][2:]
)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
  os.environ['JAX_PLATFORMS'] = 'cpu'
  compilation.keep()
  packages = ('jax', 'jaxlib', 'msgspec', 'calm_jax')
  result = report.provenance('tools.cost_growth', packages)
  result['sampling'] = _in_turns(
      flags.FLAGS.requests, lambda count: _alone(sampling, count), _say_sampled
  )
  result['stages'] = _in_turns(flags.FLAGS.samples, stages, _say_staged)
  if flags.FLAGS.json:
    text = json.dumps(result, indent=2) + '\n'
    records.write_text(pathlib.Path(flags.FLAGS.json), text)


def middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """The median of every number of some runs, which stand beside it."""
  return {**_median(runs), 'runs': list(runs)}


def sampling(count: int) -> dict[str, Any]:
  """Rate and memory of `count` requests in questions of three."""
  pages.keep()
  # Only now: jax takes its settings from the environment.
  from tools import benchmark_model, benchmark_ours

  model = benchmark_model.random_model('tiny', 'float32', _SEED)
  ours = benchmark_ours.Sampling(
      model,
      work.questions(
          model.corpus,
          _LENGTHS,
          requests=count,
          samples=3,
          max_new_tokens=_LENGTHS.answer.high,
          seed=_SEED,
      ),
      max_new_tokens=_LENGTHS.answer.high,
      seed=_SEED,
  )
  ours.start(_SLOTS)
  run = ours.run()
  return {
      'requests': count,
      'tokens': run.done,
      'seconds': run.seconds,
      'cpu_seconds': run.cpu_seconds,
      'tokens_per_second': run.rate,
      'tokens_per_cpu_second': run.done / run.cpu_seconds,
      'slot_utilisation': run.details['slot_utilisation'],
      'peak_memory_bytes': work.peak_resident(),
  }


def stages(samples: int) -> dict[str, Any]:
  """Seconds and memory of the stages without a model, for `samples`."""
  questions = max(1, samples // (data.M * len(data.LANGS)))
  with tempfile.TemporaryDirectory() as name:
    root = pathlib.Path(name)
    data.write_raw(root / 'raw', questions)
    workdir = root / 'run'
    found = {'read': _alone(_stage, 'read', str(root))}
    shutil.copytree(workdir / 'read', workdir / 'translate')
    total = data.write_samples(workdir / 'sample', questions)
    data.write_predictions(workdir / 'evaluate', questions)
    for stage in STAGES[1:]:
      found[stage] = _alone(_stage, stage, str(root))
    decided = _alone(decide, str(root))
  seconds = {stage: row['seconds'] for stage, row in found.items()}
  both = found['vote']['cpu_seconds'] + found['pair']['cpu_seconds']
  return {
      'samples': total,
      'questions': questions,
      'seconds': seconds,
      'cpu_seconds': {k: row['cpu_seconds'] for k, row in found.items()},
      'microseconds_per_question': {
          k: 1e6 * row['cpu_seconds'] / questions for k, row in found.items()
      },
      'vote_pair_samples_per_second': total / both,
      'decided_samples_per_second': total / decided,
      'peak_memory_bytes': {k: row['memory'] for k, row in found.items()},
  }


def decide(root: str) -> float:
  """CPU seconds of the votes and the pairs of a run, its files left out."""
  folder = pathlib.Path(root)
  workdir = folder / 'run'
  c = config(folder)
  groups = ballots.read_asked(workdir, order=c.languages, parser=c.vote.parser)
  spent = 0.0
  # Many at a time: asking for the time is not free.
  while batch := list(itertools.islice(groups, 500)):
    start = time.process_time()
    for samples, asked in batch:
      _decide(samples, asked, c)
    spent += time.process_time() - start
  return spent


def _decide(
    samples: list[records.Sample], asked: wording.Questions, c: ConfigDict
) -> None:
  """One question's vote and pairs, as the two stages make them."""
  drafts, _ = preferences.prefer(
      samples,
      vote.tally(samples, ties=c.vote.ties, seed=c.seed),
      positives=c.pair.positives,
      min_share=c.pair.min_share,
      min_margin=c.pair.min_margin,
      supports=lambda source, target: source == target,
  )
  drafts, _ = preferences.limit(drafts, cap=c.pair.cap)
  wording.worded(
      drafts,
      asked,
      {},
      {},
      rebuild=c.pair.rebuild,
      render=lambda q: prompts.render(q, style=c.prompt.style, shots=0),
  )


def config(folder: pathlib.Path) -> ConfigDict:
  """The settings of the made-up run."""
  from configs import base

  c = base.get_config()
  c.model = 'none'
  c.languages = data.LANGS
  c.data.name, c.data.path = 'xcsqa', str(folder / 'raw')
  c.data.train_split, c.data.test_split = 'train', 'test'
  c.sample.m = data.M
  return c


def _stage(stage: str, root: str) -> dict[str, float]:
  folder = pathlib.Path(root)
  run = importlib.import_module(f'calm_jax.{stage}').run
  start, cpu = time.monotonic(), time.process_time()
  run(config(folder), folder / 'run')
  return {
      'seconds': time.monotonic() - start,
      'cpu_seconds': time.process_time() - cpu,
      'memory': work.peak_resident(),
  }


def _in_turns(
    sizes: Sequence[str],
    measure: Callable[[int], dict[str, Any]],
    say: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
  """All sizes, then all again: a machine that slows down slows each down."""
  runs: dict[int, list[dict[str, Any]]] = {int(size): [] for size in sizes}
  for _ in range(flags.FLAGS.repeats):
    for size, found in runs.items():
      found.append(measure(size))
      say(found[-1])
  return [middle(found) for found in runs.values()]


def _median(values: Sequence[Any]) -> Any:
  if isinstance(values[0], dict):
    return {key: _median([v[key] for v in values]) for key in values[0]}
  return statistics.median(values)


def _say_sampled(row: dict[str, Any]) -> None:
  console.say(
      f'{row["requests"]} requests: {row["tokens_per_second"]:.0f} tokens/s,'
      f' {row["peak_memory_bytes"] / 1e6:.0f} MB'
  )


def _say_staged(row: dict[str, Any]) -> None:
  told = ', '.join(f'{k} {v:.1f} s' for k, v in row['seconds'].items())
  console.say(
      f'{row["samples"]} samples: {told}; vote + pair'
      f' {row["vote_pair_samples_per_second"]:.0f} samples/s,'
      f' without their files {row["decided_samples_per_second"]:.0f}'
  )


def _alone(function: Callable[..., Any], *args: Any) -> Any:
  """What `function` returns, computed in a process of its own."""
  with multiprocessing.get_context('spawn').Pool(1) as pool:
    return pool.apply(function, args)


if __name__ == '__main__':
  # Not above: other benchmarks have flags of these names.
  flags.DEFINE_list(
      'requests', ['100', '1000', '10000'], 'Numbers of requests to sample.'
  )
  flags.DEFINE_list(
      'samples',
      ['10000', '100000', '1000000'],
      'Numbers of samples to vote on; about 600 bytes of disk for each.',
  )
  flags.DEFINE_integer('repeats', 3, 'How often each size is measured.', 1)
  flags.DEFINE_string('json', None, 'File to write.')
  app.run(main)
