"""Files that several processes make together, each file made by one of them.

All of them see the same folder. Which files there are does not depend on how
many processes share them, and those that are there are not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import json
import pathlib
import time

from calm_jax import console
from calm_jax.lm import hosts

# Hears how many answers ended and how many tokens were drawn.
OnDone = Callable[[int, int], None]

# Network file systems show what another machine wrote after up to a minute.
_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.5


def make_all(
    title: str,
    paths: Sequence[pathlib.Path],
    sizes: Sequence[int],
    make: Callable[[int, OnDone], None],
) -> dict[str, float]:
  """Makes the files that are not there, with progress in answers.

  `sizes` counts the answers of each file, `make` writes that of a number.
  """
  todo = missing(title, paths)
  mine = own(todo)
  _tell(len(todo))
  before = sum(size for n, size in enumerate(sizes) if n not in todo)
  with console.progress(title, before + sum(sizes[n] for n in mine)) as bar:
    bar.advance(before)
    meter = _Meter(bar)
    for number in mine:
      hosts.check()
      make(number, meter.on_done)
  if hosts.process_count() > 1:
    console.say('  waits for the other processes')
  counts = {'tokens_drawn_now': meter.tokens}
  drawn = finish(f'end of {title}', paths, counts)['tokens_drawn_now']
  return {
      'processes': hosts.process_count(),
      'tokens_drawn_now': drawn,
      'tokens_per_second': round(meter.speed(drawn), 1),
  }


class _Meter:
  """Tells a progress bar how fast tokens are drawn."""

  def __init__(self, bar: console.Progress):
    self._bar, self._start = bar, time.monotonic()
    self.tokens = 0

  def on_done(self, answered: int, drawn: int) -> None:
    self.tokens += drawn
    self._bar.advance(answered, f'{self.speed(self.tokens):.0f} tokens/s')

  def speed(self, tokens: int) -> float:
    return tokens / (time.monotonic() - self._start)


def missing(name: str, paths: Sequence[pathlib.Path]) -> list[int]:
  """The numbers of the files that are not there, as the leader sees it."""
  text = ''
  if hosts.is_leader():
    text = json.dumps([n for n, path in enumerate(paths) if not path.exists()])
  return json.loads(hosts.from_leader(name, text))


def own(numbers: Sequence[int]) -> Sequence[int]:
  """The part of some numbers that this process deals with: every n-th."""
  return numbers[hosts.process_index() :: hosts.process_count()]


def finish(
    name: str,
    paths: Sequence[pathlib.Path],
    counts: Mapping[str, int],
    *,
    patience: float = _PATIENCE_SECONDS,
) -> dict[str, int]:
  """Waits for all processes; everyone's counts, summed.

  Then the leader sees all files.

  Raises:
    HostsError: it does not, or another process has stopped.
  """
  told = [json.loads(text) for text in hosts.gather(name, json.dumps(counts))]
  if hosts.is_leader():
    _wait_for(paths, patience)
  return {key: sum(each[key] for each in told) for key in counts}


def _tell(files: int) -> None:
  count = hosts.process_count()
  if count > 1:
    idle = max(0, count - files)
    hint = f'; {idle} idle: a smaller config.sample.shard makes more'
    console.say(f'  {files} shards for {count} processes{hint * (idle > 0)}')


def _wait_for(paths: Sequence[pathlib.Path], patience: float) -> None:
  end = time.monotonic() + patience
  while lost := [path for path in paths if not path.exists()]:
    if time.monotonic() > end:
      raise hosts.HostsError(
          f'{lost[0]} was written by another process but is not seen here'
          f' ({len(lost)} such files): --workdir must be a folder that all'
          ' processes share'
      )
    time.sleep(_PAUSE_SECONDS)
