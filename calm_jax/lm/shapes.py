"""The shapes that sampling compiles for: few, and known before it starts."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import itertools

# Prompts are padded to one of these lengths, beyond them to multiples of 512.
_BUCKETS = (32, 64, 96, 128, 192, 256, 320, 384, 512, 768, 1024)

# Each width is a compilation, which costs about what a few thousand prompts'
# padding does.
_MOST_WIDTHS = 6

# Each length of a cache compiles decoding anew, and reading prompts: for about
# what it costs to attend to so many positions in vain, summed over answers: 10
# s at 250 us on a CPU (a small model), a minute at 7 us on a GPU (8B).
_MOST_LENGTHS, _WORTH_ON_CPU, _WORTH = 4, 2**15, 2**23

# A step of fewer rows costs about what it does with half of them: reading the
# weights.
_FEWEST_TO_HALVE = 16

# What halving adds for a cache: a step of half as many rows, and what moves
# keys, values and the rest to them.
_TO_HALVE = 4

# Keys, and values, of each layer are cut alike: a program for both.
_TO_CUT = 2


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Of all the work of a stage, so that each part of it compiles the same."""

  widths: tuple[int, ...]  # that prompts are padded to
  lengths: tuple[int, ...]  # of caches, in positions
  room: int  # positions that an answer needs after its prompt
  samples: int  # of one prompt, at most
  suffix: int
  choices: int
  # Whether a run ends in half as many slots: worth its programs where a step
  # costs what its rows cost, on a CPU.
  halved: bool = False

  def halves(self, slots: int, parts: int) -> bool:
    """Whether a run in so many slots ends in half of them."""
    return self.halved and parts == 1 and slots >= _FEWEST_TO_HALVE

  def width(self, prompt: int) -> int:
    """What a prompt of so many tokens is padded to."""
    return next(w for w in self.widths if w >= prompt)

  def length(self, longest: int) -> int:
    """The cache for prompts of at most so many tokens, and their answers."""
    needed = need(longest, self.widths, self.room)
    return next(length for length in self.lengths if length >= needed)

  def programs(
      self, parts: Iterable[Sequence[int]], *, halves: bool = False
  ) -> int:
    """How many are compiled for the prompts of these parts, at most.

    A part begins with the cache of its longest prompt, and goes on in shorter
    ones: when, its answers decide.
    """
    prefills, decodes, cuts = set(), set(), set()
    for prompts in parts:
      here = self._lengths(prompts)
      decodes.update(here)
      cuts.update(itertools.combinations(here, 2))
      prefills.update(
          (self.width(prompt), length)
          for prompt in prompts
          for length in here
          if length >= self.length(prompt)
      )
    steps = len(decodes) * (1 + _TO_HALVE * halves)
    return len(prefills) + steps + len(cuts) * _TO_CUT * (1 + halves)

  def describe(
      self, parts: Sequence[Sequence[int]], *, halves: bool = False
  ) -> str:
    """What is compiled for these parts, in a line."""
    lengths = sorted({n for prompts in parts for n in self._lengths(prompts)})
    widths = sorted({self.width(p) for prompts in parts for p in prompts})
    one = len(lengths) == 1
    return (
        f'prefill widths {" ".join(map(str, widths))},'
        f' {"cache" if one else "caches"} of {" ".join(map(str, lengths))}'
        f' positions: {"" if one else "at most "}'
        f'{self.programs(parts, halves=halves)} programs'
    )

  def _lengths(self, prompts: Sequence[int]) -> list[int]:
    """Of the caches that a part may take, from its first to its last."""
    ends = self.length(min(prompts)), self.length(max(prompts))
    return [length for length in self.lengths if ends[0] <= length <= ends[1]]


def prompts_at_once(slots: int, samples: int, parts: int) -> int:
  """How many prompts are prefilled together, with padding.

  Slots wait until so many of them are free: few at a time keep more in use.
  """
  prompts = max(1, slots // (16 * samples))
  return prompts + -prompts % parts


def bucket(length: int) -> int:
  """The usual length that a prompt is padded to."""
  for size in _BUCKETS:
    if length <= size:
      return size
  return -(-length // 512) * 512


def need(prompt: int, widths: Sequence[int], room: int) -> int:
  """Positions of a cache for a prompt of so many tokens and its answer."""
  padded = next(w for w in widths if w >= prompt)
  return max(padded, prompt + room)


def widths(prompts: Sequence[int]) -> tuple[int, ...]:
  """A few widths that hold prompts of these lengths with little padding."""
  return _few(collections.Counter(map(bucket, prompts)), _MOST_WIDTHS)


def lengths(
    needs: Mapping[int, int], *, on_cpu: bool, multiple: int = 64
) -> tuple[int, ...]:
  """A few lengths of caches; `needs` counts the answers of each need."""
  counts = collections.Counter()
  for need, answers in needs.items():
    counts[-(-need // multiple) * multiple] += answers
  worth = _WORTH_ON_CPU if on_cpu else _WORTH
  return _few(counts, _MOST_LENGTHS, worth=worth)


def _few(
    counts: Mapping[int, int], most: int, *, worth: int = 0
) -> tuple[int, ...]:
  """The sizes that save the most padding; each saves at least `worth` of it."""
  counts, chosen = dict(counts), sorted(counts)
  while len(chosen) > 1:
    # What has a size that is dropped is padded to the next one.
    padding, low, high = min(
        (counts[low] * (high - low), low, high)
        for low, high in itertools.pairwise(chosen)
    )
    if len(chosen) <= most and padding >= worth:
      break
    chosen.remove(low)
    counts[high] += counts[low]
  return tuple(chosen)
