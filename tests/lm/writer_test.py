"""Texts are whole, and written in few shapes, whatever they are."""

from __future__ import annotations

import types

from calm_jax.lm import sampler, writer


def test_usual_texts_share_two_prefills_and_one_cache():
  plans = {writer.shapes(length, 64) for length in range(1, 257)}
  (plan,) = plans
  assert plan.widths == (128, 256)
  assert plan.lengths == (512,)
  assert plan.length(1) == plan.length(256) == 512
  assert plan.programs([list(range(1, 257))]) == 3


def test_longer_texts_are_on_their_own_and_double():
  long = writer.shapes(257, 64)
  assert (long.widths, long.lengths) == ((512,), (768,))
  assert writer.shapes(512, 64) == long
  assert writer.shapes(513, 64).widths == (1024,)
  # The last answer fits: its tokens, and the position of what follows it.
  assert all(
      writer.shapes(n, 300).length(n) >= n + 302 for n in (1, 256, 512, 3000)
  )


def test_requests_of_the_same_shapes_are_written_together():
  request = lambda length: sampler.Request((7,) * length, digests=(0,))
  found = writer._alike([request(n) for n in (9, 700, 200, 600, 300)], 64)
  assert list(found.values()) == [[0, 2], [1, 3], [4]]


def test_a_text_that_was_cut_is_none():
  spell = lambda ids, *, continuation: ' '.join(map(str, ids))
  tokenizer = types.SimpleNamespace(decode=spell)
  found = [
      writer.whole(sampler.Completion((7, 8), None, -1.0, reason), tokenizer)
      for reason in ('stop', 'length')
  ]
  assert found == ['7 8', None]
