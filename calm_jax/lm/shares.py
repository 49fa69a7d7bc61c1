"""Files that several processes make together, each file made by one of them.

All of them see the same folder. Which files there are does not depend on how
many processes share them, and those that are there are not made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import pathlib
import time

from calm_jax.lm import hosts

# Network file systems show what another machine wrote after up to a minute.
_PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.5


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
