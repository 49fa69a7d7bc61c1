"""Charts as inline SVG: shapes and words here, colours by class in the page."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math

from markupsafe import Markup

from calm_jax.html import axes

_WIDTH = 380
_NARROW = 330  # training curves stand three in a row
_LABEL = 44  # left margin of charts whose rows are languages
_RIGHT = 16
_ROW = 30
_CELL = 44

_TEXT = Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>')
_LINE = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" {}/>')
_RECT = Markup(
    '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" {}>'
    '<title>{}</title></rect>'
)
_DOT = Markup(
    '<circle cx="{:.1f}" cy="{:.1f}" r="{}" {}><title>{}</title></circle>'
)
_MARK = Markup('class="mark {}"')
_GRID = Markup('class="grid"')
_ZERO = Markup('class="zero-line"')


@dataclasses.dataclass(frozen=True)
class Interval:
  """A number and the ends of its interval."""

  value: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class Series:
  """A legend entry; `kind` is the style sheet's class for its colour."""

  label: str
  kind: str


def dots(
    rows: Sequence[tuple[str, Sequence[Interval | None]]],
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
) -> Markup:
  """One line a row; each series a dot on a whisker from low to high."""
  seen = [i for _, row in rows for i in row if i is not None]
  ends = [end for i in seen for end in (i.low, i.value, i.high)]
  bottom = 6 + _ROW * len(rows)
  x = axes.axis(ends, _LABEL, _WIDTH - _RIGHT)
  parts = [_x_ticks(x, 6, bottom, x_label)]
  if x.low < 0 < x.high:
    parts.append(_LINE.format(x(0), 6, x(0), bottom, _ZERO))
  for r, (label, row) in enumerate(rows):
    y = 6 + _ROW * (r + 0.5)
    parts.append(_TEXT.format(_LABEL - 10, y + 4, 'end', label))
    for s, interval in enumerate(row):
      if interval is None:
        continue
      at = y + 8 * (s - (len(series) - 1) / 2)
      parts.append(_whisker(x, at, interval, series[s], label))
  return _svg(bottom + 40, title, parts)


def _whisker(
    x: axes.Axis, y: float, interval: Interval, series: Series, row: str
) -> Markup:
  hover = (
      f'{row}, {series.label}: {interval.value:,.1f}'
      f' ({interval.low:,.1f} to {interval.high:,.1f})'
  )
  mark = _MARK.format(series.kind)
  line = _LINE.format(x(interval.low), y, x(interval.high), y, mark)
  return line + _DOT.format(x(interval.value), y, 4.5, mark, hover)


def heat(
    labels: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    title: str,
    low: float,
    high: float,
) -> Markup:
  """A square of percentages; `low` and `high` end the colour scale."""
  parts = []
  for i, row in enumerate(labels):
    centre = 24 + _CELL * (i + 0.5)
    parts.append(_TEXT.format(_LABEL - 12, centre + 4, 'end', row))
    parts.append(_TEXT.format(_LABEL + _CELL * (i + 0.5), 16, 'middle', row))
    for j, column in enumerate(labels):
      value = values[i][j]
      if value is not None:
        hover = f'{row} and {column}: {value:.1f} %'
        level = (value - low) / (high - low) if high > low else 0.5
        corner = (_LABEL + _CELL * j, 24 + _CELL * i)
        parts.append(_cell(corner, value, level, hover))
  side = _CELL * len(labels)
  return _svg(28 + side, title, parts, width=_LABEL + side + 4)


def _cell(
    corner: tuple[float, float], value: float, level: float, hover: str
) -> Markup:
  x, y = corner
  # The darkest cells carry their number in the page's background colour.
  ink = 'middle value on' if level > 0.55 else 'middle value'
  paint = Markup('class="cell" fill-opacity="{:.2f}"').format(
      0.06 + 0.94 * min(1.0, max(0.0, level))
  )
  square = _RECT.format(x + 1, y + 1, _CELL - 2, _CELL - 2, paint, hover)
  return square + _TEXT.format(
      x + _CELL / 2, y + _CELL / 2 + 4, ink, f'{value:.1f}'
  )


def columns(
    bins: Sequence[tuple[str, Sequence[int]]],
    series: Sequence[Series],
    *,
    edges: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
) -> Markup:
  """A histogram with one stack a bin; `edges` are the bins' ends."""
  top, bottom, left = 10, 180, 58
  tallest = max((sum(stack) for _, stack in bins), default=0)
  y = axes.axis([0, max(1, tallest)], bottom, top, whole=True)
  parts = [_y_ticks(y, left, _WIDTH - _RIGHT, y_label)]
  wide = (_WIDTH - _RIGHT - left) / max(1, len(bins))
  for e, edge in enumerate(edges):
    at = (left + wide * e, bottom + 16)
    parts.append(_TEXT.format(*at, 'middle small', edge))
  for b, (label, stack) in enumerate(bins):
    x, base = left + wide * b, 0
    for count, kind in zip(stack, series, strict=True):
      if count:
        hover = f'{label}: {count:,} {kind.label}'
        height = y(base) - y(base + count)
        mark = _MARK.format(kind.kind)
        box = (x + 2, y(base + count), wide - 4, height)
        parts.append(_RECT.format(*box, mark, hover))
      base += count
  middle = (left + _WIDTH - _RIGHT) / 2
  parts.append(_TEXT.format(middle, bottom + 36, 'middle axis', x_label))
  return _svg(bottom + 44, title, parts)


