"""Self-RAG's scores against numbers worked by hand from the paper."""

from __future__ import annotations

import math

import pytest

from calm_jax import records
from calm_jax.retrieval import selfrag


def settings(**changes):
  fields = {
      'mode': 'adaptive',
      'threshold': 0.2,
      'relevance': 1.0,
      'support': 1.0,
      'utility': 0.5,
      'sequence': 0.0,
      'scoring': 'paper',
      'keep_tokens': False,
  }
  return selfrag.Settings(**(fields | changes))


def row(**probabilities):
  """Watched log-probabilities of one step; what is not named is rare."""
  names = {
      'retrieve': '[Retrieval]',
      'no': '[No Retrieval]',
      'relevant': '[Relevant]',
      'irrelevant': '[Irrelevant]',
      'full': '[Fully supported]',
      'part': '[Partially supported]',
      'none': '[No support / Contradictory]',
  } | {f'u{i}': f'[Utility:{i}]' for i in range(1, 6)}
  named = {names[name]: p for name, p in probabilities.items()}
  return [math.log(named.get(name, 1e-9)) for name in selfrag.WATCHED]


# "[Relevant]" word "[Fully supported]" "[Utility:5]": what a step before or
# after one of them says of the same tokens must not be read.
TOKENS = ('[Relevant]', '', '[Fully supported]', '[Utility:5]')
STEPS = [
    row(relevant=0.6, irrelevant=0.2, full=0.9, u1=0.05),
    row(relevant=0.1, irrelevant=0.9, none=0.9, u1=0.05),
    row(full=0.3, part=0.2, none=0.1, u1=0.3),
    row(full=0.01, none=0.4, u1=0.1, u3=0.1, u4=0.1, u5=0.2),
]


def judge(tokens=TOKENS, steps=STEPS, mean=-0.5, alone=False, **changes):
  return selfrag.judge(
      tokens,
      steps,
      mean_logprob=mean,
      settings=settings(**changes),
      alone=alone,
  )


def test_scores_are_the_papers():
  scores = judge()
  assert scores.relevance == pytest.approx(0.6 / 0.8)
  assert scores.support == pytest.approx((0.3 + 0.5 * 0.2) / 0.6)
  # (-0.1 + 0 + 0.05 + 0.2) / 0.5
  assert scores.utility == pytest.approx(0.3)
  assert scores.sequence == pytest.approx(math.exp(-0.5))
  assert scores.total == pytest.approx(0.75 + 2 / 3 + 0.5 * 0.3)
  assert scores.probabilities['[Partially supported]'] == pytest.approx(0.2)
  assert scores.probabilities['[Utility:5]'] == pytest.approx(0.2)
  assert len(scores.probabilities) == 2 + 3 + 5


def test_weights_are_the_settings():
  scores = judge(relevance=2.0, support=0.0, utility=1.0, sequence=3.0)
  wanted = 2 * 0.75 + 0.3 + 3 * math.exp(-0.5)
  assert scores.total == pytest.approx(wanted)


def test_the_first_token_of_a_kind_counts():
  later = row(none=0.9, u1=0.9)
  tokens = (*TOKENS, '[No support / Contradictory]', '[Utility:1]')
  assert judge(tokens, [*STEPS, later, later]) == judge()


def test_tokens_that_were_not_drawn_add_nothing():
  scores = judge(('', ''), STEPS[:2])
  assert (scores.support, scores.utility) == (None, None)
  assert scores.relevance == pytest.approx(0.75)  # drawn or not
  assert scores.total == pytest.approx(0.75)
  assert scores.probabilities.keys() == set(selfrag.RELEVANCE)


def test_without_a_passage_nothing_is_relevant():
  scores = judge(alone=True)
  assert scores.relevance is None
  assert scores.total == pytest.approx(2 / 3 + 0.15)


def test_probabilities_too_small_for_a_float_still_have_a_ratio():
  steps = [[-2000.0 - i for i in range(len(selfrag.WATCHED))]]
  scores = judge((TOKENS[0],), steps)
  assert scores.relevance == pytest.approx(1 / (1 + math.exp(-1)))


@pytest.mark.parametrize(
    ('scoring', 'utility'), [('released', 0.3), ('released_long', None)]
)
def test_the_released_codes_utility(scoring, utility):
  """run_long_form_static.py never counts it, run_short_form.py does."""
  scores = judge(scoring=scoring)
  assert scores.utility == (utility and pytest.approx(utility))
  assert scores.support == judge().support


@pytest.mark.parametrize(
    ('yes', 'no', 'threshold', 'paper', 'released'),
    [
        # The model is sure that it needs passages: -log .9 / (-log .9 - log .1)
        # is 0.044, and the released code retrieves nothing.
        (0.9, 0.1, 0.2, True, False),
        # It is sure that it needs none, and the ratio is 0.98.
        (0.01, 0.9, 0.2, False, True),
        (0.1, 0.4, 0.19, True, True),
        (0.1, 0.4, 0.21, False, True),
    ],
)
def test_when_to_retrieve(yes, no, threshold, paper, released):
  logprobs = {'[Retrieval]': math.log(yes), '[No Retrieval]': math.log(no)}
  wanted, score = selfrag.wants_passages(
      logprobs, settings(threshold=threshold)
  )
  assert (wanted, score) == (paper, pytest.approx(yes / (yes + no)))
  wanted, score = selfrag.wants_passages(
      logprobs, settings(threshold=threshold, scoring='released')
  )
  ratio = math.log(yes) / (math.log(yes) + math.log(no))
  assert (wanted, score) == (released, pytest.approx(ratio))


@pytest.mark.parametrize(
    ('answers', 'totals', 'elected'),
    [
        # 0.6 + 0.5 beats the best single one, and is worded as the better.
        (('A', 'B', 'B'), (1.0, 0.5, 0.6), 2),
        (('A', 'B', 'B'), (1.2, 0.5, 0.6), 0),
        # What names no option is no option.
        ((None, 'B', None), (2.0, 0.1, 2.0), 1),
        ((None, None), (0.1, 0.2), 1),
        # A utility below 0 may make a sum smaller than its parts.
        (('A', 'A', 'B'), (-0.1, -0.2, -0.15), 2),
        (('A', 'B'), (1.0, 1.0), 0),
    ],
)
def test_an_option_wins_by_the_sum_of_its_passages(answers, totals, elected):
  assert selfrag.elect(answers, totals) == elected


def test_an_answer_begins_with_its_passage():
  passage = records.Passage('en/Anatomy_Gray@12', 'en/Anatomy_Gray', 'A heart.')
  assert selfrag.opening(passage) == (
      '[Retrieval]',
      '<paragraph>',
      'Anatomy Gray\nA heart.',
      '</paragraph>',
  )
  assert selfrag.opening(None) == ('[No Retrieval]',)
  assert set(selfrag.opening(passage)[:2]) < set(selfrag.TOKENS)
