"""A page of tables out of the JSON files of benchmarks.

python -m tools.benchmark_page --folder=docs/benchmarks/cpu \
    --page=docs/benchmarks/cpu.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import json
import pathlib
import statistics
from typing import Any

from absl import app, flags

from calm_jax import records

_FOLDER = flags.DEFINE_string(
    'folder', 'docs/benchmarks/cpu', 'Of the JSON files.'
)
_PAGE = flags.DEFINE_string(
    'page', 'docs/benchmarks/cpu.md', 'The page to write.'
)

Result = Mapping[str, Any]

_UNITS = {'sampling': 'tokens', 'training': 'pairs'}
_PEERS = {
    'hf': 'transformers, batch',
    'trl': 'TRL, batch',
    'llama_cpp': 'llama.cpp, slots',
}


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  results = {
      path.stem: json.loads(path.read_text('utf-8'))
      for path in sorted(pathlib.Path(_FOLDER.value).glob('*.json'))
  }
  text = page(results, pathlib.Path(_FOLDER.value).name)
  records.write_text(pathlib.Path(_PAGE.value), text)


def page(results: Mapping[str, Result], folder: str) -> str:
  """Markdown about the results, by the names of their files."""
  jobs = {k: r for k, r in results.items() if 'job' in r}
  growth = {k: r for k, r in results.items() if 'stages' in r}
  lines = ['# Benchmarks', '']
  lines += [
      f'Made by `python -m tools.benchmark_page` from the files in'
      f' `{folder}/`, which have every run and the dimensions. Both sides do'
      ' the same work on one core, in turns; rates are medians, a ratio is the'
      ' median of ours / theirs over the turns, and its spread is in brackets.'
      ' The floor is what the measured bandwidth and matmul rate allow.',
      '',
  ]
  layouts = {k: r for k, r in results.items() if 'layouts' in r}
  parts = ((_jobs, jobs), (_layouts, layouts), (_growth, growth))
  for build, found in parts:
    if found:
      lines += build(found)
  return '\n'.join(lines) + '\n'


def _jobs(jobs: Mapping[str, Result]) -> Iterator[str]:
  yield from ('## Beside other tools', '')
  yield from _table(
      'file',
      'dtype',
      'tokens a pair',
      'ours',
      'theirs',
      'ratio',
      'by CPU seconds',
      'of the floor',
      'peak memory, GB: ours, theirs',
      rows=[_comparison(name, r) for name, r in jobs.items() if 'theirs' in r],
  )
  if probes := [*_probes(jobs)]:
    yield from ('## How many slots, and rows of a batch', '')
    yield (
        'Each side was asked in the same way, by one pass over the work with'
        ' each number after one that warmed up: tokens per CPU second, of which'
        ' the highest was taken.'
    )
    yield ''
    yield from _table('file', 'side', 'tokens/CPU s', rows=probes)
  yield from ('## Start-up, and what is computed in vain', '')
  yield from _table(
      'file',
      'job',
      'dtype',
      'padding',
      'slots in use',
      'programs',
      'compile, s',
      'import, load, warm up, s',
      rows=[_inside(name, r) for name, r in jobs.items()],
  )
  yield from ('## Where and how', '')
  for name, result in jobs.items():
    yield from _provenance(name, result)


def _comparison(name: str, r: Result) -> list[str]:
  unit = f'{_UNITS[r["job"]]}_per_second'
  ours, theirs = r['ours'], r['theirs']
  low, high = r['ratio_spread']
  memory = [side['peak_memory_bytes'] / 1e9 for side in (ours, theirs)]
  return [
      name,
      r['dtype'],
      _pair_tokens(r),
      f'{ours[unit]:.3g} {_UNITS[r["job"]]}/s{_slots(ours)}',
      f'{_PEERS[r["compare"]]} {theirs["batch"]:.0f}: {theirs[unit]:.3g}',
      f'**{r["ratio"]:.2f}** ({low:.2f} to {high:.2f})',
      f'{r["ratio_of_cpu_seconds"]:.2f}',
      f'{ours["roofline"]:.0%}',
      f'{memory[0]:.1f}, {memory[1]:.1f}',
  ]


def _pair_tokens(r: Result) -> str:
  """Those of its prompt and of both answers, on average."""
  if r['job'] != 'training':
    return ''
  ours = r['ours']
  return f'{ours["tokens_per_second"] / ours["pairs_per_second"]:.0f}'


def _slots(side: Result) -> str:
  return f', slots {side["slots"]}' if 'slots' in side else ''


def _probes(jobs: Mapping[str, Result]) -> Iterator[list[str]]:
  """A row for each side that had a choice."""
  for name, r in jobs.items():
    for side in ('ours', 'theirs'):
      found = r.get(side, {})
      if 'probe' not in found:
        continue
      (rates,) = (v for k, v in found['probe'].items() if k != 'every')
      chosen = found['slots'] if side == 'ours' else found['batch']
      shown = [
          f'**{size}**: {rate:.3g}'
          if int(size) == chosen
          else f'{size}: {rate:.3g}'
          for size, rate in rates.items()
      ]
      other = _PEERS[r['compare']].split(',')[0] if side == 'theirs' else side
      yield [name, other, ', '.join(shown)]


def _inside(name: str, r: Result) -> list[str]:
  ours, compiled = r['ours'], r['compilations']
  used = ours.get('slot_utilisation')
  return [
      name,
      r['job'],
      r['dtype'],
      f'{ours["padding"]:.0%}',
      '' if used is None else f'{used:.0%}',
      f'{compiled["count"]}, {compiled["cache_hits"]} from the cache',
      f'{compiled["seconds"]:.1f}',
      ', '.join(f'{s:.1f}' for s in r['startup_seconds'].values()),
  ]


def _provenance(name: str, r: Result) -> Iterator[str]:
  device, machine = r['device'], r['machine']
  versions = ', '.join(f'{k} {v}' for k, v in r['versions'].items())
  if (theirs := r.get('theirs', {}).get('version')) is not None:
    versions += f', {_PEERS[r["compare"]].split(",")[0]} {theirs}'
  yield (
      f'* `{name}.json`, {r["date"]}: {device["name"]},'
      f' {device["bandwidth"] / 1e9:.0f} GB/s,'
      f' {device["matmul_rate"] / 1e9:.0f} GFLOP/s, {machine["cores_used"]} of'
      f' {machine["cores"]} cores, load {machine["load"]:.1f},'
      f' {machine["platform"]}; {versions}; `{r["command"]}`'
  )


def _layouts(layouts: Mapping[str, Result]) -> Iterator[str]:
  for name, r in layouts.items():
    yield from ('', '## Layouts of pairs', '')
    yield (f'CPU seconds of DPO, all its steps: {r["model"]}, {r["dtype"]}.')
    yield from ('', *_made(name, r), '')
    yield from _table(
        'pairs',
        "training's layout",
        'the other',
        "the other / training's",
        "training's is faster",
        rows=map(_layout, r['layouts']),
    )


def _layout(row: Result) -> list[str]:
  low, high = row['ratio_spread']
  return [
      row['case'],
      *(
          f'{k}: {row["cpu_seconds"][k]:.2f}, {row["padded_tokens"][k]} tokens'
          for k in (row['rule'], row['other'])
      ),
      f'{row["ratio"]:.2f} ({low:.2f} to {high:.2f})',
      'yes' if row['agrees'] else '**no**',
  ]


def _made(name: str, r: Result) -> Iterator[str]:
  machine = r['machine']
  versions = ', '.join(f'{k} {v}' for k, v in r['versions'].items())
  yield (
      f'`{name}.json`, {r["date"]}: one core of {machine["cores"]}, load'
      f' {machine["load"]:.1f}, {machine["platform"]}; {versions};'
      f' `{r["command"]}`'
  )


def _growth(growth: Mapping[str, Result]) -> Iterator[str]:
  for name, r in growth.items():
    yield from ('', '## Growth of costs', '')
    yield from _made(name, r)
    yield from (
        '',
        'Six slots and prompts of up to 62 tokens, so that few requests use all'
        ' slots for most of the time and all fit one length of the cache: what'
        ' differs between the rows is their number alone.',
        '',
    )
    yield from _table(
        'requests',
        'tokens/s',
        'tokens/CPU s',
        'of those of the fewest, turn by turn',
        'slots in use',
        'peak memory, MB',
        rows=[_sampled(row, r['sampling'][0]) for row in r['sampling']],
    )
    stages = list(r['stages'][0]['seconds']) if r['stages'] else []
    yield from _table(
        'samples',
        'questions',
        *(f'{stage}, us a question' for stage in stages),
        'vote + pair, samples/CPU s',
        'without their files',
        'peak memory, MB: ' + ', '.join(stages),
        rows=map(_staged, r['stages']),
    )


def _sampled(row: Result, first: Result) -> list[str]:
  rate = 'tokens_per_cpu_second'
  turns = zip(row['runs'], first['runs'], strict=True)
  return [
      f'{row["requests"]:,.0f}',
      f'{row["tokens_per_second"]:,.0f}',
      f'{row[rate]:,.0f}{_spread([run[rate] for run in row["runs"]])}',
      f'{statistics.median(a[rate] / b[rate] for a, b in turns):.2f}',
      f'{row["slot_utilisation"]:.0%}',
      f'{row["peak_memory_bytes"] / 1e6:,.0f}',
  ]


def _staged(row: Result) -> list[str]:
  return [
      f'{row["samples"]:,.0f}',
      f'{row["questions"]:,.0f}',
      *(f'{us:,.0f}' for us in row['microseconds_per_question'].values()),
      *(
          f'{row[rate]:,.0f}{_spread([run[rate] for run in row["runs"]])}'
          for rate in (
              'vote_pair_samples_per_second',
              'decided_samples_per_second',
          )
      ),
      ', '.join(f'{b / 1e6:,.0f}' for b in row['peak_memory_bytes'].values()),
  ]


def _spread(values: Sequence[float]) -> str:
  return f' ({min(values):,.0f} to {max(values):,.0f})'


def _table(*head: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
  yield f'| {" | ".join(head)} |'
  yield '|' + ' --- |' * len(head)
  for row in rows:
    yield f'| {" | ".join(row)} |'
  yield ''


if __name__ == '__main__':
  app.run(main)
