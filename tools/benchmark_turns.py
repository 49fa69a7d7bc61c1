"""Two sides of a benchmark in turns, the other one in its own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from multiprocessing import managers
from typing import Any, NamedTuple

from calm_jax import console
from tools import benchmark_work as work


class Side(NamedTuple):
  """What is asked of a side while it is measured."""

  run: Callable[[], work.Run]
  peak_memory: Callable[[], int]
  details: Mapping[str, Any] = {}


class Processes(managers.BaseManager):
  """A process that holds a side; its methods return proxies."""

  def ours(self, *args: Any, **kwargs: Any) -> Any:
    ...

  def generate(self, *args: Any, **kwargs: Any) -> Any:
    ...

  def dpo(self, *args: Any, **kwargs: Any) -> Any:
    ...


def in_turns(
    sides: Mapping[str, Callable[[], work.Run]], repeats: int
) -> dict[str, list[work.Run]]:
  """The runs of each side: ours, theirs, ours, theirs, ..."""
  runs: dict[str, list[work.Run]] = {name: [] for name in sides}
  for i in range(repeats):
    for name, run in sides.items():
      runs[name].append(run())
      rate = runs[name][-1].rate
      console.say(f'  {i + 1}/{repeats} {name}: {rate:.4g}/s')
  return runs


def _ours(*args, **kwargs):
  # Imported there: not before the environment is what it should be.
  from tools import benchmark_task

  return benchmark_task.sampling(*args, **kwargs)


def _generate(*args, **kwargs):
  # Imported there, not here: torch is optional, and large.
  from tools import benchmark_peers

  return benchmark_peers.Generate(*args, **kwargs)


def _dpo(*args, **kwargs):
  from tools import benchmark_peers

  return benchmark_peers.Dpo(*args, **kwargs)


Processes.register('ours', _ours)
Processes.register('generate', _generate)
Processes.register('dpo', _dpo)
