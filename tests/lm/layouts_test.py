"""One sequence or two for a pair: what is chosen, and what it rests on."""

from __future__ import annotations

import pytest

from calm_jax.lm import batches, layouts
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
