"""Round numbers along the edge of a chart."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Axis:
  """Maps low..high to the pixels start..end, with round ticks."""

  low: float
  high: float
  start: float
  end: float
  ticks: tuple[float, ...]

  def __call__(self, value: float) -> float:
    part = (value - self.low) / (self.high - self.low)
    return self.start + part * (self.end - self.start)


def axis(
    values: Sequence[float],
    start: float,
    end: float,
    *,
    snap: bool = True,
    whole: bool = False,
) -> Axis:
  """An axis around the finite `values`.

  `snap` ends it on round numbers; `whole` has no ticks between integers.
  """
  finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
  low, high = min(finite), max(finite)
  if low == high:
    pad = abs(low) * 0.1 or 1.0
    low, high = low - pad, high + pad
  step = _round_step((high - low) / 4)
  step = max(1.0, step) if whole else step
  if snap:
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  ticks = tuple(i * step for i in range(first, last + 1))
  return Axis(low, high, start, end, ticks)


def number(value: float) -> str:
  """A tick label: short, with a true minus sign and 5e-6, not 5e-06."""
  mantissa, _, exponent = f'{value:.4g}'.partition('e')
  text = f'{mantissa}e{int(exponent)}' if exponent else mantissa
  return text.replace('-', '−') if text != '-0' else '0'


def _round_step(step: float) -> float:
  """The least of 1, 2, 2.5, 5 and 10 times a power of ten from `step` up."""
  power = 10.0 ** math.floor(math.log10(step))
  return next(
      m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * 0.999
  )
