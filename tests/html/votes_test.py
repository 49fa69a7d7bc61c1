"""Winning languages, ties and shares, counted by hand."""

from __future__ import annotations

from calm_jax import records
from calm_jax.html import votes

# en  zh  fr   the winner is A in q1 and q2; q3 is tied, q4 has no answer.
VOTES = (
    records.Vote(
        'q1',
        'A',
        5 / 8,
        {'en': {'A': 3}, 'zh': {'A': 1, 'B': 2}, 'fr': {'A': 1, 'C': 1}},
        {'en': 0, 'zh': 0, 'fr': 1},
    ),
    records.Vote(
        'q2',
        'A',
        4 / 5,
        {'en': {'A': 2, 'B': 1}, 'zh': {'A': 2}, 'fr': {}},
        {'en': 0, 'zh': 1, 'fr': 3},
    ),
    records.Vote('q3', None, 0.0, {'en': {'A': 1}, 'zh': {'B': 1}}, {'fr': 3}),
    records.Vote('q4', None, 0.0, {'en': {}}, {'en': 3}),
)
GOLD = {'q1': 'A', 'q2': 'B', 'q3': 'A', 'q4': None}


def by_lang(total):
  return {row.lang: row for row in total.languages}


def test_winning_languages():
  rows = by_lang(votes.tally(VOTES, GOLD, ('en', 'zh', 'fr')))
  moves = {la: (r.agree, r.differ, r.split) for la, r in rows.items()}
  assert moves == {'en': (2, 0, 0), 'zh': (1, 1, 0), 'fr': (0, 0, 2)}
  assert {la: r.for_winner for la, r in rows.items()} == {
      'en': 5,
      'zh': 3,
      'fr': 1,
  }
  counted = {la: (r.parsed, r.unparsed) for la, r in rows.items()}
  assert counted == {'en': (7, 3), 'zh': (6, 1), 'fr': (2, 7)}


def test_totals():
  total = votes.tally(VOTES, GOLD, ('en', 'zh', 'fr'))
  assert (total.questions, total.winners, total.no_winner) == (4, 2, 2)
  assert (total.ties, total.ties_decided, total.silent) == (1, 0, 1)
  assert (total.judged, total.judged_winners, total.right) == (3, 2, 1)


def test_a_tie_that_the_policy_decided():
  vote = records.Vote('q', 'B', 0.5, {'en': {'A': 1, 'B': 1}}, {'en': 0})
  total = votes.tally([vote], {}, ('en',))
  assert (total.ties, total.ties_decided, total.winners) == (1, 1, 1)


def test_shares_fall_in_tenths():
  shares = (0.1, 0.3, 0.7, 7 / 9, 0.999, 1.0)
  ballots = [
      records.Vote(f'q{i}', 'A', s, {'en': {'A': 1}}, {})
      for i, s in enumerate(shares)
  ]
  gold = {'q0': 'A', 'q1': 'B', 'q2': 'A', 'q5': 'A'}
  bins = {b.label: b for b in votes.tally(ballots, gold, ('en',)).bins}
  filled = {
      label: (b.right, b.wrong, b.unknown)
      for label, b in bins.items()
      if b.total
  }
  assert filled == {
      '10–20': (1, 0, 0),
      '30–40': (0, 1, 0),
      '70–80': (1, 0, 1),
      '90–100': (1, 0, 1),
  }


def test_majority():
  assert votes.majority({'A': 2, 'B': 1}) == 'A'
  assert votes.majority({'A': 2, 'B': 2}) is None
  assert votes.majority({'A': 0}) is None
  assert votes.majority({}) is None


def test_a_language_that_was_not_configured_is_kept():
  total = votes.tally(VOTES, GOLD, ('zh',))
  assert [row.lang for row in total.languages] == ['zh', 'en', 'fr']


def test_the_legend_has_only_what_is_drawn():
  total = votes.tally(VOTES[:1], {'q1': 'A'}, ('en',))
  assert [s.label for s in votes.share_legend(total)] == ['winner right']
  assert votes.share_figure(total).count('1 winner right') == 1
