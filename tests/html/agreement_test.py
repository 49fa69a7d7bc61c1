"""Languages that agree and answers that moved, on two questions."""

from __future__ import annotations

from calm_jax import records
from calm_jax.html import agreement


def predictions(system, table):
  return [
      records.Prediction(system, question, lang, '', answer, '', 'A')
      for question, answers in table.items()
      for lang, answer in answers.items()
  ]


BASE = {'q1': {'en': 'A', 'fr': 'B'}, 'q2': {'en': 'B', 'fr': None}}
ALIGNED = {'q1': {'en': 'B', 'fr': 'A'}, 'q2': {'en': 'C', 'fr': None}}


def collected():
  rows = predictions('base', BASE) + predictions('aligned', ALIGNED)
  return agreement.collect(rows)


def test_moves():
  systems = collected()
  assert list(systems) == ['base', 'aligned']
  rows = agreement.moves(*systems.values(), ('en', 'zh', 'fr'))
  assert rows == [
      agreement.Moves('en', questions=2, changed=2, fixed=0, broken=1),
      agreement.Moves('fr', questions=2, changed=1, fixed=1, broken=0),
  ]


def test_without_gold_nothing_is_right():
  assert not agreement.Given(None, None).right


def test_pairwise_is_over_shared_questions():
  answers = collected()['base']
  del answers['q2']['fr']
  answers['q3'] = {'zh': agreement.Given('A', 'A')}
  given = []
  matrix = agreement.pairwise(
      answers, ('en', 'fr', 'zh'), lambda both: given.append(both) or 75.0
  )
  assert given == [[('B', 'A')]]
  assert matrix == [
      [None, 75.0, None],
      [75.0, None, None],
      [None, None, None],
  ]


def test_languages():
  systems = collected().values()
  assert agreement.languages(systems, ('fr',)) == ('fr', 'en')


def test_maps_share_one_scale():
  matrices = {'base': [[None, 20.0]] * 2, 'aligned': [[None, 60.0]] * 2}
  maps = agreement.figures(matrices, ('en', 'fr'))
  assert 'fill-opacity="0.06"' in maps['base']
  assert 'fill-opacity="1.00"' in maps['aligned']
  assert agreement.figures({'base': [[None]]}, ('en',)) == {}
