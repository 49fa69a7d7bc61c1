"""What both sides of a benchmark do: the same requests, the same pairs.

Answers have fixed lengths, drawn beforehand: nothing stops at a token, so that
both sides draw exactly as many, and batches still end unevenly.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np


class Spread(NamedTuple):
  """Lengths between two bounds: even, or a gamma (shape 3) with this mean."""

  low: int
  high: int
  mean: float | None = None

  def draw(self, rng: np.random.Generator, size: int) -> list[int]:
    if self.mean is None:
      return rng.integers(self.low, self.high + 1, size).tolist()
    drawn = rng.gamma(3, self.mean / 3, size)
    return np.clip(drawn, self.low, self.high).astype(int).tolist()


class Lengths(NamedTuple):
  """Of the prompts and answers of sampling, and of the pairs of training."""

  prompt: Spread
  answer: Spread
  pair_prompt: Spread
  completion: Spread


LENGTHS = {
    'tiny': Lengths(Spread(4, 12), Spread(1, 6), Spread(8, 16), Spread(2, 8)),
    'short': Lengths(
        Spread(50, 300), Spread(1, 128), Spread(150, 250), Spread(60, 150)
    ),
    'paper': Lengths(
        Spread(50, 900, 300),
        Spread(8, 512, 150),
        Spread(100, 512, 400),
        Spread(50, 512, 300),
    ),
}


class Question(NamedTuple):
  """A prompt, and how many tokens to draw for each answer."""

  prompt: tuple[int, ...]
  answers: tuple[int, ...]


class Draws(NamedTuple):
  """How tokens are drawn: temperature 0 is greedy, top_k 0 off."""

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 0.9


class Pair(NamedTuple):
  """Token ids; both completions end with the id `EOS`."""

  prompt: tuple[int, ...]
  chosen: tuple[int, ...]
  rejected: tuple[int, ...]


# The ids that random text keeps free for the padding and the end of a text.
PAD, EOS = 0, 1


@dataclasses.dataclass(frozen=True)
class Run:
  """One pass over the work; `done` counts tokens, or pairs, or what it says."""

  seconds: float
  cpu_seconds: float
  done: int
  details: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def rate(self) -> float:
    return self.done / self.seconds


class Peer(NamedTuple):
  """All that another process needs to load the same model.

  `folder` has the weights; without one they are random, as `config` says.
  """

  folder: str | None
  config: dict[str, Any]
  norm: float  # of the last layer, where weights are random
  dtype: str
  device: str
  threads: int
  seed: int


def questions(
    corpus: Sequence[int],
    lengths: Lengths,
    *,
    requests: int,
    samples: int,
    max_new_tokens: int,
    seed: int,
) -> list[Question]:
  """`requests` answers in questions of `samples`, of random lengths."""
  rng = np.random.default_rng(seed)
  count = -(-requests // samples)
  prompts = lengths.prompt.draw(rng, count)
  # Not cut afterwards: many answers would end at once.
  spread = lengths.answer._replace(
      high=min(lengths.answer.high, max_new_tokens)
  )
  answers = spread.draw(rng, count * samples)
  return [
      Question(
          _slice(rng, corpus, prompt),
          tuple(answers[i * samples : (i + 1) * samples]),
      )
      for i, prompt in enumerate(prompts)
  ]


def pairs(
    corpus: Sequence[int], lengths: Lengths, *, count: int, seed: int
) -> list[Pair]:
  """Preference pairs that share their prompt, of random lengths."""
  rng = np.random.default_rng(seed)
  prompts = lengths.pair_prompt.draw(rng, count)
  chosen = lengths.completion.draw(rng, count)
  rejected = lengths.completion.draw(rng, count)
  return [
      Pair(
          _slice(rng, corpus, p),
          (*_slice(rng, corpus, c - 1), EOS),
          (*_slice(rng, corpus, r - 1), EOS),
      )
      for p, c, r in zip(prompts, chosen, rejected, strict=True)
  ]


def random_corpus(vocab_size: int, seed: int) -> list[int]:
  """Ids of no text at all."""
  rng = np.random.default_rng(seed)
  return rng.integers(EOS + 1, vocab_size, 1 << 14).tolist()


def peak_resident(pid: int | None = None) -> int:
  """The most bytes of memory a process, or this one, ever had, on Linux."""
  # Not ru_maxrss: a process inherits that of the one that started it.
  status = pathlib.Path(f'/proc/{pid or "self"}/status').read_text()
  (line,) = (x for x in status.splitlines() if x.startswith('VmHWM:'))
  return 1024 * int(line.split()[1])


def _slice(rng, corpus: Sequence[int], length: int) -> tuple[int, ...]:
  start = int(rng.integers(len(corpus)))
  return tuple(corpus[i % len(corpus)] for i in range(start, start + length))
