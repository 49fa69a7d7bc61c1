"""Training metrics as curves of at most a few hundred points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses
import math
from typing import Any

from markupsafe import Markup

from calm_jax.html import plots

_POINTS = 200
_FIRST = {
    'loss': 'Loss',
    'agreement': 'Held-out answers that agree with the vote, percent',
    'consistency': 'Held-out answers alike between languages, percent',
    'unparsed': 'Held-out answers that name no option, percent',
    'rewards/margins': 'Reward margin, chosen − rejected',
    'rewards/accuracies': 'Rewards ranked right, share',
    'rewards/chosen': 'Reward of chosen',
    'rewards/rejected': 'Reward of rejected',
    'grad_norm': 'Gradient norm',
    'learning_rate': 'Learning rate',
}
_NOT_CURVES = ('step', 'split', 'epoch', 'time', 'seconds')
_SPLITS = {
    'train': plots.Series('train', 'train'),
    'val': plots.Series('validation', 'val'),
    'monitor': plots.Series('held-out questions', 'third'),
}


@dataclasses.dataclass(frozen=True)
class Chart:
  """One metric; `last` maps a split's label to its latest finite value."""

  title: str
  figure: Markup
  last: Mapping[str, float]
  not_finite: int


def charts(rows: Iterable[Mapping[str, Any]]) -> list[Chart]:
  """One chart a metric: the known ones first, others by name.

  A step that was logged twice, before and after a restart, counts once.
  """
  series: dict[str, dict[str, dict[float, float]]] = {}
  for row in rows:
    split = str(row.get('split', 'train'))
    for name, value in row.items():
      if name in _NOT_CURVES or not _is_number(value):
        continue
      by_step = series.setdefault(name, {}).setdefault(split, {})
      by_step[float(row['step'])] = float(value)
  order = [n for n in _FIRST if n in series]
  order += sorted(series.keys() - _FIRST.keys())
  return [_chart(_FIRST.get(name, name), series[name]) for name in order]


def thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
  """At most a few hundred points, each the mean of its neighbours."""
  size = math.ceil(len(points) / _POINTS)
  if size <= 1:
    return points
  groups = (points[i : i + size] for i in range(0, len(points), size))
  return [(_mean(s for s, _ in g), _mean(v for _, v in g)) for g in groups]


def _chart(title: str, splits: Mapping[str, Mapping[float, float]]) -> Chart:
  curves, last, broken = [], {}, 0
  for split, by_step in splits.items():
    series = _SPLITS.get(split, plots.Series(split, 'third'))
    finite = [(s, v) for s, v in sorted(by_step.items()) if math.isfinite(v)]
    broken += len(by_step) - len(finite)
    if finite:
      last[series.label] = finite[-1][1]
    curves.append((series, thin(sorted(by_step.items()))))
  figure = plots.lines(curves, title=title, x_label='step')
  return Chart(title, figure, last, broken)


def _is_number(value: Any) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mean(values: Iterable[float]) -> float:
  numbers = list(values)
  return sum(numbers) / len(numbers)
