"""Self-RAG's reflection tokens in what a model has drawn, found by name."""

from __future__ import annotations

import functools
from typing import NamedTuple

from calm_jax.lm import sampler
from calm_jax.lm import tokenizer as tokenizer_lib
from calm_jax.retrieval import selfrag


class Decision(NamedTuple):
  """Whether to retrieve, and the score that said so, if one was asked for."""

  retrieve: bool
  score: float | None


class Reader:
  """Reads reflection tokens, by name, in what a model has drawn."""

  def __init__(
      self,
      tokenizer: tokenizer_lib.Tokenizer,
      settings: selfrag.Settings,
  ):
    try:
      ids = {name: tokenizer.id_of(name) for name in selfrag.TOKENS}
    except ValueError as e:
      raise ValueError(
          f'{e}. config.selfrag.mode = {settings.mode!r} needs a model with'
          " Self-RAG's reflection tokens (python -m tools.add_reflection_tokens"
          ' gives a model untrained ones, to try it)'
      ) from e
    self.settings = settings
    self.watch_ids = tuple(ids[name] for name in selfrag.WATCHED)
    self._tokenizer = tokenizer
    self._names = {token: name for name, token in ids.items()}

  def decide(self, completion: sampler.Completion) -> Decision:
    """Whether to retrieve, from an answer's first step."""
    assert completion.watched_TW is not None
    first = completion.watched_TW[0].tolist()
    logprobs = dict(zip(selfrag.WATCHED, first, strict=True))
    return Decision(*selfrag.wants_passages(logprobs, self.settings))

  def judge(
      self, completion: sampler.Completion, *, alone: bool
  ) -> selfrag.Scores:
    assert completion.watched_TW is not None
    watched = completion.watched_TW.tolist()
    # The letter of a second stage was drawn too.
    drawn = len(watched) + (completion.choice is not None)
    return selfrag.judge(
        [self._names.get(token, '') for token in completion.tokens],
        watched,
        mean_logprob=completion.logprob / drawn,
        settings=self.settings,
        alone=alone,
    )

  def text(self, completion: sampler.Completion, *, keep: bool) -> str:
    """What was written, with reflection tokens by name or without them."""
    decode = functools.partial(self._tokenizer.decode, continuation=True)
    if not keep:
      return decode(completion.tokens).strip()
    text, start = '', 0
    for at, token in enumerate(completion.tokens):
      if token in self._names:
        text += decode(completion.tokens[start:at]) + self._names[token]
        start = at + 1
    return (text + decode(completion.tokens[start:])).strip()
