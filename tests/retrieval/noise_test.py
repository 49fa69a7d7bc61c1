"""Tests of noise: as much as asked, the same in each language, never help."""

from __future__ import annotations

import pytest

from calm_jax import records
from calm_jax.retrieval import noise

CORPUS = [records.Passage(f's@{i}', 's', f'text {i}', 0.5) for i in range(20)]


def question(lang='en', gold='y', name='q1'):
  options = [
      records.Option(key, f'{lang} {key}')
      for key in 'zyx'[:: 1 if lang == 'en' else -1]
  ]
  return records.Question(
      name, 'd', 'train', lang, f'stem {lang}', tuple(options), gold
  )


def draw(name='q1', **changes):
  wanted = {'count': 3, 'seed': 0, 'taken': ()} | changes
  return noise.draw(CORPUS, name, **wanted)


def test_random_passages_depend_on_question_and_seed_alone():
  assert draw() == draw()
  assert len({p.id for p in draw()}) == 3
  assert draw() != draw('q2')
  assert draw() != draw(seed=1)
  assert {p.kind for p in draw()} == {'random'}


def test_random_passages_are_never_those_that_were_found():
  taken = {p.id for p in CORPUS[:17]}
  for i in range(20):
    assert {p.id for p in draw(f'q{i}', taken=taken)} == {
        's@17',
        's@18',
        's@19',
    }
  assert len(draw(count=99)) == 20


def test_a_claim_is_for_one_wrong_option_in_every_language():
  claims = {lang: noise.claim(question(lang), seed=3) for lang in ('en', 'fr')}
  keys = {text[-1] for text in claims.values()}
  assert len(keys) == 1
  assert keys <= {'x', 'z'}
  assert claims['fr'].startswith('stem fr fr ')
  several = {noise.claim(question(), seed=s)[-1] for s in range(20)}
  assert several == {'x', 'z'}


def test_a_claim_needs_a_label():
  with pytest.raises(ValueError, match=r"'q1' \(en\) has no label.*random"):
    noise.claim(question(gold=None), seed=0)


def test_what_names_the_right_option_is_no_contradiction():
  found = [
      records.Passage('a', 's', 'It is EN Y.'),
      records.Passage('b', 's', 'It is en x.'),
      records.Passage('c', 's', 'More on en x.'),
      records.Passage('d', 's', 'Still more.'),
  ]
  kept = noise.against(found, question(), count=2, taken={'b'})
  assert [(p.id, p.kind) for p in kept] == [
      ('c', 'contradicting'),
      ('d', 'contradicting'),
  ]


def test_noise_is_mixed_in_and_each_keeps_its_order():
  found, extra = CORPUS[:3], CORPUS[10:12]
  seen = set()
  for seed in range(30):
    mixed = noise.mix(found, extra, 'q', seed=seed)
    assert [p for p in mixed if p in found] == found
    assert [p for p in mixed if p in extra] == extra
    seen.add(tuple(p.id for p in mixed))
  assert len(seen) > 5
  assert noise.mix(found, [], 'q', seed=0) == tuple(found)
