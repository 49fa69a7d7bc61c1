"""Wording of both sides and their translation."""

from __future__ import annotations

import pytest

from calm_jax import records, wording
from calm_jax.qa import preferences, prompts

# The French release permutes the options: y is B in English and A in French.
OPTIONS = {
    'en': (('x', 'cat'), ('y', 'dog'), ('z', 'cow')),
    'fr': (('y', 'chien'), ('z', 'vache'), ('x', 'chat')),
}


def _question(lang, name='q'):
  options = tuple(records.Option(k, text) for k, text in OPTIONS[lang])
  return records.Question(name, 'own', 'train', lang, 'Who barks?', options)


def _sample(lang, index, answer, text, name='q'):
  return records.Sample(name, lang, index, text, answer, '', -1.0, 5, 'stop')


QUESTIONS = {('q', lang): _question(lang) for lang in OPTIONS}
EN_GOOD = _sample('en', 0, 'y', 'Explanation: Dogs bark.\nAnswer: B. dog')
EN_BAD = _sample('en', 1, 'x', '**Explanation:** Cats do.\n\n**Answer:** A')
FR_BAD = _sample('fr', 0, 'z', 'Explication : La vache.\nRéponse : B')
DRAFTS = [
    preferences.Draft('en', EN_GOOD, EN_BAD, 0.5),
    preferences.Draft('fr', EN_GOOD, FR_BAD, 0.5),
]


def _worded(drafts, translated, *, changed=(), rebuild=True):
  return wording.worded(
      drafts,
      QUESTIONS,
      translated,
      dict(changed),
      rebuild=rebuild,
      render=lambda question: f'ask in {question.lang}',
  )


def test_rebuilt_sides_have_one_form_in_the_language_of_the_prompt():
  texts = {('Dogs bark.', 'en', 'fr'): 'Les chiens aboient.'}
  rows, counts = _worded(DRAFTS, texts)
  assert rows == [
      records.Pair(
          question_id='q',
          lang='en',
          prompt='ask in en',
          chosen=prompts.completion('Dogs bark.', 'B', 'dog', 'en'),
          rejected=prompts.completion('Cats do.', 'A', 'cat', 'en'),
          chosen_lang='en',
          vote_share=0.5,
      ),
      # The winner y is option A in French, the vote for z option B.
      records.Pair(
          question_id='q',
          lang='fr',
          prompt='ask in fr',
          chosen=prompts.completion('Les chiens aboient.', 'A', 'chien', 'fr'),
          rejected=prompts.completion('La vache.', 'B', 'vache', 'fr'),
          chosen_lang='en',
          vote_share=0.5,
      ),
  ]
  assert not counts


def test_only_foreign_chosen_texts_are_translated_and_only_once():
  twice = [*DRAFTS, preferences.Draft('fr', EN_GOOD, EN_BAD, 0.5)]
  assert wording.wanted(twice, rebuild=True) == {
      ('Dogs bark.', 'en', 'fr'): ['q', 'q']
  }
  assert list(wording.wanted(DRAFTS, rebuild=False)) == [
      (EN_GOOD.text, 'en', 'fr')
  ]
  bare = preferences.Draft(
      'fr', _sample('en', 0, 'y', 'Answer: B'), FR_BAD, 0.5
  )
  assert wording.wanted([bare], rebuild=True) == {}


def test_a_failed_translation_is_counted():
  rows, counts = _worded(DRAFTS, {('Dogs bark.', 'en', 'fr'): None})
  assert [row.lang for row in rows] == ['en']
  assert counts == {'untranslated': 1}


def test_the_rows_of_a_translation_that_changed_facts_are_flagged():
  way = ('Dogs bark.', 'en', 'fr')
  changes = {way: ['number 2 is new', 'letter D is lost', 'number 3 is new']}
  drafts = [*DRAFTS, preferences.Draft('fr', EN_GOOD, None, 0.5)]
  rows, _ = _worded(drafts, {way: '2 et 3'}, changed=changes)
  assert [(type(row), row.lang, row.changed) for row in rows] == [
      (records.Pair, 'en', ()),
      (records.Pair, 'fr', ('letters', 'numbers')),
      (records.Target, 'fr', ('letters', 'numbers')),
  ]


def test_an_answer_that_is_no_option_in_this_language_is_counted():
  strange = _sample('en', 2, 'w', 'Answer: W')
  rows, counts = _worded([preferences.Draft('en', EN_GOOD, strange, 0.5)], {})
  assert rows == []
  assert counts == {'not_an_option': 1}


def test_pairs_that_become_equal_are_kept_once():
  again = _sample('en', 2, 'x', 'Explanation: Cats do.\nAnswer: A. cat')
  drafts = [DRAFTS[0], preferences.Draft('en', EN_GOOD, again, 0.5)]
  rows, counts = _worded(drafts, {})
  assert len(rows) == 1
  assert counts == {'duplicate': 1}
  assert len(_worded(drafts, {}, rebuild=False)[0]) == 2


def test_raw_sides_stay_as_sampled():
  rows, _ = _worded(DRAFTS[:1], {}, rebuild=False)
  assert (rows[0].chosen, rows[0].rejected) == (EN_GOOD.text, EN_BAD.text)


@pytest.mark.parametrize(
    ('answer', 'expected'),
    # In French the winner is A; B is what a careless translation keeps.
    [('Réponse : A. chien', {}), ('Réponse : B', {'answer_changed': 1})],
)
def test_a_raw_translation_must_still_name_the_winner(answer, expected):
  text = f'Explication : Les chiens aboient.\n{answer}'
  translated = {(EN_GOOD.text, 'en', 'fr'): text}
  rows, counts = _worded(DRAFTS[1:], translated, rebuild=False)
  assert counts == expected
  assert [row.chosen for row in rows] == [text] * (not expected)


def test_a_draft_without_a_rejected_side_becomes_a_target():
  rows, _ = _worded([preferences.Draft('en', EN_GOOD, None, 0.75)], {})
  completion = prompts.completion('Dogs bark.', 'B', 'dog', 'en')
  assert rows == [records.Target('q', 'en', 'ask in en', completion, 0.75)]
