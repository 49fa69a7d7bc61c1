"""Who is put before whom, by hand, and that every sample is accounted for."""

from __future__ import annotations

import random

import pytest

from calm_jax import records, vote
from calm_jax.qa import preferences

ALWAYS = lambda source, target: True
NEVER = lambda source, target: False


def _sample(lang, index, answer, logprob=-1.0, question_id='q', text=None):
  text = f'{lang}{index}' if text is None else text
  return records.Sample(
      question_id, lang, index, text, answer, '', logprob, 5, 'stop'
  )


# B wins with 4 of 6; the winning samples are en1, fr0, fr1, de1.
SAMPLES = [
    _sample('en', 0, 'A'),
    _sample('en', 1, 'B', logprob=-0.5),
    _sample('fr', 0, 'B', logprob=-2.0),
    _sample('fr', 1, 'B', logprob=-3.0),
    _sample('de', 0, 'C'),
    _sample('de', 1, 'B', logprob=-4.0),
    _sample('de', 2, None),
]


def _prefer(
    samples=SAMPLES,
    *,
    positives='last',
    min_share=0.0,
    min_margin=0.0,
    supports=ALWAYS,
):
  drafts, counts = preferences.prefer(
      samples,
      vote.tally(samples, ties='abstain'),
      positives=positives,
      min_share=min_share,
      min_margin=min_margin,
      supports=supports,
  )
  return [(d.chosen.text, d.rejected.text) for d in drafts], counts


@pytest.mark.parametrize(
    ('positives', 'expected'),
    [
        ('last', [('de1', 'en0'), ('de1', 'de0')]),
        ('same_language_first', [('en1', 'en0'), ('de1', 'de0')]),
        ('highest_logprob', [('en1', 'en0'), ('en1', 'de0')]),
        ('english', [('en1', 'en0'), ('en1', 'de0')]),
        (
            'all',
            [(c, 'en0') for c in ('en1', 'fr0', 'fr1', 'de1')]
            + [(c, 'de0') for c in ('en1', 'fr0', 'fr1', 'de1')],
        ),
    ],
)
def test_each_policy_with_translation(positives, expected):
  found, counts = _prefer(positives=positives)
  assert found == expected
  assert counts == {'agreed': 4, 'unparsed': 1, 'rejected': 2}


@pytest.mark.parametrize('positives', preferences.POSITIVES)
def test_without_translation_both_sides_share_a_language(positives):
  found, counts = _prefer(positives=positives, supports=NEVER)
  if positives == 'english':
    assert found == [('en1', 'en0')]
    assert counts['no_chosen'] == 1  # there is one, but not in German
  else:
    assert found == [('en1', 'en0'), ('de1', 'de0')]


def test_english_only_takes_the_first_english_winner_or_none():
  english = [*SAMPLES, _sample('en', 2, 'B')]
  assert _prefer(english, positives='english')[0][0] == ('en1', 'en0')
  without = [s for s in SAMPLES if (s.lang, s.answer) != ('en', 'B')]
  found, counts = _prefer(without, positives='english')
  assert found == []
  assert counts == {'agreed': 3, 'unparsed': 1, 'no_english': 2}


def test_only_supported_directions_are_used():
  supports = lambda source, target: (source, target) == ('fr', 'de')
  found, _ = _prefer(positives='all', supports=supports)
  assert found == [
      ('en1', 'en0'),
      ('fr0', 'de0'),
      ('fr1', 'de0'),
      ('de1', 'de0'),
  ]


def test_a_rejected_sample_without_a_winner_in_reach_is_counted():
  samples = [_sample('en', i, 'A') for i in range(3)] + [_sample('fr', 0, 'B')]
  found, counts = _prefer(samples, supports=NEVER)
  assert found == []
  assert counts == {'agreed': 3, 'no_chosen': 1}


def test_ties_and_low_shares_drop_all_samples_of_the_question():
  tie = [
      _sample('en', 0, 'A', question_id='t'),
      _sample('en', 1, 'B', question_id='t'),
  ]
  found, counts = _prefer(SAMPLES + tie, min_share=0.7)
  assert found == []
  assert counts == {'no_winner': 2, 'low_share': 7}
  assert len(_prefer(SAMPLES + tie, min_share=4 / 6)[0]) == 2


def test_a_small_lead_over_the_second_drops_all_samples_of_the_question():
  # B has 4 of the 6 votes, A and C one each: a lead of a half.
  assert len(_prefer(min_margin=0.5)[0]) == 2
  assert _prefer(min_margin=0.51) == ([], {'low_margin': 7})
  # The share is looked at first, so that no sample is counted twice.
  assert _prefer(min_share=0.7, min_margin=0.51)[1] == {'low_share': 7}


def test_the_lead_is_over_the_second_not_over_all_others():
  # B has 2 of 5 votes, A, C and D one each.
  samples = [_sample('en', i, answer) for i, answer in enumerate('BBACD')]
  assert len(_prefer(samples, min_margin=0.2)[0]) == 3
  alone = [_sample('en', 0, 'B'), _sample('en', 1, None)]
  assert _prefer(alone, min_margin=1.0)[1] == {'agreed': 1, 'unparsed': 1}


