"""One sequence or two for a pair: what is chosen, and what it rests on."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from calm_jax.lm import batches, layouts, plans, roofline
from tools import benchmark_model

SMOLLM2 = benchmark_model.SHAPES['smollm2-135m']
LLAMA3 = benchmark_model.SHAPES['llama3-8b']


def pair(prompt, chosen, rejected=None):
  rejected = chosen if rejected is None else rejected
  return batches.Row((1,) * prompt, ((2,) * chosen, (3,) * rejected))


# The first three are measured (docs/LOG.md, "one row or two").
@pytest.mark.parametrize(
    ('model', 'prompt', 'answers', 'sequences'),
    [
        (SMOLLM2, 50, 300, 2),
        (SMOLLM2, 200, 200, 1),
        (SMOLLM2, 400, 100, 1),
        (LLAMA3, 400, 300, 1),  # the paper's
        (LLAMA3, 50, 300, 1),
    ],
)
def test_short_prompts_of_small_models_are_computed_twice(
    model, prompt, answers, sequences
):
  rows = [pair(prompt, answers)] * 3
  assert layouts.choose(model, rows, asked='auto') == sequences


def test_what_is_asked_for_is_done():
  rows = [pair(50, 300)]
  assert layouts.choose(SMOLLM2, rows, asked='shared') == 1
  assert layouts.choose(SMOLLM2, [pair(400, 100)], asked='apart') == 2


def test_about_the_same_is_no_reason():
  ratio = layouts.estimate(SMOLLM2, [pair(75, 300)])
  assert 0.97 < ratio < 1
  assert layouts.choose(SMOLLM2, [pair(75, 300)], asked='auto') == 1


def test_the_shorter_answer_is_padded_to_the_longer():
  even = layouts.estimate(SMOLLM2, [pair(50, 300)])
  odd = layouts.estimate(SMOLLM2, [pair(50, 500, 100)])
  assert odd > 1.3 > even


def test_all_pairs_of_a_run_have_one_layout(capsys):
  rows = {'train': [pair(50, 300)] * 3 + [pair(75, 300)], 'val': []}
  settled = layouts.settle(SMOLLM2, rows, asked='auto')
  assert [row.sequences for row in settled['train']] == [2] * 4
  assert settled['val'] == []
  said = capsys.readouterr().out
  assert 'a pair is two sequences (two would take an estimated 0.96' in said
  rows['val'] = [pair(400, 100)] * 4
  settled = layouts.settle(SMOLLM2, rows, asked='auto')
  assert {row.sequences for s in settled.values() for row in s} == {1}


@pytest.mark.parametrize('asked', ['auto', 'apart'])
def test_a_target_is_one_sequence(asked, capsys):
  target = batches.Row((1,) * 5, ((2,) * 300,))
  settled = layouts.settle(SMOLLM2, {'train': [target]}, asked=asked)
  assert settled == {'train': [target]}
  assert not capsys.readouterr().out


def plan_of(rows, **changes):
  settings = {'batch': 1, 'accumulation': 8, 'epochs': 3, 'seed': 0} | changes
  lengths = batches.lengths(rows)
  return lambda capacity: plans.Plan(
      len(rows), lengths=lengths, window=8, capacity=capacity, **settings
  )


def pack(rows, *, asked='auto', fits=lambda plan: True, **changes):
  plan = plan_of(rows, **changes)
  found = layouts.pack(SMOLLM2, rows, plan, asked=asked, fits=fits)
  return found.capacity


SHORT = [pair(20 + 5 * (i % 9), 20 + i % 41, 20 + i % 37) for i in range(80)]


def test_short_pairs_are_packed(capsys):
  assert pack(SHORT) == 384
  said = capsys.readouterr().out
  assert 'short rows share rows of up to 384 tokens, an estimated 0.9' in said
  assert pack([row._replace(sequences=2) for row in SHORT]) > 0
  assert pack([row._replace(completions=row.completions[:1]) for row in SHORT])


def test_long_pairs_and_single_ones_are_not_packed(capsys):
  assert pack([pair(400, 300)] * 80) == 0  # the paper's
  assert pack(SHORT, accumulation=1) == 0
  # Every device has a row of its own already.
  assert pack(SHORT, accumulation=1, batch=8) == 0
  assert not capsys.readouterr().out


def test_packed_rows_must_fit():
  seen = []

  def fits(plan):
    seen.append(plan.capacity)
    return plan.capacity <= 256

  assert pack(SHORT, fits=fits) == 256
  assert max(seen) > 256
  assert pack(SHORT, fits=lambda plan: False) == 0


def test_packing_can_be_asked_for():
  assert pack(SHORT, asked=0) == 0
  assert pack([pair(400, 300)] * 8, asked=4096) == 4096


def test_the_longest_row_is_of_both_splits():
  rows = {'train': SHORT, 'val': [pair(100, 90, 20)]}
  alone, packed = (plan_of(SHORT)(capacity) for capacity in (0, 512))
  assert layouts.longest(rows, alone) == (224, 128, 1, 1)
  shape = layouts.longest(rows, packed)
  assert 224 < shape.length <= 512
  assert shape.packed > 2
  assert layouts.longest({'train': SHORT, 'val': []}, alone).length < 224


def test_an_estimate_counts_what_is_computed_of_attention(monkeypatch):
  parts = [batches.Part(np.zeros((1, 1), int), batches.Shape(512, 256))]
  on_cpu = layouts._cost(SMOLLM2, parts)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  # Four blocks of queries: the keys of 10 of 16 squares.
  square = roofline.row_flops(SMOLLM2, length=512, completion=256)
  least = roofline.row_flops(
      SMOLLM2, length=512, completion=256, attended=0.625
  )
  assert layouts._cost(SMOLLM2, parts) - on_cpu == pytest.approx(square - least)
