"""Every language is whole, and an unknown one is named with its neighbour."""

from __future__ import annotations

import dataclasses

import pytest

from calm_jax.qa import languages


def test_the_seven_languages():
  assert list(languages.LANGUAGES) == ['en', 'zh', 'fr', 'it', 'de', 'ja', 'es']
  assert all(row.code == code for code, row in languages.LANGUAGES.items())


@pytest.mark.parametrize(
    'row', languages.LANGUAGES.values(), ids=lambda r: r.code
)
def test_rows_are_whole(row):
  for field in dataclasses.fields(row):
    assert field.name == 'spaced' or getattr(row, field.name)
  assert len(row.shots) == 3
  assert row.wording.instruction.count('{letters}') == 1
  assert ':' in row.colon or '：' in row.colon
  for words in dataclasses.astuple(row.vocabulary):
    assert all(word == word.lower().strip() for word in words)


@pytest.mark.parametrize(
    'row', languages.LANGUAGES.values(), ids=lambda r: r.code
)
def test_the_parser_knows_the_headers_of_the_prompt(row):
  assert row.answer.lower() in row.vocabulary.answer
  assert row.explanation.lower() in row.vocabulary.explanation
  assert row.question.lower() in row.vocabulary.question


def test_get():
  assert languages.get('fr').native == 'français'


@pytest.mark.parametrize(
    ('code', 'near'),
    [
        ('cn', 'zh'),
        ('jp', 'ja'),
        ('french', 'fr'),
        ('Deutsch', 'de'),
        ('EN', 'en'),
        ('esp', 'es'),
        ('', 'en'),
    ],
)
def test_unknown_codes_raise_with_the_nearest(code, near):
  with pytest.raises(ValueError, match='en, zh, fr, it, de, ja, es') as caught:
    languages.get(code)
  assert repr(code) in str(caught.value)
  if code:
    assert f'Did you mean {near!r}?' in str(caught.value)
