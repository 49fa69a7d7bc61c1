"""The speed of searches, on an index that is built in no time."""

from __future__ import annotations

import json

import numpy as np
import pytest

from calm_jax.retrieval import index
from tools import benchmark_retrieval

pytest.importorskip('lancedb', reason='needs the extra retrieval')


def test_an_exact_search_is_timed_and_misses_nothing(tmp_path):
  found = benchmark_retrieval.measure(tmp_path, 500, 20)
  assert json.loads(json.dumps(found)) == found
  assert set(found['search']) == set(index.MODES)
  for spent in (found['build'], *found['search'].values()):
    assert min(spent['seconds'], spent['cpu_seconds']) > 0
  # So few passages are all compared.
  assert found['recall_random'] == found['recall_near_a_passage'] == 1.0


def test_recall_counts_what_the_index_missed(tmp_path, monkeypatch):
  monkeypatch.setattr(index, '_UNINDEXED', 0)
  monkeypatch.setattr(index, '_COMPARED', 0)
  monkeypatch.setattr(index, '_PROBED', 0.0)  # one part of 22
  found = benchmark_retrieval.measure(tmp_path, 500, 20)
  assert 0 < found['recall_random'] < 1
  assert found['nearest_found'] >= found['recall_random']


def test_made_up_words_are_as_frequent_as_words():
  rng = np.random.default_rng(0)
  words = ' '.join(benchmark_retrieval.texts(rng, 200, 40)).split()
  assert len(words) == 200 * 40
  assert words.count('w0') > 1.5 * words.count('w1') > 0
