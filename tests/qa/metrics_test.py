"""Hand-worked metrics, brute force, and the statistics of the intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from calm_jax import records
from calm_jax.qa import metrics

NO, OFF = metrics.UNPARSED, metrics.ABSENT

# Three languages, four questions: all alike, two alike, none, one unparsed.
CODES = np.array([[0, 1, 0, 2], [0, 1, 1, NO], [0, 2, 2, 2]])
GOLD = np.array([0, 1, 2, 2])


def _by_subsets(codes, size):
  """Consistency_s as the paper writes it: over subsets, then questions."""
  subsets = list(itertools.combinations(range(len(codes)), size))
  parts = [
      np.mean([len(set(column)) == 1 and NO not in column for column in rows.T])
      for rows in (codes[list(s)] for s in subsets)
  ]
  return 100 * np.mean(parts)


def test_accuracy_counts_an_unparsed_answer_as_wrong():
  assert metrics.accuracy(CODES, GOLD).tolist() == [75.0, 50.0, 75.0]


def test_accuracy_leaves_out_what_was_not_asked_or_has_no_gold():
  codes = np.array([[0, OFF, 1, 1]])
  gold = np.array([0, 1, OFF, 0])
  assert metrics.accuracy(codes, gold).tolist() == [50.0]


def test_consistency_of_two_and_three_languages_by_hand():
  # Pairs alike: 3 + 1 + 0 + 1 of 12; triples alike: 1 of 4.
  assert metrics.consistency(CODES) == pytest.approx(100 * 5 / 12)
  assert metrics.consistency(CODES, 3) == pytest.approx(25.0)


def test_consistency_over_parsed_questions_leaves_the_others_out():
  # Without the fourth question: 4 of 9.
  assert metrics.consistency(CODES, strict=False) == pytest.approx(400 / 9)


@pytest.mark.parametrize('size', [2, 3, 4, 5, 6])
def test_consistency_equals_enumerating_all_subsets(size):
  rng = np.random.default_rng(size)
  codes = rng.integers(NO, 4, (6, 60))
  expected = _by_subsets(codes, size)
  assert metrics.consistency(codes, size) == pytest.approx(expected)


def test_two_unparsed_answers_do_not_agree():
  codes = np.array([[NO, 0], [NO, 0]])
  assert metrics.consistency(codes) == 50.0
  assert metrics.consistency(codes, strict=False) == 100.0


def test_strict_consistency_ignores_a_question_not_asked_everywhere():
  codes = np.array([[0, 0, 1], [0, OFF, NO]])
  assert metrics.consistency(codes) == 50.0


def test_consistency_refuses_more_languages_than_there_are():
  with pytest.raises(ValueError, match='needs 2 to 3 languages, not 4'):
    metrics.consistency(CODES, 4)


def test_consistency_of_nothing_is_zero():
  empty = np.zeros((2, 0), np.int32)
  assert metrics.consistency(empty) == 0.0


def test_pairwise_holds_every_two_languages():
  matrix = metrics.pairwise(CODES)
  np.testing.assert_allclose(
      matrix, [[100, 50, 50], [50, 100, 25], [50, 25, 100]]
  )


def test_ac3_is_the_harmonic_mean():
  assert metrics.ac3(50.0, 100.0) == pytest.approx(200 / 3)
  assert metrics.ac3(0.0, 0.0) == 0.0
  both = metrics.ac3(np.array([50.0, 0.0]), np.array([100.0, 0.0]))
  np.testing.assert_allclose(both, [200 / 3, 0.0])


def test_encode_gives_equal_codes_to_equal_keys_only():
  table = {}
  codes = metrics.encode([['B', None, 'A'], ['A', 'B', 'B']], table)
  assert codes.tolist() == [[0, NO, 1], [1, 0, 0]]
  assert table == {'B': 0, 'A': 1}


def _prediction(name, lang, answer, gold='A'):
  return records.Prediction('base', name, lang, '', answer, 'header', gold)


def test_collect_aligns_questions_and_marks_what_is_missing():
  answers = metrics.collect(
      [
          _prediction('q2', 'fr', None),
          _prediction('q1', 'en', 'B'),
          _prediction('q1', 'fr', 'B', gold=None),
          _prediction('q1', 'de', 'C'),
      ],
      ('en', 'fr'),
  )
  assert answers.question_ids == ('q1', 'q2')
  assert answers.codes[0, 1] == OFF
  assert answers.codes[1, 1] == NO
  assert answers.codes[0, 0] == answers.codes[1, 0] != answers.gold[0]
  assert answers.gold[0] == answers.gold[1] >= 0


def test_collect_refuses_contradictions():
  twice = [_prediction('q1', 'en', 'A')] * 2
  with pytest.raises(ValueError, match="two answers to question 'q1' in en"):
    metrics.collect(twice, ('en',))
  golds = [_prediction('q1', 'en', 'A'), _prediction('q1', 'fr', 'A', 'B')]
  with pytest.raises(ValueError, match="'q1' has two golds"):
    metrics.collect(golds, ('en', 'fr'))


def test_every_resample_holds_as_many_questions_and_the_seed_decides():
  times = metrics.resample(50, count=20, seed=1)
  assert (times.sum(1) == 50).all()
  assert (times == metrics.resample(50, count=20, seed=1)).all()
  assert (times != metrics.resample(50, count=20, seed=2)).any()


def test_interval_has_the_width_of_the_normal_approximation():
  values = np.arange(400) % 4 == 0
  times = metrics.resample(400, count=4000, seed=0)
  estimate = metrics.mean(values, np.ones(400, bool), times)
  low, high = estimate.interval()
  error = 100 * np.sqrt(0.25 * 0.75 / 400)
  assert estimate.value == 25.0
  assert low == pytest.approx(25 - 1.96 * error, abs=0.5)
  assert high == pytest.approx(25 + 1.96 * error, abs=0.5)


def test_mean_of_a_subset_is_resampled_over_the_subset():
  values = np.array([1.0, 1.0, 0.0, 5.0])
  counted = np.array([True, True, False, False])
  times = metrics.resample(4, count=300, seed=0)
  estimate = metrics.mean(values, counted, times)
  # Some resamples hold none of the two questions; they must not count as 0.
  assert not np.isfinite(estimate.draws).all()
  assert (estimate.value, estimate.n) == (100.0, 2)
  assert estimate.interval() == (100.0, 100.0)


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
  rng = np.random.default_rng(0)
  before = rng.random(500) < 0.5
  after = before | (rng.random(500) < 0.1)
  every = np.ones(500, bool)
  one, other = (metrics.resample(500, count=2000, seed=s) for s in (1, 2))
  paired = metrics.difference(
      metrics.mean(before, every, one), metrics.mean(after, every, one)
  )
  unpaired = metrics.difference(
      metrics.mean(before, every, one), metrics.mean(after, every, other)
  )
  width = lambda estimate: np.subtract(*estimate.interval()[::-1])
  assert paired.value == pytest.approx(100 * (after.mean() - before.mean()))
  assert width(paired) < 0.5 * width(unpaired)
  assert paired.interval()[0] > 0


def test_difference_refuses_other_resamples():
  every = np.ones(4, bool)
  few, many = (
      metrics.mean(every, every, metrics.resample(4, count=n, seed=0))
      for n in (5, 6)
  )
  with pytest.raises(ValueError, match='5 and 6 resamples are not paired'):
    metrics.difference(few, many)


def test_estimates_of_all_metrics_agree_with_the_plain_functions():
  rng = np.random.default_rng(3)
  codes = rng.integers(NO, 3, (4, 80))
  gold = rng.integers(0, 3, 80)
  languages = ('en', 'zh', 'fr', 'ja')
  answers = metrics.Answers(codes, gold, languages, tuple(map(str, range(80))))
  found = metrics.estimates(answers, metrics.resample(80, count=50, seed=0))
  right = metrics.accuracy(codes, gold)
  assert found['ja', 'accuracy'].value == pytest.approx(right[3])
  assert found['all', 'accuracy'].value == pytest.approx(right.mean())
  assert found['all', 'accuracy_en_zh_fr'].value == pytest.approx(
      right[:3].mean()
  )
  for size in (2, 3, 4):
    for kind, strict in (('', True), ('_parsed', False)):
      same = metrics.consistency(codes, size, strict=strict)
      assert found['all', f'consistency_{size}{kind}'].value == (
          pytest.approx(same)
      )
      both = metrics.ac3(right.mean(), same)
      assert found['all', f'ac3_{size}{kind}'].value == pytest.approx(both)
  unparsed = 100 * (codes[1] == NO).mean()
  assert found['zh', 'unparsed'].value == pytest.approx(unparsed)


def test_estimates_without_gold_hold_no_accuracy():
  codes = np.zeros((2, 5), np.int32)
  answers = metrics.Answers(
      codes, np.full(5, OFF), ('en', 'de'), tuple('abcde')
  )
  found = metrics.estimates(answers, metrics.resample(5, count=9, seed=0))
  assert ('en', 'accuracy') not in found
  assert ('all', 'ac3_2') not in found
  assert found['all', 'consistency_2'].value == 100.0


@pytest.mark.parametrize(
    ('first_only', 'second_only', 'p_value'),
    [
        (0, 0, 1.0),
        (0, 1, 1.0),
        (3, 3, 1.0),
        (1, 5, 2 * (1 + 6) / 64),
        (5, 1, 2 * (1 + 6) / 64),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (0, 20, 2 / 2**20),
    ],
)
def test_mcnemar_is_a_coin_that_falls_so_or_more_unevenly(
    first_only, second_only, p_value
):
  assert metrics.mcnemar(first_only, second_only) == p_value


def test_mcnemar_of_many_is_near_the_normal_distribution():
  # 5,000 coins, 100 off the middle: z = 199 / sqrt(5000) with the correction.
  normal = math.erfc(199 / math.sqrt(5000) / math.sqrt(2))
  assert metrics.mcnemar(2400, 2600) == pytest.approx(normal, rel=1e-2)


def test_a_subset_keeps_its_questions_answers_and_golds():
  rows = [
      records.Prediction('s', name, lang, '', answer, '', gold)
      for name, answer, gold in (('a', 'A', 'A'), ('b', 'B', 'A'))
      for lang in ('en', 'fr')
  ]
  whole = metrics.collect(rows, ('en', 'fr'))
  part = metrics.subset(whole, np.array([False, True]))
  assert part.question_ids == ('b',)
  assert metrics.accuracy(part.codes, part.gold).tolist() == [0.0, 0.0]
  right, scored = metrics.correct(whole)
  assert right.tolist() == [[True, False]] * 2
  assert scored.all()
