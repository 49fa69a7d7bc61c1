"""The list of questions: what it holds once, and what it notes."""

from __future__ import annotations

import pytest

from calm_jax import records
from calm_jax.html import agreement, items, questions


def question(name, lang, split='train', stem='Why?'):
  return records.Question(name, 'd', split, lang, stem, (), 'A')


def test_a_question_is_listed_once():
  train = [question('q1', 'en', stem=' Why \n not? '), question('q1', 'fr')]
  test = [question('q1', 'en'), question('q1', 'en', split='test')]
  entries = questions.index(train, test)
  assert [(e.key, e.trained, e.tested) for e in entries] == [
      ('train/q1', True, True),
      ('test/q1', False, True),
  ]
  assert entries[0].stem == 'Why not?'


def test_notes():
  entries = questions.index(
      [question(f'q{i}', 'en') for i in range(4)],
      [question('t', 'en', split='test')],
  )
  right, wrong = agreement.Given('A', 'A'), agreement.Given('B', 'A')
  before = {'t': {'en': right, 'fr': wrong}, 'q0': {'en': wrong}}
  after = {'t': {'en': wrong, 'fr': right}, 'q0': {'en': right}}
  gold = {'q0': 'A', 'q1': 'A', 'q2': 'A', 'q3': None}
  winners = {'q0': 'A', 'q1': 'B', 'q2': None, 'q3': 'B'}
  questions.annotate(entries, gold, winners, [before, after])
  assert [e.notes for e in entries] == [
      [],
      ['winner wrong'],
      ['no winner'],
      [],
      ['fixed', 'broken'],
  ]


@pytest.mark.parametrize(
    ('answer', 'winner', 'state'),
    [
        (None, 'A', 'unparsed'),
        (None, None, 'unparsed'),
        ('A', None, 'undecided'),
        ('A', 'A', 'won'),
        ('B', 'A', 'lost'),
    ],
)
def test_state(answer, winner, state):
  assert items.state(answer, winner) == state


def test_file_names():
  assert questions.file_name(0) == 'questions.html'
  assert questions.file_name(7) == 'questions-007.html'
  assert questions.page_count([]) == 1
