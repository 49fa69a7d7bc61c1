"""Counts of the sampled answers, per language."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
import dataclasses

from calm_jax import records


@dataclasses.dataclass
class Language:
  """Sums over one language's samples."""

  lang: str
  samples: int = 0
  unparsed: int = 0
  tokens: int = 0
  stopped: collections.Counter[str] = dataclasses.field(
      default_factory=collections.Counter
  )
  unparsed_by: collections.Counter[str] = dataclasses.field(
      default_factory=collections.Counter
  )

  def add(self, sample: records.Sample) -> None:
    self.samples += 1
    self.tokens += sample.tokens
    self.stopped[sample.stop_reason] += 1
    if sample.answer is None:
      self.unparsed += 1
      self.unparsed_by[sample.parse] += 1


def tally(
    samples: Iterable[records.Sample], langs: Sequence[str]
) -> list[Language]:
  """One row a language that has samples, in the order of `langs`."""
  rows = {lang: Language(lang) for lang in langs}
  for sample in samples:
    rows.setdefault(sample.lang, Language(sample.lang)).add(sample)
  return [row for row in rows.values() if row.samples]


def reasons(counters: Iterable[collections.Counter[str]]) -> list[str]:
  """Every key of the counters, the most frequent first."""
  total: collections.Counter[str] = collections.Counter()
  for counter in counters:
    total.update(counter)
  return sorted(total, key=lambda key: (-total[key], key))
