"""Votes by hand, the three ways with ties, and independence of order."""

from __future__ import annotations

import random

from ml_collections import ConfigDict
import pytest

from calm_jax import records, vote


def _sample(question_id, lang, index, answer, text=''):
  return records.Sample(
      question_id, lang, index, text, answer, 'header', -1.0, 5, 'stop'
  )


def _ballot(question_id, **answers):
  """_ballot('q', en='AB-'): samples of one question, - for unparsed."""
  return [
      _sample(question_id, lang, index, None if key == '-' else key)
      for lang, keys in answers.items()
      for index, key in enumerate(keys)
  ]


def _one(samples, **options):
  (result,) = vote.tally(samples, **{'ties': 'abstain'} | options)
  return result


def test_the_most_frequent_answer_over_all_languages_wins():
  result = _one(_ballot('q', en='AAB', fr='BB-', ja='B--'))
  assert result == records.Vote(
      'q',
      winner='B',
      share=4 / 6,
      counts={'en': {'A': 2, 'B': 1}, 'fr': {'B': 2}, 'ja': {'B': 1}},
      unparsed={'en': 0, 'fr': 1, 'ja': 2},
  )
  assert not vote.tied(result)


def test_a_tie_has_no_winner_when_abstaining():
  result = _one(_ballot('q', en='AB', fr='BA'))
  assert (result.winner, result.share) == (None, 0.0)
  assert vote.tied(result)


def test_first_seen_takes_the_tied_option_that_was_counted_first():
  samples = _ballot('q', en='CAB', fr='AB')
  assert _one(samples, ties='first_seen').winner == 'A'
  assert _one(samples[::-1], ties='first_seen').winner == 'B'
  assert _one(samples, ties='first_seen').share == 2 / 5


def test_seeded_depends_on_seed_and_question_but_not_on_order():
  names = [f'q{i}' for i in range(200)]
  samples = [s for name in names for s in _ballot(name, en='AC', fr='AC')]
  winners = [v.winner for v in vote.tally(samples, ties='seeded', seed=1)]
  again = vote.tally(samples[::-1], ties='seeded', seed=1)[::-1]
  other = [v.winner for v in vote.tally(samples, ties='seeded', seed=2)]
  assert winners == [v.winner for v in again]
  assert winners != other
  assert 70 < winners.count('A') < 130


def test_without_any_parsed_answer_nobody_wins():
  for ties in vote.TIES:
    result = _one(_ballot('q', en='--', fr='-'), ties=ties)
    assert (result.winner, result.share) == (None, 0.0)
    assert not vote.tied(result)


def test_samples_of_a_question_may_be_far_apart():
  samples = _ballot('q1', en='AAB') + _ballot('q2', en='CCC')
  random.Random(0).shuffle(samples)
  found = {v.question_id: v.winner for v in vote.tally(samples, ties='abstain')}
  assert found == {'q1': 'A', 'q2': 'C'}


def test_an_unknown_policy_is_named():
  with pytest.raises(ValueError, match="'first'; choose one of abstain"):
    vote.tally([], ties='first')


def _config(**vote_fields):
  return ConfigDict(
      {
          'seed': 0,
          'languages': ('fr', 'en'),
          'sample': {'languages': ()},
          'vote': {'ties': 'first_seen', 'parser': 'default'} | vote_fields,
      }
  )


def _run(cfg, workdir, *shards):
  for i, shard in enumerate(shards):
    records.write_jsonl(workdir / 'sample' / f'{i:05d}.jsonl', shard)
  counts = vote.run(cfg, workdir)
  path = workdir / 'vote' / 'votes.jsonl'
  return counts, list(records.read_jsonl(path, records.Vote))


def test_run_counts_in_the_order_of_the_configured_languages(tmp_path):
  one = _ballot('q2', en='A-') + _ballot('q1', en='BB')
  two = _ballot('q1', fr='BB') + _ballot('q2', fr='-C')
  counts, votes = _run(_config(), tmp_path / 'a', one, two)
  # Whatever the order of the shards, q2's French vote comes first.
  assert [(v.question_id, v.winner) for v in votes] == [
      ('q1', 'B'),
      ('q2', 'C'),
  ]
  assert _run(_config(), tmp_path / 'b', two, one) == (counts, votes)
  assert counts == {
      'samples': 8,
      'votes': 2,
      'no_winner': 0,
      'ties': 1,
      'no_answer': 0,
      'unparsed': 2,
      'unparsed_en': 1,
      'unparsed_fr': 1,
  }


def test_run_reads_texts_anew_with_the_authors_parser(tmp_path):
  options = tuple(records.Option(k, k * 2) for k in 'xyz')
  records.write_jsonl(
      tmp_path / 'translate' / 'train.jsonl',
      [records.Question('q', 'd', 'train', 'en', 'Which?', options)],
  )
  samples = [
      _sample('q', 'en', 0, 'x', 'Answer: B. yy'),
      _sample('q', 'en', 1, 'x', 'Answer: E'),
  ]
  counts, (result,) = _run(_config(parser='authors'), tmp_path, samples)
  # E is not one of the three options; B is the second, whose key is y.
  assert result.winner == 'y'
  assert counts['unparsed'] == 1


def test_run_refuses_a_sample_that_is_there_twice(tmp_path):
  shard = _ballot('q', en='AB')
  with pytest.raises(ValueError, match="sample 0 of question 'q' in en twice"):
    _run(_config(), tmp_path, shard, shard[:1])


def test_run_refuses_a_language_that_is_not_configured(tmp_path):
  with pytest.raises(ValueError, match="language 'de'"):
    _run(_config(), tmp_path, _ballot('q', de='A'))
