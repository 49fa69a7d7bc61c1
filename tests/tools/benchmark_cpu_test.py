"""tools/benchmark_cpu.sh around a stand-in, and the page it ends with."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from tools import benchmark_page, benchmark_report, cost_growth

ROOT = pathlib.Path(__file__).parents[2]
SIDE = {
    'tokens_per_second': 60.0,
    'pairs_per_second': 0.3,
    'batch': 48,
    'padding': 0.1,
    'slot_utilisation': 0.8,
    'peak_memory_bytes': 2_500_000_000,
}
RESULT = {
    'job': 'sampling',
    'compare': 'llama_cpp',
    'dtype': 'float32',
    'date': '2026-11-23T09:00:00+00:00',
    'command': 'python -m tools.benchmark',
    'versions': {'jax': '0.10.2'},
    'machine': {'cores': 2, 'cores_used': 1, 'load': 0.5, 'platform': 'Linux'},
    'device': {'name': 'cpu', 'bandwidth': 4e10, 'matmul_rate': 1e11},
    'startup_seconds': {'import': 2.0, 'load': 1.0, 'warm_up': 9.5},
    'compilations': {'count': 8, 'seconds': 7.0, 'cache_hits': 3},
    'ours': SIDE
    | {'roofline': 0.41, 'slots': 24}
    | {'probe': {'every': 1, 'tokens_per_cpu_second': {'12': 55.5, '24': 61}}},
    'theirs': SIDE | {'tokens_per_second': 25.0, 'version': 'b7'},
    'ratio': 2.4,
    'ratio_spread': [2.3, 2.6],
    'ratio_of_cpu_seconds': 2.5,
}
SAMPLED = {
    'requests': 10000,
    'tokens_per_second': 9000.0,
    'tokens_per_cpu_second': 9100.0,
    'slot_utilisation': 0.99,
    'peak_memory_bytes': 600_000_000,
}
STAGED = {
    'samples': 1000000,
    'questions': 111111,
    'seconds': {'vote': 9.0, 'pair': 10.0},
    'microseconds_per_question': {'vote': 81.0, 'pair': 90.0},
    'vote_pair_samples_per_second': 52631.0,
    'decided_samples_per_second': 81000.0,
    'peak_memory_bytes': {'vote': 90_000_000, 'pair': 200_000_000},
}
GROWTH = {
    'date': '2026-11-23T09:00:00+00:00',
    'command': 'python -m tools.cost_growth',
    'versions': {'jax': '0.10.2'},
    'machine': {'cores': 2, 'load': 0.5, 'platform': 'Linux'},
    'sampling': [
        cost_growth.middle(
            [SAMPLED, SAMPLED | {'tokens_per_cpu_second': 9300.0}]
        )
    ],
    'stages': [cost_growth.middle([STAGED])],
}

# Writes a result where the benchmark would; makes the page itself.
STUB = f"""#!/usr/bin/env bash
echo "$@" >>"$CALLS"
case "$2" in
  tools.benchmark_page) exec {sys.executable} "$@" ;;
  *"$BROKEN"*) exit 3 ;;
esac
for flag; do
  if [[ $flag == --json=* ]]; then
    if [[ $2 == tools.cost_growth ]]; then
      echo '{json.dumps(GROWTH)}' >"${{flag#--json=}}"
    else
      echo '{json.dumps(RESULT)}' >"${{flag#--json=}}"
    fi
  fi
