"""Times DPO steps of the same pairs laid out in several ways, in turns.

python -m tools.benchmark_layouts --model=models/smollm2-135m-instruct \
    --json=docs/benchmarks/cpu/layouts.json

A pair as one row, its prompt computed once, beside two rows; short pairs in
rows of their own, of a few lengths, beside several packed in a row. It says
whether what training chooses (calm_jax/lm/layouts.py) is what was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import json
import pathlib
import statistics
import time
from typing import Any, NamedTuple, TYPE_CHECKING

from absl import app, flags

from calm_jax import console, records
from calm_jax.lm import batches
from tools import benchmark
from tools import benchmark_flags as given
from tools import benchmark_layout_rows as lay
from tools import benchmark_report as report
from tools import benchmark_work as work

if TYPE_CHECKING:
  from calm_jax.lm import decoder  # loads jax, before it is prepared

# By what training makes of a pair: so many sequences.
PAIRS = {1: 'one row', 2: 'two rows'}
# Training packs nothing.
SHORT = 'by length'
_SHAPES = 3  # of the rows of short pairs
_PACKED = 512  # tokens of a row that is filled with pairs

_CASES = flags.DEFINE_list(
    'pair_lengths',
    ['50:300', '200:200', '400:100'],
    'PROMPT:ANSWER, tokens of a pair and of each of its answers.',
)
_SHORT = flags.DEFINE_integer('short_pairs', 8, 'Short pairs, to pack.', 0)
_SHORT_LENGTHS = work.LENGTHS['short']._replace(
    pair_prompt=work.Spread(20, 60), completion=work.Spread(20, 60)
)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  cfg = given.settings()
  benchmark.prepare_environment('cpu', given.THREADS.value, shared=False)
  from tools import benchmark_layout_step, benchmark_task

  task = benchmark_task.Task(cfg, 'training', given.shape(cfg), 'short', 0, 0)
  model = benchmark_task.load(task)
  found = []
  for case in cases(model.corpus, model.cfg, cfg.train.layout):
    pairs, repeats = case.pairs, given.REPEATS.value
    timer = benchmark_layout_step.Step(model, cfg, pairs=pairs)
    found.append(compare(case, timer.run, repeats))
    console.say(line(found[-1]))
  result = report.provenance('tools.benchmark_layouts', ('jax', 'calm_jax'))
  result |= {'model': task.shape or cfg.model, 'dtype': cfg.dtype}
  result['layouts'] = found
  if given.JSON.value:
    text = json.dumps(result, indent=2) + '\n'
    records.write_text(pathlib.Path(given.JSON.value), text)


class Case(NamedTuple):
  """Pairs in two layouts, of which training chooses `rule`."""

  name: str
  pairs: int
  rule: str
  layouts: Mapping[str, Sequence[lay.Arrays]]


def compare(case: Case, run: Callable[..., None], repeats: int):
  """CPU seconds of each layout, and of the other / of training's own."""
  rule, layouts = case.rule, case.layouts
  (other,) = layouts.keys() - {rule}
  for parts in layouts.values():
    run(parts)  # compiles
  seconds: dict[str, list[float]] = {k: [] for k in layouts}
  for _ in range(repeats):
    for k, parts in layouts.items():
      start = time.process_time()
      run(parts)
      seconds[k].append(time.process_time() - start)
  turns = [b / a for a, b in zip(seconds[rule], seconds[other], strict=True)]
  ratio = statistics.median(turns)
  return {
      'case': case.name,
      'rule': rule,
      'other': other,
      'padded_tokens': {
          k: sum(p.tokens_BT.size for p in v) for k, v in layouts.items()
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


def cases(
    corpus: Sequence[int], model: decoder.DecoderConfig, asked: str
) -> Iterator[Case]:
  """What the flags name; `asked` is train.layout."""
  from calm_jax.lm import layouts

  for case in _CASES.value:
    prompt, answer = map(int, case.split(':'))
    lengths = _SHORT_LENGTHS._replace(
        pair_prompt=work.Spread(prompt, prompt),
        completion=work.Spread(answer, answer),
    )
    pairs = work.pairs(corpus, lengths, count=1, seed=0)
    rows = [batches.Row(p.prompt, (p.chosen, p.rejected)) for p in pairs]
    rule = PAIRS[layouts.choose(model, rows, asked=asked)]
    made = {'one row': lay.one_row(pairs), 'two rows': lay.two_rows(pairs)}
    made = {k: lay.arrays(v, 1) for k, v in made.items()}
    yield Case(f'prompt {prompt}, answers {answer}', 1, rule, made)
  if _SHORT.value:
    pairs = work.pairs(corpus, _SHORT_LENGTHS, count=_SHORT.value, seed=0)
    made = {SHORT: lay.one_row(pairs), 'packed': lay.packed(pairs, _PACKED)}
    made = {k: lay.arrays(v, _SHAPES) for k, v in made.items()}
    yield Case(f'{len(pairs)} short pairs', len(pairs), SHORT, made)


if __name__ == '__main__':
  app.run(main)
