"""Samples, pairs, curves and facts, counted by hand."""

from __future__ import annotations

import math

from calm_jax import records
from calm_jax.html import curves, facts, pairs, plots, samples


def sample(lang, answer, parse, stop='eos', tokens=10):
  return records.Sample('q', lang, 0, '', answer, parse, -1.0, tokens, stop)


def pair(lang, chosen_lang, chosen, rejected, share=0.5):
  return records.Pair('q', lang, 'p', chosen, rejected, chosen_lang, share)


def test_samples():
  rows = samples.tally(
      [
          sample('fr', 'A', 'header'),
          sample('en', None, 'empty', 'length', 30),
          sample('fr', None, 'no_answer'),
          sample('fr', None, 'no_answer', 'length', 40),
      ],
      ('en', 'zh', 'fr'),
  )
  assert [(r.lang, r.samples, r.unparsed, r.tokens) for r in rows] == [
      ('en', 1, 1, 30),
      ('fr', 3, 2, 60),
  ]
  reasons = samples.reasons(r.unparsed_by for r in rows)
  assert reasons == ['no_answer', 'empty']
  assert rows[1].stopped == {'eos': 2, 'length': 1}


def test_pairs():
  train = [
      pair('en', 'en', 'aaaa', 'bb', 0.5),
      pair('fr', 'en', 'a', 'bb', 1.0),
  ]
  rows = pairs.tally(train, [pair('fr', 'fr', 'aaa', 'bb', 0.5)], ('en', 'fr'))
  assert [(r.lang, r.train, r.val, r.crossed, r.longer) for r in rows] == [
      ('en', 1, 0, 0, 1),
      ('fr', 1, 1, 1, 1),
  ]
  assert rows[1].share == 1.5
  assert list(rows[1].chosen) == [1, 3]
  assert [s.label for s in pairs.legend(rows)] == ['chosen', 'rejected']


def test_targets_have_one_side():
  row = records.Target('q', 'en', 'p', 'four', 0.5)
  rows = pairs.tally([row], [], ('en',))
  assert [s.label for s in pairs.legend(rows)] == ['chosen']
  (length,) = pairs.lengths(rows)
  assert length.chosen == plots.Interval(4, 4, 4)
  assert length.rejected is None


def test_quartiles():
  assert pairs.quartiles([5, 1, 3, 2, 4]) == plots.Interval(3, 2, 4)
  assert pairs.quartiles([7]) == plots.Interval(7, 7, 7)
  assert pairs.quartiles([]) is None


def test_curves_come_in_a_known_order():
  rows = [
      {'step': 0, 'split': 'train', 'zeta': 1, 'loss': 0.7, 'epoch': 1},
      {'step': 0, 'split': 'val', 'loss': 0.6, 'note': 'text', 'flag': True},
  ]
  charts = curves.charts(rows)
  assert [c.title for c in charts] == ['Loss', 'zeta']
  assert charts[0].last == {'train': 0.7, 'validation': 0.6}


def test_a_step_logged_twice_counts_once_and_nan_is_counted():
  rows = [
      {'step': 1, 'split': 'train', 'loss': 0.7},
      {'step': 2, 'split': 'train', 'loss': math.nan},
      {'step': 1, 'split': 'train', 'loss': 0.5},
  ]
  (chart,) = curves.charts(rows)
  assert chart.last == {'train': 0.5}
  assert chart.not_finite == 1
  assert 'step 1: 0.5' in chart.figure
  assert '0.7' not in chart.figure.partition('class="curve')[2]


def test_thin_keeps_the_mean():
  points = [(float(i), float(i % 2)) for i in range(1000)]
  thinned = curves.thin(points)
  assert len(thinned) == 200
  assert thinned[0] == (2.0, 0.4)
  assert sum(v for _, v in thinned) / 200 == 0.5
  assert curves.thin(points[:200]) == points[:200]


def test_facts_are_lenient():
  stage = facts.stage(
      'pair',
      {
          'counts': {'rows': 3, 'dropped': {'tie': 2}},
          'seconds': 'long',
          'config': {'a.b': (), 'c': {'d': 'x'}},
          'unknown': 1,
          'versions': None,
      },
  )
  assert stage.counts == {'rows': 3, 'dropped.tie': 2}
  assert stage.config == {'a.b': (), 'c.d': 'x'}
  assert stage.seconds is None
  assert stage.versions == {}
  assert facts.stage('read', {}).counts == {}


def test_a_value_that_differs_is_kept_twice():
  fields = facts.fields(
      [('read', {'jax': '1', 'm': 3}), ('vote', {'jax': '2', 'm': 3})]
  )
  assert fields == [
      facts.Field('jax', '1', ('read',)),
      facts.Field('jax', '2', ('vote',)),
      facts.Field('m', '3', ('read', 'vote')),
  ]
  assert facts.repeated(fields) == {'jax'}


def test_plain():
  assert facts.plain(('en', 'zh')) == 'en, zh'
  assert facts.plain('') == '(empty)'
  assert facts.plain(False) == 'false'
  assert facts.plain(5e-06) == '5e-06'
