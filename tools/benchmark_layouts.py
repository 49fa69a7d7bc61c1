"""Times training on the same pairs laid out in several ways, in turns.

python -m tools.benchmark_layouts --model=models/smollm2-135m-instruct \
    --json=docs/benchmarks/cpu/layouts.json

A pair as one sequence, its prompt computed once, beside two; short pairs in
rows of their own, of a few lengths, beside several packed in a row. It says
whether what training chooses (calm_jax/lm/layouts.py) is what was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import json
import pathlib
import statistics
from typing import Any, NamedTuple, TYPE_CHECKING

from absl import app, flags, logging
from ml_collections import ConfigDict

from calm_jax import console, records
from tools import benchmark, benchmark_config
from tools import benchmark_flags as given
from tools import benchmark_report as report
from tools import benchmark_work as work

if TYPE_CHECKING:
  from tools import benchmark_ours  # loads jax, before it is prepared

_PACKED = 512  # tokens of packed rows where training would not pack
_STEP = 8  # pairs of a step, one at a time: the paper's

_CASES = flags.DEFINE_list(
    'pair_lengths',
    ['50:300', '200:200', '400:100'],
    'PROMPT:ANSWER, tokens of a pair and of each of its answers.',
)
_SHORT = flags.DEFINE_integer(
    'short_pairs', 16, 'Short pairs, to pack; 0: none.', 0
)
_SHORT_LENGTHS = work.LENGTHS['short']._replace(
    pair_prompt=work.Spread(20, 60), completion=work.Spread(20, 60)
)


class Case(NamedTuple):
  """Pairs, and settings of training by what they do; `cfg` lets it choose."""

  name: str
  pairs: Sequence[work.Pair]
  cfg: ConfigDict
  layouts: Mapping[str, Mapping[str, Any]]


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  logging.set_verbosity(logging.WARNING)
  cfg = given.settings()
  benchmark.prepare_environment('cpu', given.THREADS.value, shared=False)
  from tools import benchmark_ours, benchmark_task

  task = benchmark_task.Task(cfg, 'training', given.shape(cfg), 'short', 0, 0)
  model = benchmark_task.load(task)
  found = []
  for case in cases(model.corpus, cfg):
    make = functools.partial(
        benchmark_ours.Training, model, case.pairs, row_shapes=task.row_shapes
    )
    found.append(compare(case, make, given.REPEATS.value))
    console.say(line(found[-1]))
  result = report.provenance('tools.benchmark_layouts', ('jax', 'calm_jax'))
  result |= {'model': task.shape or cfg.model, 'dtype': cfg.dtype}
  result['layouts'] = found
  if given.JSON.value:
    text = json.dumps(result, indent=2) + '\n'
    records.write_text(pathlib.Path(given.JSON.value), text)


def cases(corpus: Sequence[int], cfg: ConfigDict) -> Iterator[Case]:
  """What the flags name."""
  for case in _CASES.value:
    prompt, answer = map(int, case.split(':'))
    lengths = _SHORT_LENGTHS._replace(
        pair_prompt=work.Spread(prompt, prompt),
        completion=work.Spread(answer, answer),
    )
    yield Case(
        f'prompt {prompt}, answers {answer}',
        work.pairs(corpus, lengths, count=1, seed=0),
        cfg,
        {
            'one row': {'train.layout': 'shared'},
            'two rows': {'train.layout': 'apart'},
        },
    )
  if _SHORT.value:
    yield Case(
        f'{_SHORT.value} short pairs',
        work.pairs(corpus, _SHORT_LENGTHS, count=_SHORT.value, seed=0),
        benchmark_config.edited(
            cfg, {'train.accumulation': _STEP, 'train.length_window': 8}
        ),
        {
            'by length': {'train.packing': 0},
            'packed': {'train.packing': _PACKED},
        },
    )


def compare(
    case: Case,
    make: Callable[[ConfigDict], benchmark_ours.Training],
    repeats: int,
) -> dict[str, Any]:
  """CPU seconds of each layout, and of the other / of training's own."""
  own = make(case.cfg)
  jobs = {
      name: make(benchmark_config.edited(case.cfg, fields))
      for name, fields in case.layouts.items()
  }
  packs = own.chosen['packed_tokens']
  if packs and 'packed' in jobs:
    jobs['packed'] = own
  (rule,) = (name for name, job in jobs.items() if job.chosen == own.chosen)
  (other,) = jobs.keys() - {rule}
  for job in jobs.values():
    job.warm_up()
  runs: dict[str, list[work.Run]] = {name: [] for name in jobs}
  for _ in range(repeats):
    for name, job in jobs.items():
      runs[name].append(job.run())
  seconds = {k: [run.cpu_seconds for run in v] for k, v in runs.items()}
  turns = [b / a for a, b in zip(seconds[rule], seconds[other], strict=True)]
  ratio = statistics.median(turns)
  return {
      'case': case.name,
      'rule': rule,
      'other': other,
      'packed_tokens': packs,
      'padded_tokens': {
          k: round(v[0].details['tokens'] / (1 - v[0].details['padding']))
          for k, v in runs.items()
      },
      'cpu_seconds': {k: statistics.median(v) for k, v in seconds.items()},
      'runs': seconds,
      'ratio': ratio,
      'ratio_spread': [min(turns), max(turns)],
      'agrees': ratio >= 1,
  }


def line(r: Mapping[str, Any]) -> str:
  """What a person wants to know of a case."""
  low, high = r['ratio_spread']
  times = ', '.join(f'{k} {s:.2f} CPU s' for k, s in r['cpu_seconds'].items())
  return (
      f'{r["case"]}: {times}; {r["other"]} / {r["rule"]} {r["ratio"]:.2f}'
      f' ({low:.2f} to {high:.2f}); training chooses {r["rule"]}:'
      f' {"faster" if r["agrees"] else "SLOWER"} here'
  )


if __name__ == '__main__':
  app.run(main)
