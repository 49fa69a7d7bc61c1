"""Charts: where marks stand, what is escaped, and what has no data."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from calm_jax.html import axes, plots

EVIL = '"><script>alert(1)</script>'
TWO = (plots.Series('base', 'before'), plots.Series('aligned', 'after'))


def parsed(svg):
  assert '<script' not in svg
  return ElementTree.fromstring(svg)


def test_axis_has_round_ticks_around_the_data():
  axis = axes.axis([52.3, 88.9], 0.0, 100.0)
  assert axis.ticks == (50, 60, 70, 80, 90)
  assert (axis(50), axis(70), axis(90)) == (0, 50, 100)
  assert axes.axis([0, 2], 0, 1, whole=True).ticks == (0, 1, 2)
  loose = axes.axis([3, 97], 0, 1, snap=False)
  assert (loose.low, loose.high, loose.ticks) == (3, 97, (25, 50, 75))


@pytest.mark.parametrize(
    'values', [[], [math.nan], [5.0], [0.0, 0.0], [math.inf, 2.0], [-3e-9]]
)
def test_axis_of_nearly_nothing(values):
  axis = axes.axis(values, 0, 100)
  assert axis.low < axis.high
  assert 2 <= len(axis.ticks) <= 12


@pytest.mark.parametrize(
    ('value', 'text'),
    [(5e-6, '5e−6'), (-0.25, '−0.25'), (0.0, '0'), (-0.0, '0'), (2500, '2500')],
)
def test_number(value, text):
  assert axes.number(value) == text


def test_words_are_escaped_everywhere():
  series = [plots.Series(EVIL, 'after')]
  words = {'title': EVIL, 'x_label': EVIL}
  interval = plots.Interval(1.0, 0.0, 2.0)
  charts = [
      plots.dots([(EVIL, [interval])], series, **words),
      plots.bars([(EVIL, [3])], series, **words),
      plots.lines([(series[0], [(0, 1.0), (1, 2.0)])], **words),
      plots.heat([EVIL], [[50.0]], title=EVIL, low=0, high=100),
      plots.columns([(EVIL, [3])], series, edges=[EVIL], y_label=EVIL, **words),
  ]
  for svg in charts:
    root = parsed(svg)
    assert root.get('aria-label') == EVIL
    assert EVIL in ''.join(root.itertext())


def test_charts_without_rows_are_still_charts():
  parsed(plots.dots([], TWO, title='', x_label=''))
  parsed(plots.dots([('EN', [None, None])], TWO, title='', x_label=''))
  parsed(plots.bars([], TWO, title='', x_label=''))
  parsed(plots.lines([], title='', x_label=''))
  parsed(plots.lines([(TWO[0], [])], title='', x_label=''))
  parsed(plots.heat([], [], title='', low=0, high=0))
  parsed(plots.columns([], TWO, edges=[], title='', x_label='', y_label=''))


def test_dots_stand_at_their_values():
  row = [plots.Interval(10, 0, 20), plots.Interval(20, 20, 20)]
  root = parsed(plots.dots([('EN', row)], TWO, title='', x_label=''))
  left, right = (float(c.get('cx')) for c in root.iter('circle'))
  ends = [
      (float(line.get('x1')), float(line.get('x2')))
      for line in root.iter('line')
      if line.get('class').startswith('mark')
  ]
  assert ends[0] == (2 * left - right, right)
  assert ends[1] == (right, right)


def test_the_zero_line_is_drawn_between_signs_only():
  change = plots.Interval(1, -1, 3)
  svg = plots.dots([('EN', [change])], TWO[:1], title='', x_label='')
  assert 'zero-line' in svg
  gain = plots.Interval(2, 1, 3)
  svg = plots.dots([('EN', [gain])], TWO[:1], title='', x_label='')
  assert 'zero-line' not in svg


def test_a_curve_has_a_gap_where_it_is_not_finite():
  points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, math.inf), (4, 1.0)]
  root = parsed(plots.lines([(TWO[0], points)], title='', x_label='step'))
  (path,) = root.iter('path')
  assert re.sub(r'[\d. ]', '', path.get('d')) == 'MLM'
  assert len(list(root.iter('circle'))) == 3


def test_stacks_add_up():
  root = parsed(plots.bars([('EN', [1, 3])], TWO, title='', x_label=''))
  first, second = root.iter('rect')
  width = float(first.get('width'))
  assert float(second.get('width')) == pytest.approx(3 * width, abs=0.2)
  assert float(second.get('x')) == pytest.approx(
      float(first.get('x')) + width, abs=0.2
  )
  assert second.find('title').text == 'EN: 3 aligned'
