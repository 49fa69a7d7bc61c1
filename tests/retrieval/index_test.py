"""Tests of the index: what is found, building on, refusing what is not its."""

from __future__ import annotations

import json

import numpy as np
import pytest

from calm_jax import guard, records
from calm_jax.retrieval import encoders, index

pytest.importorskip('lancedb', reason='needs the extra retrieval')

TEXTS = {
    'en/a@0': 'the cat sleeps',
    'en/a@9': 'a dog barks loudly',
    'en/b@0': 'fish swim in the sea',
    'zh/c@0': '心脏把血液泵到全身',
    'zh/c@9': '蜜蜂采集花蜜',
}
PASSAGES = [records.Passage(i, i[:4], t) for i, t in TEXTS.items()]
DIRECTIONS = {'cat': 0, 'dog': 1, 'fish': 2, '心': 3, '蜜': 4}


class Counting:
  """Each text's first known word is its direction; counts texts."""

  def __init__(self, stop_after=10**9):
    self.count, self.stop_after = 0, stop_after

  def __call__(self, texts):
    self.count += len(texts)
    if self.count > self.stop_after:
      raise KeyboardInterrupt
    vectors = np.full((len(texts), 5), 0.01)
    for row, text in zip(vectors, texts, strict=True):
      for word, axis in DIRECTIONS.items():
        row[axis] += word in text
    return vectors


def encoder(embed=None, identity='fake'):
  return encoders.Encoder(embed or Counting(), identity)


def ids(rankings):
  return [[p.id for p in ranking] for ranking in rankings]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  return index.build(tmp_path_factory.mktemp('index'), PASSAGES, encoder())


def test_vectors_find_the_nearest_and_score_by_cosine(built):
  vectors = encoder().queries(['dog', 'fish and a cat'])
  first, second = built.search(['', ''], vectors, count=2)
  assert first[0] == records.Passage(
      'en/a@9', 'en/a', TEXTS['en/a@9'], pytest.approx(1, abs=1e-3)
  )
  assert first[1].score < 0.1
  assert {p.id for p in second} == {'en/a@0', 'en/b@0'}
  assert second[0].score == pytest.approx(0.5**0.5, abs=1e-2)


def test_many_queries_keep_their_order(built):
  words = list(DIRECTIONS) * 40
  vectors = encoder().queries(words)
  found = built.search(words, vectors, count=1)
  assert ids(found) == [[i] for i in TEXTS] * 40


def test_text_finds_words_in_both_scripts_and_nothing_for_none(built):
  queries = ['Does a DOG bark loudly?', '血液', 'xyzzy', 'sea: AND "fish" (~']
  found = built.search(queries, None, count=3, mode='text')
  assert ids(found) == [['en/a@9'], ['zh/c@0'], [], ['en/b@0']]
  assert found[0][0].score > 0


def test_hybrid_prefers_what_both_find(built):
  vectors = encoder().queries(['dog'])
  (found,) = built.search(['sea dog'], vectors, count=3, mode='hybrid')
  assert found[0].id == 'en/a@9'
  assert len(found) == 3


def test_fusion_is_by_rank():
  p = lambda name, score: records.Passage(name, 's', 't', score)
  one, two = [p('a', 9), p('b', 8)], [p('b', 0.2), p('c', 0.1)]
  fused = index.fuse([one, two], count=9)
  assert [x.id for x in fused] == ['b', 'a', 'c']
  assert [x.score for x in fused] == pytest.approx(
      [1 / 62 + 1 / 61, 1 / 61, 1 / 62]
  )
  assert [x.id for x in index.fuse([two, one], count=2)] == ['b', 'a']


def test_a_search_that_cannot_be_is_told(built):
  with pytest.raises(ValueError, match="'fuzzy' is not one of"):
    built.search(['x'], None, count=1, mode='fuzzy')
  with pytest.raises(ValueError, match='needs the vectors'):
    built.search(['x'], None, count=1, mode='hybrid')


