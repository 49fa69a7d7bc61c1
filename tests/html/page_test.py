"""Numbers as people write them; text that cannot leave its place."""

from __future__ import annotations

import base64
import hashlib
import json
import math

import pytest

from calm_jax.html import page


def test_embedded_json_cannot_end_its_element():
  value = {'</script>': '<!-- ]]> & \u2028 \u2029 é'}
  text = page.embed(value)
  assert json.loads(text) == value
  assert not set('<>&\u2028\u2029') & set(text)
  assert 'é' in text


def test_values_are_escaped():
  values = {
      'policy': '"><b>',
      'number': 0,
      'of': 1,
      'data': ['</script>'],
      'script': '',
      'previous': '',
      'following': '',
  }
  text = page.render('questions.html.jinja', values)
  assert '<b>' not in text
  assert '&#34;&gt;&lt;b&gt;' in text
  assert '["\\u003c/script\\u003e"]' in text


def test_what_utf_8_cannot_carry_is_replaced():
  values = {
      'policy': '',
      'number': 0,
      'of': 1,
      'data': ['a\ud800b'],
      'script': '',
      'previous': '',
      'following': '',
  }
  assert '["a?b"]' in page.render('questions.html.jinja', values)


def test_the_policy_names_the_script():
  text, policy = page.script('questions.js.jinja')
  digest = base64.b64encode(hashlib.sha256(text.encode()).digest())
  assert policy == f"'sha256-{digest.decode()}'"
  assert 'innerHTML' not in text
  assert '</' not in text


@pytest.mark.parametrize(
    ('function', 'value', 'text'),
    [
        (page.count, 21000, '21,000'),
        (page.count, -2.0, '−2'),
        (page.count, 0.12345, '0.123'),
        (page.percent, 57.728, '57.7'),
        (page.percent, None, '–'),
        (page.percent, math.nan, '–'),
        (page.points, 1.84, '+1.8'),
        (page.points, -1.84, '−1.8'),
        (page.points, -0.04, '0.0'),
        (page.points, None, '–'),
        (page.duration, 0.25, '0.2 s'),
        (page.duration, 61.6, '1 min 02 s'),
        (page.duration, 7260, '2 h 01 min'),
    ],
)
def test_formats(function, value, text):
  assert function(value) == text
