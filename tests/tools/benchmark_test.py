"""Benchmarks of a tiny model: the same work on both sides, and its numbers."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from calm_jax.lm import roofline, sharding
from tools import benchmark_device, benchmark_model, benchmark_ours
from tools import benchmark_report as report
from tools import benchmark_turns as turns
from tools import benchmark_work as work

ROOT = pathlib.Path(__file__).parents[2]
TINY = work.LENGTHS['tiny']
FLAGS = ('--shape=tiny', '--lengths=tiny', '--max_new_tokens=6')


def run(path, *changes):
  """A benchmark in its own process, whose environment it changes."""
  done = subprocess.run(
      [
          *(sys.executable, '-m', 'tools.benchmark', *FLAGS),
          *(f'--json={path}', *changes),
      ],
      cwd=ROOT,
      # Not the four devices of the tests.
      env=os.environ | {'XLA_FLAGS': '', 'PYTHONWARNINGS': 'ignore'},
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return json.loads(path.read_text()), done.stdout


def a_run(seconds, cpu_seconds, done, **details):
  return work.Run(seconds, cpu_seconds, done, details)


def questions(**changes):
  settings = {'requests': 30, 'samples': 3, 'max_new_tokens': 5, 'seed': 1}
  return work.questions(range(2, 90), TINY, **(settings | changes))


def test_questions_are_what_was_asked_for():
  found = questions()
  assert len(found) == 10
  assert {len(q.answers) for q in found} == {3}
  lengths = {n for q in found for n in q.answers}
  assert lengths == {1, 2, 3, 4, 5}  # up to 6, had they been asked for
  assert {len(q.prompt) for q in found} <= set(range(4, 13))
  assert found == questions() != questions(seed=2)


def test_prompts_are_cut_out_of_the_text():
  """Also over its end, where it starts again."""
  for question in questions():
    pairs = itertools.pairwise(question.prompt)
    steps = {(b - a) % 88 for a, b in pairs}
    assert steps == {1}


def test_pairs_share_their_prompt_and_end():
  found = work.pairs(range(2, 90), TINY, count=20, seed=0)
  assert {len(p.prompt) for p in found} <= set(range(8, 17))
  for pair in found:
    for side in (pair.chosen, pair.rejected):
      assert 2 <= len(side) <= 8
      assert side[-1] == work.EOS
      assert work.EOS not in side[:-1]


def test_the_papers_lengths():
  """Mean answers of 150 tokens, at most 512."""
  found = work.questions(
      range(2, 9),
      work.LENGTHS['paper'],
      requests=6000,
      samples=3,
      max_new_tokens=512,
      seed=0,
  )
  answers = [n for q in found for n in q.answers]
  assert sum(answers) / len(answers) == pytest.approx(150, rel=0.03)
  assert max(answers) == 512
  prompts = [len(q.prompt) for q in found]
  assert sum(prompts) / len(prompts) == pytest.approx(300, rel=0.03)


def test_sides_take_turns():
  order = []

  def side(name):
    order.append(name)
    return a_run(1.0, 1.0, len(order))

  runs = turns.in_turns({k: lambda k=k: side(k) for k in 'ab'}, 2)
  assert order == ['a', 'b', 'a', 'b']
  assert [r.done for r in runs['b']] == [2, 4]


def test_a_ratio_is_of_each_turn():
  """The machine got slower by half: the turns still agree."""
  ours = [a_run(1.0, 1.0, 30), a_run(2.0, 1.0, 30), a_run(1.0, 1.0, 30)]
  theirs = [a_run(1.0, 2.0, 10), a_run(2.0, 2.0, 10), a_run(2.0, 2.0, 10)]
  assert report.ratios(ours, theirs) == {
      'ratio': 3.0,
      'ratio_spread': [3.0, 6.0],
      'ratio_of_cpu_seconds': 6.0,
  }


def test_a_summary_has_medians():
  runs = [a_run(s, 1.0, 10, tokens=100, steps=4) for s in (1.0, 2.0, 10.0)]
  found = report.summary(runs, 'pairs')
  assert found['pairs_per_second'] == 5.0
  assert found['tokens_per_second'] == 50.0
  assert found['spread'] == [1.0, 10.0]
  assert found['steps'] == 4


def test_the_peak_of_memory_is_of_this_process():
  """Not of the process that started it, as getrusage would tell."""
  block = bytearray(200 << 20)
  mine = work.peak_resident()
  assert mine > len(block)
  code = 'from tools import benchmark_work as w; print(w.peak_resident())'
  done = subprocess.run(
      [sys.executable, '-c', code], cwd=ROOT, capture_output=True, check=True
  )
  assert int(done.stdout) < 150 << 20


@pytest.mark.slow
def test_sampling(tmp_path):
  result, text = run(tmp_path / 'a' / 'out.json', '--requests=6', '--slots=3')
  ours = result['ours']
  assert [r['done'] for r in ours['runs']] == [
      sum(sum(q.answers) for q in _questions_of(result))
  ] * 3
  assert 0 < ours['roofline'] < 1
  assert 0 < ours['slot_utilisation'] <= 1
  assert 0 <= ours['padding'] < 1
  assert ours['peak_memory_bytes'] > 1 << 27
  assert result['compilations']['count'] > 0
  assert result['device']['bandwidth'] > 1e8
  assert result['machine']['cores_used'] == 1
  assert '--requests=6' in result['command']
  assert f'{ours["tokens_per_second"]:.4g} tokens/second' in text
  assert 'ratio' not in result


def _questions_of(result):
  vocab = result['dimensions']['vocab_size']
  return work.questions(
      work.random_corpus(vocab, 0),
      TINY,
      requests=6,
      samples=3,
      max_new_tokens=6,
      seed=0,
  )


@pytest.mark.slow
def test_training(tmp_path):
  result, _ = run(
      tmp_path / 'out.json', '--job=training', '--pairs=4', '--batch=2'
  )
  ours = result['ours']
  assert ours['steps'] == 2
  assert 0 < ours['roofline'] < 1
  assert 0 < ours['padding'] < 1
  assert ours['pairs_per_second'] > 0
  assert result['compilations_while_measured']['count'] == 0


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize(
    'flags',
    [
        ('--compare=hf', '--requests=6', '--slots=3,6', '--peer_batches=3,6'),
        (
            *('--job=training', '--compare=trl', '--pairs=4', '--batch=2'),
            *('--accumulation=2', '--lora_rank=3', '--lora_targets=o_proj'),
        ),
    ],
)
def test_beside_a_peer(tmp_path, flags):
  for package in ('torch', 'transformers', 'trl', 'peft', 'datasets'):
    pytest.importorskip(package, reason='the other side needs it')
  result, text = run(tmp_path / 'out.json', '--repeats=2', *flags)
  for side in ('ours', 'theirs'):
    assert len(result[side]['runs']) == 2
    if 'probe' in result[side]:
      assert list(result[side]['probe']['tokens_per_cpu_second']) == ['3', '6']
  # Both sides did the same work.
  done = {
      r['done'] for side in ('ours', 'theirs') for r in result[side]['runs']
  }
  assert len(done) == 1
  for name in ('steps', 'trained_parameters'):
    ours, theirs = (result[side].get(name) for side in ('ours', 'theirs'))
    assert ours == theirs
  low, high = result['ratio_spread']
  assert 0 < low <= result['ratio'] <= high
  assert f'ratio: {result["ratio"]:.2f}' in text
  assert result['versions']['torch']


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (('--shape=tiny', '--model=x'), 'give either --model or --shape'),
        (('--shape=tiny', '--compare=trl'), 'needs --job=training'),
        (('--job=training', '--pairs=3', '--batch=2'), 'must divide it'),
        (('--shape=tiny', '--slots=4,x'), '--slots=4,x: must be whole'),
        (('--slots=48,96', '--probe_every=2'), 'a probe of 48 answers'),
        (('--mesh=1,1',), '--mesh=1,1: must be data,fsdp,tensor'),
        (('--shape=tiny', '--threads=4096'), 'cores are here'),
    ],
)
def test_what_cannot_be_is_refused(flags, message):
  done = subprocess.run(
      [sys.executable, '-m', 'tools.benchmark', *flags],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 1
  assert message in ' '.join((done.stdout + done.stderr).split())


def test_what_is_not_there_is_an_error():
  with pytest.raises(ValueError, match='there are llama3-8b, '):
    benchmark_model.random_model('llama', 'float32', 0)
  with pytest.raises(ValueError, match='--device=tpu: jax found'):
    benchmark_device.check('tpu')


def test_the_floor_of_a_job():
  """The tool hands the formulas what was drawn, and nothing else."""
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  model = benchmark_model.Model(
      benchmark_model.SHAPES['tiny'], {}, 'float32', (), mesh
  )
  device = roofline.Device('made up', 1e9, 1e9, 4)
  one = [work.Question((5,) * 7, (2, 3))]
  side = benchmark_ours.Sampling(model, one, max_new_tokens=6, seed=0)
  side.settle(2)
  assert side.floor(device) == roofline.sampling(
      model.cfg, device, [roofline.Question(7, (2, 3))], slots=2
  )