done
"""


def run(folder, *, broken='nothing is', **environment):
  stub = folder / 'python'
  stub.write_text(STUB)
  stub.chmod(0o755)
  settings = {
      'PYTHON': str(stub),
      'OUT': str(folder / 'out'),
      'CALLS': str(folder / 'calls'),
      'BROKEN': broken,
  }
  done = subprocess.run(
      [ROOT / 'tools' / 'benchmark_cpu.sh'],
      env=os.environ | settings | environment,
      capture_output=True,
      check=False,
  )
  calls = (folder / 'calls').read_text().splitlines()
  return done.returncode, calls, (folder / 'out' / 'cpu.md').read_text()


def test_everything_is_measured_and_told(tmp_path):
  status, calls, page = run(tmp_path)
  assert status == 0
  assert len(calls) == 11
  assert any('benchmark_layouts --model=' in c for c in calls)
  for job, peer in (('sampling', 'hf'), ('training', 'trl')):
    for dtype in ('float32', 'bfloat16'):
      (call,) = (c for c in calls if f'cpu/{job}_{dtype}.json' in c)
      for flag in (f'--job={job}', f'--dtype={dtype}', f'--compare={peer}'):
        assert f' {flag} ' in f' {call} '
  long = [c for c in calls if '--lengths=paper' in c]
  assert [c.rpartition('/')[2] for c in long] == [
      'training_float32_paper.json',
      'training_bfloat16_paper.json',
  ]
  assert all(' --job=training --compare=trl ' in c for c in long)
  (call,) = (c for c in calls if 'cpu/sampling_float32.json' in c)
  for flag in (
      '--repeats=5',
      '--slots=12,24,48',
      '--peer_batches=8,16,32,48,96',
      '--probe_every=1',
  ):
    assert f' {flag} ' in f' {call} '
  assert '| llama.cpp, slots 48: 25 | **2.40** (2.30 to 2.60) |' in page
  assert '| sampling_float32 | float32 |  | 60 tokens/s, slots 24 |' in page
  assert '| sampling_float32 | ours | 12: 55.5, **24**: 61 |' in page
  assert 'jax 0.10.2, llama.cpp b7; `python -m' in page
  assert (
      '| 10,000 | 9,000 | 9,200 (9,100 to 9,300) | 1.00 | 99% | 600 |' in page
  )
  assert '| 1,000,000 | 111,111 | 81 | 90 | 52,631 (52,631 to 52,631) |' in page


def test_one_part_by_itself(tmp_path):
  part = {'PARTS': 'training_bfloat16', 'REPEATS': '2'}
  _, calls, page = run(tmp_path, **part)
  assert ' --repeats=2 ' in calls[0]
  assert [c.split()[1] for c in calls] == [
      'tools.benchmark',
      'tools.benchmark_page',
  ]
  assert 'Growth' not in page


def test_llama_cpp_takes_part_where_it_is(tmp_path):
  gguf = tmp_path / 'model.gguf'
  gguf.touch()
  given = {'LLAMA_SERVER': sys.executable, 'GGUF': str(gguf)}
  part = 'sampling_bfloat16_llama_cpp'
  _, calls, _ = run(tmp_path, PARTS=part, **given)
  assert len(calls) == 2
  for flag in (
      '--dtype=bfloat16',
      '--job=sampling',
      '--compare=llama_cpp',
      '--slots=12,24,48',
      '--peer_batches=8,16,32,48',
      f'--gguf={gguf}',
      f'--json={tmp_path}/out/cpu/{part}.json',
  ):
    assert f' {flag} ' in f' {calls[0]} '
  for missing in given:
    (tmp_path / 'calls').unlink()
    status, calls, _ = run(
        tmp_path, PARTS=part, **(given | {missing: 'not-there'})
    )
    assert (status, len(calls)) == (0, 1)


def test_a_part_that_fails_does_not_stop_the_others(tmp_path):
  status, calls, page = run(tmp_path, broken='cost_growth')
  assert status == 1
  assert len(calls) == 11
  assert 'Growth' not in page


def test_the_flags_exist(tmp_path):
  """The stand-in would take any."""
  (tmp_path / 'gguf').touch()
  given = {'LLAMA_SERVER': sys.executable, 'GGUF': str(tmp_path / 'gguf')}
  _, calls, _ = run(tmp_path, **given)
  for call in calls[::3]:
    module, *flags = call.split()[1:]
    done = subprocess.run(
        [sys.executable, '-m', module, *flags, '--only_check_args'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_side_by_itself_is_not_compared():
  alone = {k: v for k, v in RESULT.items() if not k.startswith('ratio')}
  del alone['theirs']
  text = benchmark_page.page({'alone': alone}, 'cpu')
  row = '| alone | sampling | float32 | 10% | 80% | 8, 3 from the cache | 7.0 |'
  assert f'{row} 2.0, 1.0, 9.5 |' in text
  assert '/s |' not in text


def test_a_command_is_told_without_the_folders_of_one_machine(monkeypatch):
  given = ['--model=models/m', '--gguf=/home/me/m.gguf', '--repeats=5']
  monkeypatch.setattr(sys, 'argv', ['benchmark', *given])
  found = benchmark_report.provenance('tools.benchmark', ['jax', 'calm_jax'])
  assert found['command'] == (
      'python -m tools.benchmark --model=models/m --gguf=m.gguf --repeats=5'
  )