def test_a_build_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
  monkeypatch.setattr(index, '_COMMIT', 2)
  # One text tells the size; then two batches of two.
  with pytest.raises(KeyboardInterrupt):
    index.build(tmp_path, PASSAGES, encoder(Counting(stop_after=5)))
  assert not (tmp_path / index.DONE).exists()
  embed = Counting()
  whole = index.build(tmp_path, PASSAGES, encoder(embed))
  assert embed.count == 1 + 1
  assert whole.size == 5
  vectors = encoder().queries(list(DIRECTIONS))
  found = whole.search([''] * 5, vectors, count=5)
  assert [ranking[0].id for ranking in found] == list(TEXTS)
  assert all(sorted(r) == sorted(TEXTS) for r in ids(found))


def test_a_build_that_died_before_its_mark_is_finished(tmp_path):
  index.build(tmp_path, PASSAGES, encoder())
  done = json.loads((tmp_path / index.DONE).read_text())
  (tmp_path / index.DONE).rename(tmp_path / index.PENDING)
  index.build(tmp_path, PASSAGES, encoder())
  assert json.loads((tmp_path / index.DONE).read_text()) == done
  assert not (tmp_path / index.PENDING).exists()


def test_two_runs_do_not_build_one_index(tmp_path):
  with guard.locked(tmp_path, 'retrieve.index'):
    with pytest.raises(guard.Refusal, match='another retrieve'):
      index.build(tmp_path, PASSAGES, encoder())
  assert index.build(tmp_path, PASSAGES, encoder()).size == len(PASSAGES)


def test_a_built_index_embeds_nothing_again(tmp_path):
  index.build(tmp_path, PASSAGES, encoder())
  embed = Counting()
  assert index.build(tmp_path, PASSAGES, encoder(embed)).size == 5
  assert embed.count == 0


@pytest.mark.parametrize('state', [index.DONE, index.PENDING])
def test_another_corpus_or_encoder_is_refused(tmp_path, state):
  index.build(tmp_path, PASSAGES, encoder())
  (tmp_path / index.DONE).rename(tmp_path / state)
  with pytest.raises(ValueError, match=r'index of another.*retrieve\.index'):
    index.build(tmp_path, PASSAGES[:4], encoder())
  with pytest.raises(ValueError, match='index of another'):
    index.build(tmp_path, PASSAGES, encoder(identity='other'))
  with pytest.raises(ValueError, match='index of another'):
    index.build(tmp_path, PASSAGES, None)


def test_text_alone_needs_no_encoder(tmp_path):
  built = index.build(tmp_path, PASSAGES, None)
  assert ids(built.search(['sea'], None, count=3, mode='text')) == [['en/b@0']]


@pytest.mark.parametrize(
    ('compared', 'least'), [(0, 4), (1000, 4.9), (1200, 5)]
)
def test_a_large_index_finds_nearly_what_a_full_search_finds(
    tmp_path, monkeypatch, compared, least
):
  monkeypatch.setattr(index, '_UNINDEXED', 100)
  monkeypatch.setattr(index, '_COMPARED', compared)
  rng = np.random.default_rng(0)
  points = rng.normal(size=(20, 16))[rng.integers(0, 20, 1200)]
  points += rng.normal(size=points.shape)
  table = {f't{i}': point for i, point in enumerate(points)}
  embed = lambda texts: np.array([table[t] for t in texts])
  passages = [records.Passage(t, 's', t) for t in table]
  large = encoders.Encoder(embed, 'points')
  built = index.build(tmp_path, passages, large)
  assert {i.index_type for i in built.table.list_indices()} >= {'IvfFlat'}
  vectors = large.queries(list(table)[:200])
  exact = (-vectors @ large.queries(list(table)).T).argsort(1)[:, :5]
  found = ids(built.search([''] * 200, vectors, count=5))
  shared = [
      len({f't{i}' for i in e} & set(f))
      for e, f in zip(exact, found, strict=True)
  ]
  assert np.mean(shared) >= least


def test_every_vector_is_compared_up_to_200_000():
  assert [index.probes(n) for n in (40_000, 200_000)] == [200, 447]
  # Of 1,000 and of 1,414 parts.
  assert [index.probes(n) for n in (1_000_000, 2_000_000)] == [200, 283]
