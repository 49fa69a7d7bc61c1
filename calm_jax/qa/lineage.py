"""How systems descend from each other."""

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


def chain(system: System, by_name: Mapping[str, System]) -> list[System]:
  """What a system was trained on from, the first of it first, then itself."""
  found = [system]
  while found[0].start in by_name:
    found.insert(0, by_name[found[0].start])
  return found