def test_a_gold_label_that_was_voted_down_has_no_lead():
  votes = vote.tally(SAMPLES, ties='abstain')
  samples, votes, _ = preferences.label(
      SAMPLES, votes, {'q': 'A'}, rule='released'
  )
  for least in (0.0, 0.1):
    _, counts = preferences.prefer(
        samples,
        votes,
        positives='last',
        min_share=0.0,
        min_margin=least,
        supports=ALWAYS,
    )
    assert ('low_margin' in counts) == (least > 0)


def test_the_share_travels_with_the_draft():
  drafts, _ = preferences.prefer(
      SAMPLES,
      vote.tally(SAMPLES, ties='abstain'),
      positives='last',
      min_share=0.0,
      supports=ALWAYS,
  )
  assert {d.share for d in drafts} == {4 / 6}


@pytest.mark.parametrize('supports', [ALWAYS, NEVER])
def test_every_sample_is_accounted_for(supports):
  rng = random.Random(0)
  samples = [
      _sample(lang, i, rng.choice(['A', 'B', 'C', None]), question_id=f'q{n}')
      for n in range(80)
      for lang in ('en', 'fr', 'de')
      for i in range(3)
  ]
  _, counts = _prefer(samples, min_share=0.5, supports=supports)
  assert counts.total() == len(samples)
  assert {'no_winner', 'low_share', 'unparsed', 'agreed'} < counts.keys()


@pytest.mark.parametrize(
    ('rule', 'gold', 'kept', 'counts'),
    [
        # B has 4 of the 6 votes, A one; D none.
        ('paper', 'B', ('B', 4 / 6), {}),
        ('paper', 'A', None, {'not_gold': 7}),
        ('paper', None, None, {'no_gold': 7}),
        ('released', 'B', ('B', 4 / 6), {}),
        ('released', 'A', ('A', 1 / 6), {}),
        ('released', 'D', ('D', 0.0), {}),
        ('released', None, None, {'no_gold': 7}),
    ],
)
def test_each_rule_of_the_ground_truth_baseline(rule, gold, kept, counts):
  votes = vote.tally(SAMPLES, ties='abstain')
  samples, votes, found = preferences.label(
      SAMPLES, votes, {'q': gold}, rule=rule
  )
  assert [(v.winner, v.share) for v in votes] == ([kept] if kept else [])
  assert samples == (SAMPLES if kept else [])
  assert found == counts


def test_a_tie_has_no_winner_for_the_paper_but_gold_for_the_released_code():
  tie = [_sample('en', 0, 'A'), _sample('fr', 0, 'B')]
  found = {}
  for rule in ('paper', 'released'):
    samples, votes, _ = preferences.label(
        tie, vote.tally(tie, ties='abstain'), {'q': 'A'}, rule=rule
    )
    drafts, counts = preferences.prefer(
        samples, votes, positives='english', min_share=0.0, supports=ALWAYS
    )
    found[rule] = [(d.chosen.text, d.rejected.text) for d in drafts], counts
  assert found == {
      'paper': ([], {'no_winner': 2}),
      'released': ([('en0', 'fr0')], {'agreed': 1, 'rejected': 1}),
  }


def test_a_sampled_question_without_a_vote_is_refused():
  with pytest.raises(ValueError, match="lacks question 'q'"):
    preferences.prefer(
        SAMPLES, [], positives='last', min_share=0.0, supports=ALWAYS
    )


def _imitate(asked, supports):
  drafts, counts = preferences.imitate(
      SAMPLES,
      vote.tally(SAMPLES, ties='abstain'),
      {('q', lang) for lang in asked},
      ('en', 'fr', 'de', 'it'),
      positives='same_language_first',
      min_share=0.0,
      supports=supports,
  )
  assert all(d.rejected is None for d in drafts)
  return [(d.lang, d.chosen.text) for d in drafts], counts


def test_imitation_takes_a_winning_answer_for_every_language():
  own = [('en', 'en1'), ('fr', 'fr1'), ('de', 'de1')]
  asked = ('en', 'fr', 'de', 'it')
  assert _imitate(asked, ALWAYS)[0] == [*own, ('it', 'de1')]
  found, counts = _imitate(asked, NEVER)
  assert found == own
  assert counts['no_chosen'] == 1
  # A question that does not exist in Italian lacks nothing.
  assert _imitate(('en', 'fr', 'de'), NEVER) == (
      own,
      {'agreed': 4, 'unparsed': 1},
  )


def _draft(chosen, rejected, lang='en'):
  return preferences.Draft(lang, chosen, rejected, 1.0)


def test_limit_drops_repetitions_before_it_counts_to_the_cap():
  good = _sample('en', 0, 'B')
  bad = [_sample('en', i, 'A', text=t) for i, t in enumerate('xxyz', 1)]
  drafts = [_draft(good, b) for b in bad]
  kept, counts = preferences.limit(drafts, cap=2)
  assert [d.rejected.text for d in kept] == ['x', 'y']
  assert counts == {'duplicate': 1, 'capped': 1}
  assert len(preferences.limit(drafts, cap=0)[0]) == 3


def test_limit_counts_each_question_and_language_apart():
  drafts = [
      _draft(_sample('en', 0, 'B', question_id=q), None, lang)
      for q in ('q1', 'q2')
      for lang in ('en', 'fr')
      for _ in range(2)
  ]
  kept, counts = preferences.limit(drafts, cap=1)
  assert [(d.chosen.question_id, d.lang) for d in kept] == [
      ('q1', 'en'),
      ('q1', 'fr'),
      ('q2', 'en'),
      ('q2', 'fr'),
  ]
  assert counts == {'duplicate': 4}
