"""Reflection tokens in the real vocabulary, and the prompts around them."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers

from calm_jax import records, reflection_tokens
from calm_jax.lm import chat, sampler, tokenizer
from calm_jax.retrieval import selfrag

SETTINGS = selfrag.Settings(
    mode='adaptive',
    threshold=0.2,
    relevance=1.0,
    support=1.0,
    utility=0.5,
    sequence=0.0,
    scoring='paper',
    keep_tokens=False,
)
PASSAGE = records.Passage(
    'en/Anatomy_Gray@0', 'en/Anatomy_Gray', 'The heart, it pumps.\nÉtude.'
)


@pytest.fixture(scope='module')
def folder(real_data):
  found = real_data / 'tokenizers' / 'selfrag-hf'
  if not found.is_dir():
    pytest.skip(f'{found} is not on this machine')
  return found


@pytest.fixture(scope='module')
def tok(folder):
  return tokenizer.load(folder, template=chat.SELFRAG)


@pytest.mark.parametrize('passage', [PASSAGE, None])
def test_prompts_have_the_ids_of_the_authors_text(folder, tok, passage):
  ids = tok.chat_prompt('What pumps?') + tok.pieces(selfrag.opening(passage))
  text = '### Instruction:\nWhat pumps?\n\n### Response:\n'
  if passage:
    text += (
        '[Retrieval]<paragraph>Anatomy Gray\nThe heart, it pumps.\nÉtude.'
        '</paragraph>'
    )
  else:
    text += '[No Retrieval]'
  theirs = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
  assert ids == theirs.encode(text).ids


def completion(tok, *pieces, watched=None):
  ids = tok.pieces(pieces)
  if watched is None:
    watched = np.zeros((len(ids), len(selfrag.WATCHED)), np.float32)
  return sampler.Completion(tuple(ids), None, -1.0, 'length', watched)


def test_text_with_reflection_tokens_and_without(tok):
  reader = reflection_tokens.Reader(tok, SETTINGS)
  drawn = completion(
      tok,
      *('[Relevant]', 'The heart pumps.', '[Fully supported]', '[Utility:5]'),
  )
  assert reader.text(drawn, keep=False) == 'The heart pumps.'
  kept = reader.text(drawn, keep=True)
  assert kept.startswith('[Relevant]')
  assert kept.endswith('The heart pumps.[Fully supported][Utility:5]')
  # A model may also spell them, which makes no token of them.
  spelt = completion(tok, 'x', ' [Relevant]')
  assert '[Relevant]' in reader.text(spelt, keep=False)


def test_tokens_are_found_where_they_were_drawn(tok):
  reader = reflection_tokens.Reader(tok, SETTINGS)
  pieces = ('[Relevant]', 'A heart.', '[Partially supported]', '[Utility:2]')
  drawn = completion(tok, *pieces)
  watched = np.full(drawn.watched_TW.shape, -9.0, np.float32)
  column = selfrag.WATCHED.index
  watched[0, column('[Relevant]')] = np.log(0.3)
  watched[0, column('[Irrelevant]')] = np.log(0.1)
  watched[-2, column('[Partially supported]')] = np.log(0.8)
  watched[-2, column('[Fully supported]')] = np.log(0.1)
  watched[-2, column('[No support / Contradictory]')] = np.log(0.1)
  for name, p in zip(selfrag.UTILITY, (0.1, 0.5, 0.2, 0.1, 0.1), strict=True):
    watched[-1, column(name)] = np.log(p)
  drawn = completion(tok, *pieces, watched=watched)
  scores = reader.judge(drawn, alone=False)
  assert scores.relevance == pytest.approx(0.75)
  assert scores.support == pytest.approx(0.1 + 0.5 * 0.8)
  assert scores.utility == pytest.approx(-0.1 - 0.25 + 0.05 + 0.1)
  assert scores.sequence == pytest.approx(np.exp(-1.0 / len(drawn.tokens)))


def test_a_decision_is_read_at_the_first_step(tok):
  reader = reflection_tokens.Reader(tok, SETTINGS)
  watched = np.full((1, len(selfrag.WATCHED)), -9.0, np.float32)
  watched[0, selfrag.WATCHED.index('[Retrieval]')] = np.log(0.1)
  watched[0, selfrag.WATCHED.index('[No Retrieval]')] = np.log(0.3)
  decision = reader.decide(completion(tok, 'x', watched=watched))
  assert decision == (True, pytest.approx(0.25))
