"""Sentences and the white space between them."""

from __future__ import annotations

import pytest

from calm_jax.translators import sentences


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('One. Two? Three', ['One.', 'Two?', 'Three']),
        ('He weighs 1.5 kg. Dr. Smith agrees.', None),
        ('See fig. 2 vs. Fig. 3. A. fumigatus grows.', None),
        ('He said "No." Then he left!', ['He said "No."', 'Then he left!']),
        ('头痛三天。发热？是。', ['头痛三天。', '发热？', '是。']),
        ('A line\n\nB line', ['A line', 'B line']),
        ('Das ist z. B. das Herz. Ja.', ['Das ist z. B. das Herz.', 'Ja.']),
        ('', []),
        ('  \n ', ['']),
    ],
)
def test_split(text, expected):
  parts = sentences.split(text)
  assert ''.join(s + gap for s, gap in parts) == text
  if expected is not None:
    assert [s for s, _ in parts] == expected


def test_abbreviations_end_no_sentence():
  text = 'He weighs 1.5 kg. Dr. Smith agrees.'
  assert [s for s, _ in sentences.split(text)] == [
      'He weighs 1.5 kg.',
      'Dr. Smith agrees.',
  ]


def test_join_keeps_line_breaks_and_the_habits_of_the_target():
  gaps = [' ', '\n\n', '']
  assert sentences.join(['a', 'b', 'c'], gaps, 'fr') == 'a b\n\nc'
  assert sentences.join(['a', 'b', 'c'], gaps, 'ja') == 'ab\n\nc'
  assert sentences.join(['一', '二'], ['', ''], 'en') == '一 二'
