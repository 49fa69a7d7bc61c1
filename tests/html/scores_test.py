"""Scores side by side, with what is missing left out."""

from __future__ import annotations

import math

from calm_jax import records
from calm_jax.html import scores


def score(system, lang, metric, value, low=math.nan, high=math.nan, n=9):
  return records.Score(system, 'test', lang, metric, value, n, low, high)


SCORES = (
    score('base', 'fr', 'accuracy', 50.0, 45.0, 55.0),
    score('base', 'en', 'accuracy', 70.0),
    score('base', 'all', 'accuracy', 60.0, 55.0, 65.0),
    score('base', 'en', 'unparsed', 4.0),
    score('base', 'fr', 'unparsed', 8.0),
    score('base', 'all', 'consistency_10', 1.0),
    score('base', 'all', 'consistency_2', 40.0),
    score('base', 'all', 'surprise', 3.0),
    score('aligned', 'all', 'accuracy', 61.5, 56.0, 66.0),
    score('aligned', 'all', 'consistency_2', 48.0),
    score('aligned-base', 'all', 'accuracy', 1.5, -0.5, 3.5),
)


def only_table(rows=SCORES, langs=('en', 'fr')):
  (table,) = scores.arrange(rows, langs)
  return table


def test_systems_and_languages_are_in_order():
  table = only_table()
  assert table.systems == ('base', 'aligned')
  assert table.langs == ('en', 'fr')
  assert only_table(langs=('ja', 'fr')).langs == ('fr', 'en')


def test_a_row():
  row = only_table().row('x', 'accuracy')
  assert row.cells == (
      scores.Cell(60.0, 55.0, 65.0),
      scores.Cell(61.5, 56.0, 66.0),
  )
  assert row.differences == (scores.Cell(1.5, -0.5, 3.5),)
  assert row.n == 9


def test_a_difference_without_a_score_has_no_interval():
  row = only_table().row('x', 'consistency_2')
  assert row.differences == (scores.Cell(8.0),)


def test_a_system_without_the_metric_is_a_gap():
  row = only_table().row('x', 'accuracy', 'fr')
  assert row.cells == (scores.Cell(50.0, 45.0, 55.0), None)
  assert row.differences == (None,)
  assert only_table().row('x', 'ac3_2') is None


def test_the_headline_has_a_mean_and_every_new_metric():
  rows = {row.label: row for row in only_table().headline()}
  assert list(rows) == ['Mean accuracy', 'Consistency', 'Unparsed', 'surprise']
  assert rows['Unparsed'].cells == (scores.Cell(6.0), None)
  assert rows['Unparsed'].n == 9


def test_consistency_is_in_order_of_size():
  labels = [row.label for row in only_table().consistency()]
  assert labels == ['2', '10']


def test_verdict():
  said = only_table().verdict()
  assert said == (
      'Mean accuracy rose by 1.5 points; its 95 % interval, −0.5 to +3.5,'
      ' holds zero. Consistency rose by 8.0 points.'
  )
  sure = score('aligned-base', 'all', 'accuracy', -1.5, -2.5, -0.5)
  said = only_table((*SCORES[:-1], sure)).verdict()
  assert said.startswith(
      'Mean accuracy fell by 1.5 points (95 % interval −2.5 to −0.5).'
  )
  still = score('aligned-base', 'all', 'accuracy', -0.01, -1.0, 1.0)
  said = only_table((*SCORES[:-1], still)).verdict()
  assert said.startswith('Mean accuracy did not move;')


def test_settings_are_apart():
  other = records.Score('base', 'other', 'en', 'accuracy', 1.0, 1, 0.0, 2.0)
  tables = scores.arrange((*SCORES, other), ('en',))
  assert [t.setting for t in tables] == ['test', 'other']
  assert tables[1].systems == ('base',)
  assert tables[1].headline()[0].cells == (scores.Cell(1.0),)


def test_figure_has_a_dot_for_every_cell():
  table = only_table()
  rows = table.by_language('accuracy')
  text = scores.figure(rows, table.systems, title='t', x_label='x')
  assert text.count('<circle') == 2
  assert 'FR, base: 50.0 (45.0 to 55.0)' in text
