"""Questions and options meet by what they are, not by where they stand."""

import pytest

from calm_jax import records
from calm_jax.datasets import alignment


def question(lang='en', gold='A', stem='Which?', **options):
  options = options or {'A': 'left', 'B': 'right'}
  return records.Question(
      id='q',
      dataset='toy',
      split='test',
      lang=lang,
      stem=stem,
      options=tuple(records.Option(k, text) for k, text in options.items()),
      gold=gold,
  )


def dropped(*versions):
  kept, counts = alignment.align(
      {str(i): {'q': version} for i, version in enumerate(versions)}
  )
  assert (not kept) == bool(counts)
  return counts


def test_keeps_the_order_of_questions_and_of_languages():
  one, two = question('en'), question('fr')
  kept, counts = alignment.align(
      {'fr': {'b': two, 'a': two}, 'en': {'a': one, 'b': one}}
  )
  assert kept == [two, one, two, one]
  assert counts == {}


@pytest.mark.parametrize(
    ('other', 'reason'),
    [
        (question(gold='B'), 'gold_differs'),
        (question(gold=None), 'gold_differs'),
        (question(stem=''), 'blank_text'),
        (question(A='gauche', B=''), 'blank_text'),
        (question(A='gauche', C='droite'), 'labels_differ'),
        (question(A='gauche', B='droite', C='haut'), 'labels_differ'),
        ('options_unreadable', 'options_unreadable'),
    ],
)
def test_why_languages_do_not_fit(other, reason):
  assert dropped(question(), other) == {reason: 1}
  assert dropped(other, question()) == {reason: 1}


def translations(permuted):
  """Twelve questions with one number; `permuted` of the French are moved."""
  english = question(A='5 apples', B='pears')
  french = question('fr', A='5 pommes', B='poires')
  moved = question('fr', A='poires', B='5 pommes')
  rows = {i: moved if i < permuted else french for i in range(12)}
  return {'fr': rows, 'en': dict.fromkeys(rows, english)}


def test_the_order_of_options_is_counted_by_language():
  versions = translations(permuted=2)
  alignment.align(versions)  # one sign is not enough to drop a question
  groups = list(
      zip(*(rows.values() for rows in versions.values()), strict=True)
  )
  assert alignment.evidence(groups) == ({'fr': 12}, {'fr': 2})
  same = [(question('fr', A='gauche', B='droite'), question('en'))]
  assert alignment.evidence(same) == ({}, {})


def test_a_language_with_permuted_options_is_refused():
  said = 'options of fr look permuted: in 3 of 12 questions'
  with pytest.raises(ValueError, match=said):
    alignment.align(translations(permuted=3))


def test_a_reason_goes_before_a_language_that_is_missing():
  versions = {'en': {'q': 'unreadable'}, 'fr': {}, 'de': {'q': question()}}
  assert alignment.align(versions) == ([], {'unreadable': 1})
  versions = {'en': {'q': question()}, 'fr': {}}
  assert alignment.align(versions) == ([], {'missing_language': 1})


@pytest.mark.parametrize(
    ('one', 'two'),
    [
        # Numbers survive translation, whatever is written around them.
        (
            {'A': '2.8 mmol/L', 'B': '4 mmol/L', 'C': 'none'},
            {'A': '4 毫摩尔', 'B': '２，８ 毫摩尔', 'C': '无'},
        ),
        # So do names; the labels may be in any order.
        (
            {'A': 'CD-3', 'B': 'KIR', 'C': 'Wien'},
            {'C': 'kir', 'B': 'Wien', 'A': 'IL'},
        ),
    ],
)
def test_permuted_labels_are_seen(one, two):
  assert dropped(question(**one), question(**two)) == {'options_moved': 1}


@pytest.mark.parametrize(
    ('one', 'two'),
    [
        # A word of one language that is another word in the other.
        ({'A': 'lose', 'B': 'loose'}, {'A': 'verlieren', 'B': 'lose'}),
        # The same numbers stand in several options.
        (
            {'A': '2 hours', 'B': '2 days', 'C': '3 hours', 'D': '3 days'},
            {'A': '2 h', 'B': '2 j', 'C': '3 h', 'D': '3 j'},
        ),
        # The order is another one, the labels are right.
        ({'A': '1', 'B': '2', 'C': '3'}, {'C': '3', 'A': '1', 'B': '2'}),
    ],
)
def test_right_labels_are_not_taken_for_permuted(one, two):
  assert dropped(question(**one), question(**two)) == {}


def test_rows_of_equal_number_meet_in_order():
  assert alignment.match(['1', '2', 'x'], ['a', 'b', 'c']) == [0, 1, 2]
  assert alignment.match([], []) == []


def test_the_extra_row_is_found():
  first = [f'a {n} year old with {n + 40} beats' for n in range(40)]
  other = [text.replace('year', 'ans') for text in first]
  # A question rendered twice, and one that the first file never had.
  twice = [*other[:8], other[7], *other[8:]]
  rows = list(range(40))
  assert alignment.match(first, twice) == [*rows[:8], *range(9, 41)]
  alien = [*other[:20], 'no 999', *other[20:]]
  assert alignment.match(first, alien) == [*rows[:20], *range(21, 41)]
  both = [*twice[:21], 'no 999', *twice[21:]]
  assert alignment.match(first, both) == [
      *rows[:8],
      *range(9, 21),
      *range(22, 42),
  ]
  # A row that the other file lacks has no partner.
  assert alignment.match(alien, other) == [*rows[:20], None, *rows[20:]]


def test_files_of_other_lengths_hold_other_questions():
  with pytest.raises(ValueError, match=r'has 43 rows, but .* 40: .* not hold'):
    alignment.match(['x'] * 40, ['x'] * 43)
  with pytest.raises(ValueError, match='has 37 rows'):
    alignment.match(['x'] * 40, ['x'] * 37)


def test_alike():
  assert alignment.alike('JAK / STAT', 'jak/stat.')
  assert alignment.alike('ＡＢ', 'ab')
  assert not alignment.alike('2', '3')
