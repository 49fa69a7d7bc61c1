"""The ledger counts what is sent, and refuses what costs too much."""

from __future__ import annotations

import json

import pytest

from calm_jax import guard, translators
from calm_jax.translators import budget, cache, remote


def _budget(path, *, price=20.0, max_cost=0.0):
  return budget.Budget(path, price=price, max_cost=max_cost)


def _rows(path):
  rows = map(json.loads, path.read_text().splitlines())
  return [(r['event'], r['characters'], r['usd']) for r in rows]


def test_what_is_sent_is_counted_before_and_after(tmp_path):
  path = tmp_path / 'deep' / 'ledger.jsonl'
  ledger = _budget(path)
  ledger.estimate(2, 1_000_000)
  ledger.charge(600_000)
  ledger.refund(600_000)
  ledger.charge(750_000)
  assert ledger.close() == {
      'characters_sent': 750_000,
      'usd_estimated': 20.0,
      'usd_sent': 15.0,
  }
  assert _rows(path) == [
      ('estimate', 1_000_000, 20.0),
      ('sent', 600_000, 12.0),
      ('refused', -600_000, -12.0),
      ('sent', 750_000, 15.0),
      ('total', 750_000, 15.0),
  ]


def test_nothing_to_send_leaves_no_ledger(tmp_path):
  ledger = _budget(tmp_path / 'ledger.jsonl')
  ledger.estimate(0, 0)
  assert ledger.close() == {}
  assert not (tmp_path / 'ledger.jsonl').exists()


def test_an_estimate_above_the_limit_is_refused_before_it_is_sent(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  _budget(path, max_cost=20.0).estimate(1, 1_000_000)
  with pytest.raises(guard.Refusal, match=r'max_cost = 20\. Nothing of it'):
    _budget(path, max_cost=20.0).estimate(1, 1_000_001)


def test_what_was_spent_before_counts_too(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  first = _budget(path, price=10.0)
  first.charge(1_000_000)
  first.charge(7_000_000)
  first.refund(7_000_000)
  with path.open('a') as f:
    f.write('{"event": "sent", "characters": 9999, "u')  # a kill
  ledger = _budget(path, max_cost=20.0)
  ledger.estimate(1, 500_000)
  with pytest.raises(guard.Refusal, match='10 of it spent before'):
    ledger.estimate(1, 500_001)
  assert _rows(path)[-1] == ('estimate', 500_000, 10.0)


def test_tries_cannot_pass_the_limit_either(tmp_path):
  ledger = _budget(tmp_path / 'ledger.jsonl', max_cost=20.0)
  ledger.charge(900_000)
  with pytest.raises(guard.Refusal):
    ledger.charge(200_000)


def test_a_wrong_line_is_named(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  path.write_text('{"event": "total"}\n{"event": "sent"}\n')
  with pytest.raises(ValueError, match=r'ledger\.jsonl:2: not a line of a led'):
    _budget(path)


def _cached(tmp_path, sent, **limits):
  def send(texts, source, target):
    sent.extend(texts)
    return [text.upper() for text in texts]

  ledger = _budget(tmp_path / 'ledger.jsonl', **limits)
  inner = remote.Remote(send, ledger, version='1', languages=('en', 'fr'))
  return cache.Cached(inner, tmp_path / 'cache.jsonl', backend='b')


def test_only_what_is_not_known_yet_is_paid_for(tmp_path):
  sent = []
  wanted = [('abcd', 'en', 'fr'), ('abcd', 'en', 'fr'), ('ef', 'en', 'fr')]
  translators.translate_all(_cached(tmp_path, sent), wanted[:2])
  again = _cached(tmp_path, sent, price=1e6, max_cost=2.0 + 80e-6)
  assert translators.translate_all(again, wanted) == {
      ('abcd', 'en', 'fr'): 'ABCD',
      ('ef', 'en', 'fr'): 'EF',
  }
  assert sent == ['abcd', 'ef']
  assert again.end()['characters_sent'] == 2


def test_nothing_is_sent_when_all_of_it_would_cost_too_much(tmp_path):
  sent = []
  translator = _cached(tmp_path, sent, price=1e6, max_cost=3.0)
  wanted = [('ab', 'en', 'fr'), ('cd', 'fr', 'en')]
  with pytest.raises(guard.Refusal):
    translators.translate_all(translator, wanted)
  assert sent == []


def test_what_was_paid_for_is_kept_when_the_next_request_fails(tmp_path):
  sent = []
  texts = ['a' * 5000, 'b' * 5000, 'c' * 5000]

  def send(texts, source, target):
    if len(sent) == 2:
      raise guard.Refusal('no more')
    sent.extend(texts)
    return texts

  ledger = _budget(tmp_path / 'ledger.jsonl')
  inner = remote.Remote(send, ledger, version='1', languages=('en', 'fr'))
  with pytest.raises(guard.Refusal):
    cache.Cached(inner, tmp_path / 'cache.jsonl', backend='b').translate(
        texts, 'en', 'fr'
    )
  sent.clear()
  translator = _cached(tmp_path, sent)
  translator.translate(texts, 'en', 'fr')
  assert sent == texts[2:]