def bars(
    rows: Sequence[tuple[str, Sequence[int]]],
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
) -> Markup:
  """One horizontal stack a row."""
  longest = max((sum(stack) for _, stack in rows), default=0)
  bottom = 6 + _ROW * len(rows)
  x = axes.axis([0, max(1, longest)], _LABEL, _WIDTH - _RIGHT, whole=True)
  parts = [_x_ticks(x, 6, bottom, x_label)]
  for r, (label, stack) in enumerate(rows):
    top, base = 6 + _ROW * r + 6, 0
    parts.append(_TEXT.format(_LABEL - 10, top + 13, 'end', label))
    for count, kind in zip(stack, series, strict=True):
      if count:
        hover = f'{label}: {count:,} {kind.label}'
        box = (x(base), top, x(base + count) - x(base), _ROW - 12)
        parts.append(_RECT.format(*box, _MARK.format(kind.kind), hover))
      base += count
  return _svg(bottom + 40, title, parts)


def lines(
    curves: Sequence[tuple[Series, Sequence[tuple[float, float]]]],
    *,
    title: str,
    x_label: str,
    unit: str = 'step',
) -> Markup:
  """Points joined where they are finite; a gap where they are not."""
  top, bottom, left = 10, 160, 52
  points = [p for _, curve in curves for p in curve]
  steps = [p[0] for p in points]
  x = axes.axis(steps, left, _NARROW - _RIGHT, snap=False, whole=True)
  y = axes.axis([p[1] for p in points], bottom, top)
  parts = [_y_ticks(y, left, _NARROW - _RIGHT, '')]
  parts.append(_x_ticks(x, bottom, bottom, x_label))
  for series, curve in curves:
    parts.append(_curve(x, y, series, curve, unit))
  return _svg(bottom + 40, title, parts, width=_NARROW)


def _curve(
    x: axes.Axis,
    y: axes.Axis,
    series: Series,
    curve: Sequence[tuple[float, float]],
    unit: str,
) -> Markup:
  path, pen, marks = [], 'M', []
  for step, value in curve:
    if not math.isfinite(value):
      pen = 'M'
      continue
    path.append(f'{pen}{x(step):.1f} {y(value):.1f}')
    pen = 'L'
    hover = f'{series.label}, {unit} {axes.number(step)}: {axes.number(value)}'
    at = Markup('class="point {}"').format(series.kind)
    marks.append(_DOT.format(x(step), y(value), 3, at, hover))
  line = Markup('<path d="{}" class="curve {}"/>')
  return line.format(' '.join(path), series.kind) + Markup('').join(marks)


def _x_ticks(x: axes.Axis, top: float, bottom: float, label: str) -> Markup:
  parts = [_LINE.format(x.start, bottom, x.end, bottom, _GRID)]
  for tick in x.ticks:
    if bottom > top:
      parts.append(_LINE.format(x(tick), top, x(tick), bottom, _GRID))
    words = axes.number(tick)
    parts.append(_TEXT.format(x(tick), bottom + 16, 'middle small', words))
  middle = (x.start + x.end) / 2
  parts.append(_TEXT.format(middle, bottom + 34, 'middle axis', label))
  return Markup('').join(parts)


def _y_ticks(y: axes.Axis, left: float, right: float, label: str) -> Markup:
  parts = []
  for tick in y.ticks:
    parts.append(_LINE.format(left, y(tick), right, y(tick), _GRID))
    parts.append(
        _TEXT.format(left - 6, y(tick) + 4, 'end small', axes.number(tick))
    )
  if label:
    turned = Markup(
        '<text transform="translate(12 {:.1f}) rotate(-90)"'
        ' class="middle axis">{}</text>'
    )
    parts.append(turned.format((y.start + y.end) / 2, label))
  return Markup('').join(parts)


def _svg(
    height: float, title: str, parts: Sequence[Markup], *, width: float = _WIDTH
) -> Markup:
  return Markup(
      '<svg viewBox="0 0 {:.0f} {:.0f}" style="max-width:{:.0f}px" role="img"'
      ' aria-label="{}">{}</svg>'
  ).format(width, height, width * 1.2, title, Markup('').join(parts))
