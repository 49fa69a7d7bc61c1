"""What a person sees while a stage runs: progress bars and plain lines."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import time
from typing import Protocol

import rich.console
import rich.progress

console = rich.console.Console(highlight=False, soft_wrap=True)

# A log file has no cursor to move: there a line now and then must do.
_SECONDS_BETWEEN_LINES = 15.0


class Progress(Protocol):

  def advance(self, count: int = 1, note: str = '') -> None:
    """Counts finished items; `note` is shown at the end of the line."""
    ...


class _Bar:

  def __init__(self, bar: rich.progress.Progress, task: rich.progress.TaskID):
    self._bar, self._task = bar, task

  def advance(self, count: int = 1, note: str = '') -> None:
    self._bar.update(self._task, advance=count, note=note)


class _Lines:

  def __init__(self, title: str, total: int):
    self._title, self._total, self._done = title, total, 0
    self._start = self._last = time.monotonic()

  def advance(self, count: int = 1, note: str = '') -> None:
    self._done += count
    now = time.monotonic()
    if self._done >= self._total or now - self._last > _SECONDS_BETWEEN_LINES:
      self._last = now
      seconds = f'{now - self._start:.0f} s'
      line = f'  {self._title} {self._done}/{self._total} {seconds} {note}'
      console.print(line.rstrip())


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Progress]:
  """A progress bar on a terminal, a line every few seconds elsewhere."""
  if not console.is_terminal:
    yield _Lines(title, total)
    return
  columns = (
      rich.progress.TextColumn('  {task.description}'),
      rich.progress.BarColumn(),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeElapsedColumn(),
      rich.progress.TimeRemainingColumn(),
      rich.progress.TextColumn('{task.fields[note]}'),
  )
  with rich.progress.Progress(*columns, console=console) as bar:
    yield _Bar(bar, bar.add_task(title, total=total, note=''))


def say(text: str) -> None:
  console.print(text, markup=False)
