"""Tests of systems side by side, on answers that fit in the head."""

from __future__ import annotations

import pytest

from calm_jax import records
from calm_jax.qa import metrics, scoring


def answers(*rows, golds='AAAAAA', langs=('en', 'fr')):
  """One string a language: what was answered to each question, - for none."""
  predictions = [
      records.Prediction(
          's',
          f'q{i}',
          lang,
          '',
          None if letter == '-' else letter,
          '',
          None if golds[i] == '?' else golds[i],
      )
      for lang, row in zip(langs, rows, strict=True)
      for i, letter in enumerate(row)
  ]
  return metrics.collect(predictions, langs)


def score(systems, **changes):
  found = scoring.score(
      systems, **{'setting': 'test', 'resamples': 50, 'seed': 1, **changes}
  )
  return {(s.system, s.lang, s.metric): s for s in found}


def test_every_system_and_its_difference_to_the_first():
  base, sft, calm = (
      answers('AAABBB', 'AAABBB'),
      answers('AAAABB', 'AAABBB'),
      answers('AAAAAA', 'AAAAAA'),
  )
  found = score({'base': base, 'sft': sft, 'calm': calm})
  assert found['base', 'en', 'accuracy'].value == 50.0
  assert found['calm', 'all', 'accuracy'].value == 100.0
  assert found['sft-base', 'en', 'accuracy'].value == pytest.approx(100 / 6)
  assert found['calm-base', 'all', 'accuracy'].value == 50.0
  assert {s for s, _, _ in found} == {
      'base',
      'sft',
      'calm',
      'sft-base',
      'calm-base',
  }
  # Paired: nothing moved in French, in whatever resample.
  still = found['sft-base', 'fr', 'accuracy']
  assert (still.value, still.low, still.high) == (0.0, 0.0, 0.0)


def test_one_system_has_no_difference():
  assert {s for s, _, _ in score({'calm': answers('AB', 'AB')})} == {'calm'}


def test_systems_must_answer_the_same():
  with pytest.raises(ValueError, match='sft and base answered different'):
    score({'base': answers('AAA', 'AAA'), 'sft': answers('AA', 'AA')})


def test_contrasts_count_what_only_one_got_right():
  one = answers('AAAB-A', 'AAAAAA', golds='AAAAA?')
  other = answers('BA-BAB', 'AAAAAA', golds='AAAAA?')
  found = {
      c.lang: c
      for c in scoring.contrasts({'x': one, 'y': other}, setting='test')
  }
  en, fr, both = found['en'], found['fr'], found['all']
  assert (en.first, en.second, en.setting) == ('x', 'y', 'test')
  assert (en.n, en.first_only, en.second_only) == (5, 2, 1)
  assert en.p_value == 1.0
  assert (fr.n, fr.first_only, fr.second_only) == (5, 0, 0)
  assert (both.n, both.first_only, both.second_only) == (10, 2, 1)


def test_contrasts_are_of_every_two_in_the_languages_they_share():
  more = answers('AA', 'BB', 'AB', langs=('fr', 'de', 'en'))
  found = scoring.contrasts(
      {'a': answers('AA', 'BB'), 'b': answers('AA', 'AA'), 'c': more},
      setting='test',
  )
  pairs = [(c.first, c.second, c.lang) for c in found]
  assert pairs == [
      (*pair, lang)
      for pair in (('a', 'b'), ('a', 'c'), ('b', 'c'))
      for lang in ('en', 'fr', 'all')
  ]
  only = {
      c.lang: (c.first_only, c.second_only)
      for c in found
      if (c.first, c.second) == ('a', 'c')
  }
  assert only == {'en': (1, 0), 'fr': (0, 2), 'all': (1, 2)}


def test_systems_without_a_language_in_common_are_not_contrasted():
  one = answers('AA', langs=('en',))
  other = answers('AA', langs=('fr',))
  assert scoring.contrasts({'a': one, 'b': other}, setting='test') == []
