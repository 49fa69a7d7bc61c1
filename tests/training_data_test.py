"""Pairs as rows of token ids, with a tokenizer of characters."""

from __future__ import annotations

from calm_jax import records, training_data


class Letters:
  """A tokenizer whose tokens are characters."""

  def chat_completion(self, user, answer, *, opening=(), marks=()):
    ids = lambda text: [3 + ord(c) % 97 for c in text]
    return [2, *ids(user)], [*ids(answer), 1]


def test_encode_counts_what_it_cuts_and_drops():
  pair = lambda prompt, chosen, rejected: records.Pair(
      'q', 'en', prompt, chosen, rejected, 'en', 1.0
  )
  items = [
      pair('abc', 'defg', 'h'),
      pair('abc', 'defgh', 'ijklm'),
      pair('abcdefgh', 'i', 'j'),
  ]
  rows, counts = training_data.encode(items, Letters(), max_length=9)
  assert counts == {'rows': 2, 'dropped_prompt_too_long': 1, 'cut_answers': 2}
  assert [len(c) for c in rows[0].completions] == [5, 2]
  assert rows[0].completions[0][-1] == 1
  assert [len(c) for c in rows[1].completions] == [5, 5]


def test_a_row_may_weigh_the_share_of_its_winner():
  items = [
      records.Pair('q', 'en', 'a', 'b', 'c', 'en', 0.75),
      records.Target('q', 'en', 'a', 'b', 0.5),
  ]
  weights = lambda **options: [
      row.weight
      for row in training_data.encode(
          items, Letters(), max_length=9, **options
      )[0]
  ]
  assert weights() == weights(weighting='none') == [1, 1]
  assert weights(weighting='share') == [0.75, 0.5]
