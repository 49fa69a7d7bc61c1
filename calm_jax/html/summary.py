"""The scores of a run side by side, for the console."""

from __future__ import annotations

from collections.abc import Iterable

import rich.table

from calm_jax import records
from calm_jax.html import page, scores


def table(rows: Iterable[records.Score]) -> rich.table.Table:
  """A row a system: its tiles, and how it differs from the first."""
  table = rich.table.Table(title='Scores, %', title_justify='left')
  table.add_column('system')
  for label, _ in scores.TILES:
    table.add_column(label, justify='right')
  table.add_column('change of accuracy (95 % interval)', justify='right')
  arranged = scores.arrange(rows, ())
  for part in arranged:
    tiles = {row.label: row for row in part.tiles()}
    setting = f', {part.setting}' if len(arranged) > 1 else ''
    for i, system in enumerate(part.systems):
      cells = [
          tiles[label].cells[i] if label in tiles else None
          for label, _ in scores.TILES
      ]
      told = [page.percent(c.value if c else None) for c in cells]
      change = _change(tiles.get(scores.ACCURACY[0]), i)
      table.add_row(system + setting, *told, change)
  return table


def _change(row: scores.Row | None, system: int) -> str:
  cell = row.differences[system - 1] if row and system else None
  if cell is None:
    return ''
  told = page.points(cell.value)
  if cell.low is None or cell.high is None:
    return told
  return f'{told} ({page.points(cell.low)} to {page.points(cell.high)})'
