"""Short rows shared out over few rows: numbers only."""

from __future__ import annotations

from collections.abc import Sequence
import heapq
import math


def share_out(
    lengths: Sequence[int], *, capacity: int, by: int
) -> list[list[int]]:
  """Which lengths share a row, in a multiple of `by` rows; some may be empty.

  As few as hold them in `capacity` each, or in the longest of them, the longest
  first and each where there is most room: so the fullest row, to which all are
  padded, is hardly longer than the mean.
  """
  capacity = max(capacity, *lengths)
  count = by * math.ceil(sum(lengths) / capacity / by)
  while True:
    shares = _even(lengths, count)
    if max(sum(lengths[i] for i in s) for s in shares) <= capacity:
      return shares
    count += by


def _even(lengths: Sequence[int], count: int) -> list[list[int]]:
  shares: list[list[int]] = [[] for _ in range(count)]
  room = [(0, number) for number in range(count)]
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    used, number = heapq.heappop(room)
    shares[number].append(i)
    heapq.heappush(room, (used + lengths[i], number))
  return shares
