"""How systems descend from each other, and what that did to their languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import pathlib

from calm_jax import records


@dataclasses.dataclass(frozen=True)
class System:
  """One system: where its folders are, and how it came about.

  `trained_on` are the languages that were sampled and trained on, none where
  nothing was trained; `start` is the system that it was trained on from.
  """

  name: str
  folder: pathlib.Path
  setting: str
  languages: tuple[str, ...]
  trained_on: tuple[str, ...]
  start: str = ''


@dataclasses.dataclass(frozen=True)
class Kept:
  """What a system still knows of a language, against its best before."""

  lang: str
  value: float | None
  change: float | None  # None where none before it was trained on the language
  trained: bool  # whether this system was


def kept(
    systems: Sequence[System],
    scores: Iterable[records.Score],
    setting: str,
    langs: Sequence[str],
) -> list[tuple[str, list[Kept]]]:
  """The forgetting matrix: accuracy now, and against the best before.

  The best is that of the systems which a system was trained on from, since the
  first of them that was trained on the language (Chaudhry et al. 2018). Rows
  are the systems of such chains that were tested in this setting, in order.
  """
  found = {
      (s.system, s.lang): s.value
      for s in scores
      if s.setting == setting and s.metric == 'accuracy' and s.lang != 'all'
  }
  tested = {name for name, _ in found}
  by_name = {system.name: system for system in systems}
  starts = {system.start for system in systems if system.trained_on}
  rows = []
  for system in systems:
    chained = system.start or system.name in starts
    if system.trained_on and chained and system.name in tested:
      chain = _chain(system, by_name)
      row = [_kept(chain, lang, found) for lang in langs]
      rows.append((system.name, row))
  return rows


def growth(
    systems: Iterable[System],
    scores: Iterable[records.Score],
    setting: str,
    wanted: Sequence[str],
) -> dict[int, dict[str, float]]:
  """Metrics over languages by the number of languages trained on.

  Only of systems that start anew: the others have seen what came before, too.
  Empty where all were trained on as many.
  """
  sizes = {s.name: len(s.trained_on) for s in systems if not s.start}
  points: dict[int, dict[str, float]] = {}
  for score in scores:
    shown = score.metric in wanted and score.lang == 'all'
    if score.setting == setting and shown and score.system in sizes:
      points.setdefault(sizes[score.system], {})[score.metric] = score.value
  return points if len(points.keys() - {0}) > 1 else {}


def _chain(system: System, by_name: Mapping[str, System]) -> list[System]:
  """What a system was trained on from, the first of it first, then itself."""
  chain = [system]
  while chain[0].start in by_name:
    chain.insert(0, by_name[chain[0].start])
  return chain


def _kept(
    chain: Sequence[System], lang: str, found: Mapping[tuple[str, str], float]
) -> Kept:
  *before, now = chain
  taught = [i for i, s in enumerate(before) if lang in s.trained_on]
  past = before[taught[0] :] if taught else []
  values = [v for s in past if (v := found.get((s.name, lang))) is not None]
  value = found.get((now.name, lang))
  change = None if value is None or not values else value - max(values)
  return Kept(lang, value, change, lang in now.trained_on)
