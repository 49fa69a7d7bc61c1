"""Tests of what systems that follow each other forget."""

from __future__ import annotations

import itertools
import pathlib

import numpy as np
import pytest

from calm_jax import records
from calm_jax.qa import forgetting, lineage, metrics

LANGS = ('en', 'fr')
SEED, RESAMPLES = 3, 200


def system(name, trained, start=''):
  return lineage.System(name, pathlib.Path(name), 'dev', LANGS, trained, start)


def answers(**letters):
  """A system's answers, a string a language; A is right."""
  rows = [
      records.Prediction('', f'q{i:03d}', lang, '', letter, 'letter', 'A')
      for lang, row in letters.items()
      for i, letter in enumerate(row)
  ]
  return metrics.collect(rows, tuple(letters))


def kept(systems, given, langs=LANGS):
  rows = forgetting.kept(systems, given, langs, resamples=RESAMPLES, seed=SEED)
  return dict(rows)


def test_what_was_learnt_and_what_was_forgotten():
  systems = [
      system('base', ()),
      system('en', ('en',)),
      system('then_fr', ('fr',), 'en'),
      system('then_en', ('en',), 'then_fr'),
      system('mixed', ('en', 'fr')),
  ]
  rows = kept(
      systems,
      {
          'base': answers(en='BBBB', fr='BBBB'),
          'en': answers(en='AAAB', fr='BBBB'),
          'then_fr': answers(en='AABB', fr='AAAA'),
          'then_en': answers(en='AAAA', fr='ABBB'),
          'mixed': answers(en='AAAA', fr='AAAA'),
      },
  )
  told = {
      name: [(k.lang, k.value, k.change, k.trained) for k in row]
      for name, row in rows.items()
  }
  assert told == {
      'en': [('en', 75.0, None, True), ('fr', 0.0, None, False)],
      'then_fr': [('en', 50.0, -25.0, False), ('fr', 100.0, None, True)],
      # Against the best of the chain, 75 after `en` itself.
      'then_en': [('en', 100.0, 25.0, True), ('fr', 25.0, -75.0, False)],
  }
  for row in rows.values():
    for cell in row:
      assert (cell.low is None) == (cell.high is None) == (cell.change is None)


def test_the_interval_is_paired_and_takes_the_best_of_each_resample():
  rng = np.random.default_rng(0)
  right = rng.random((3, 60)) < [[0.6], [0.6], [0.5]]
  names = ('one', 'two', 'three')
  given = {
      name: answers(en=''.join('BA'[int(r)] for r in row))
      for name, row in zip(names, right, strict=True)
  }
  chain = [system('one', ('en',))]
  for above, name in itertools.pairwise(names):
    chain.append(system(name, ('en',), above))
  (cell,) = kept(chain, given, ('en',))['three']
  drawn = np.random.default_rng(SEED)
  changes = []
  for _ in range(RESAMPLES):
    chosen = drawn.integers(0, 60, 60)
    one, two, three = 100 * right[:, chosen].mean(1)
    changes.append(three - max(one, two))
  expected = np.percentile(changes, (2.5, 97.5))
  assert (cell.low, cell.high) == pytest.approx(tuple(expected))
  means = 100 * right.mean(1)
  assert cell.change == pytest.approx(means[2] - max(means[:2]))


def test_a_language_that_nobody_was_asked_in_is_blank():
  systems = [system('en', ('en',)), system('then_fr', ('fr',), 'en')]
  rows = kept(
      systems,
      {'en': answers(en='AB'), 'then_fr': answers(en='AB')},
      ('en', 'ja'),
  )
  assert rows['then_fr'][0].change == 0.0
  assert (rows['then_fr'][1].value, rows['then_fr'][1].change) == (None, None)


def test_a_system_without_answers_has_no_row():
  systems = [system('en', ('en',)), system('then_fr', ('fr',), 'en')]
  assert kept(systems, {'en': answers(en='AB')}).keys() == {'en'}
