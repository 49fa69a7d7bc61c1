"""The shapes that sampling compiles for: few, and known before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import dataclasses
import itertools

# Prompts are padded to one of these lengths, beyond them to multiples of 512.
_BUCKETS = (32, 64, 96, 128, 192, 256, 320, 384, 512, 768, 1024)

# Each width is a compilation, which costs about what a few thousand prompts'
# padding does.
_MOST_WIDTHS = 6

# A step of fewer rows costs about what it does with half of them: reading the
# weights.
_FEWEST_TO_HALVE = 16

# What halving adds for a cache: a step of half as many rows, and what moves
# keys, values and the rest to them.
_TO_HALVE = 4

# A cache is at most twice as long as its work needs: an unusually long prompt
# does not slow down all others.
_MOST_HALVINGS = 2


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
    needed = max(self.width(longest), longest + self.room)
    return next(length for length in self.lengths if length >= needed)

  def programs(
      self, parts: Iterable[Sequence[int]], *, halves: bool = False
  ) -> int:
    """How many are compiled for the prompts of these parts, at most."""
    prefills, decodes = set(), set()
    for prompts in parts:
      length = self.length(max(prompts))
      decodes.add(length)
      prefills |= {(self.width(prompt), length) for prompt in prompts}
    return len(prefills) + len(decodes) * (1 + _TO_HALVE * halves)

  def describe(
      self, parts: Sequence[Sequence[int]], *, halves: bool = False
  ) -> str:
    """What is compiled for these parts, in a line."""
    lengths = sorted({self.length(max(prompts)) for prompts in parts})
    widths = sorted({self.width(p) for prompts in parts for p in prompts})
    cache = 'cache' if len(lengths) == 1 else 'caches'
    return (
        f'prefill widths {" ".join(map(str, widths))}, {cache} of'
        f' {" ".join(map(str, lengths))} positions:'
        f' {self.programs(parts, halves=halves)} programs'
    )


def bucket(length: int) -> int:
  """The usual length that a prompt is padded to."""
  for size in _BUCKETS:
    if length <= size:
      return size
  return -(-length // 512) * 512


def widths(prompts: Sequence[int]) -> tuple[int, ...]:
  """A few widths that hold prompts of these lengths with little padding."""
  counts = {}
  for prompt in prompts:
    counts[bucket(prompt)] = counts.get(bucket(prompt), 0) + 1
  chosen = sorted(counts)
  while len(chosen) > _MOST_WIDTHS:
    # The prompts of a width that is dropped are padded to the next one.
    padding = [
        (counts[low] * (high - low), low, high)
        for low, high in itertools.pairwise(chosen)
    ]
    _, low, high = min(padding)
    chosen.remove(low)
    counts[high] += counts[low]
  return tuple(chosen)


def lengths(needs: Sequence[int], *, multiple: int = 64) -> tuple[int, ...]:
  """A few cache lengths for parts that need these, none twice too long."""
  up = lambda length: -(-length // multiple) * multiple
  top = max(needs)
  choices = sorted({up(-(-top // 2**k)) for k in range(_MOST_HALVINGS + 1)})
  used = {next(c for c in choices if c >= need) for need in needs}
  return tuple(sorted(used))
