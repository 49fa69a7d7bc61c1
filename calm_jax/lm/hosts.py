"""Several processes as one run: how they meet, wait, and tell each other.

One process per machine drives all of its devices. A process alone is a run of
one: everything here works then too, and loads no jax.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import json
import re
import sys
import threading
import time
from typing import Any

AUTO = 'auto'  # what JAX finds out itself: Slurm, TPU slices, Open MPI

# The machines of a job may be minutes apart: queues, images to be fetched.
_START_SECONDS, _PATIENCE_SECONDS = 600, 30

# At its end JAX waits so long for the others, who may be stuck in a collective
# with a process that failed.
_LEAVE_SECONDS = 30

# Waiting is done by looking, as a wait inside JAX would hold back SIGTERM.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.25

_FOLDER = 'calm_jax/'  # of the keys in the store of JAX's coordinator


class HostsError(RuntimeError):
  """The processes did not find each other, or one of them has stopped."""


class Meetings:
  """The meetings of `count` processes, of which this is number `index`.

  `client` is a key-value store that all of them share.
  """

  def __init__(self, client: Any, *, index: int, count: int):
    self.index, self.count = index, count
    self._client, self._number = client, 0

  def gather(self, name: str, text: str) -> list[str]:
    """What every process brings to this meeting; see `hosts.gather`."""
    if self.count == 1:
      return [text]
    own = self._key(self._number)
    self._client.key_value_set(own, json.dumps([name, text]))
    said = self._wait()
    for index, (other, _) in enumerate(said):
      if other != name:
        raise HostsError(
            f'process {self.index} is at {name!r} but process {index} at'
            f' {other!r}: do all run the same code with the same settings?'
        )
    # All who are here have read what was said at the meeting before.
    if self._number:
      self._client.key_value_delete(self._key(self._number - 1))
    self._number += 1
    return [text for _, text in said]

  def leave(self) -> None:
    """Tells whoever waits for this process that it has stopped."""
    if self.count > 1:
      # Nobody is left to be told where the coordinator is gone.
      with contextlib.suppress(RuntimeError):
        self._client.key_value_set(f'{_FOLDER}gone/{self.index}', '')

  def check(self) -> None:
    """Raises HostsError where another process has stopped."""
    if self.count > 1:
      self._check(dict(self._client.key_value_dir_get(_FOLDER)))

  def _check(self, said: Mapping[str, str]) -> None:
    for index in range(self.count):
      if f'{_FOLDER}gone/{index}' in said:
        raise HostsError(f'process {index} has stopped: its output says why')

  def _wait(self) -> list[tuple[str, str]]:
    """Everyone's name and text, once all have brought theirs."""
    keys = [self._key(self._number, i) for i in range(self.count)]
    pause = _FIRST_PAUSE
    while True:
      said = dict(self._client.key_value_dir_get(_FOLDER))
      if all(key in said for key in keys):
        return [json.loads(said[key]) for key in keys]
      self._check(said)
      time.sleep(pause)
      pause = min(2 * pause, _LONGEST_PAUSE)

  def _key(self, number: int, index: int | None = None) -> str:
    index = self.index if index is None else index
    return f'{_FOLDER}{number}/{index}'


_meetings = Meetings(None, index=0, count=1)


def connect(
    coordinator: str | None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
  """Joins the other processes of the run, before anything asks for a device.

  `coordinator` is HOST:PORT of process 0, and the other two say how many there
  are and which one this is; 'auto' finds all of it; None is a run of one.

  Raises:
    HostsError: the three do not fit together, or 'auto' finds nothing.
  """
  _check(coordinator, num_processes, process_id)
  if coordinator is None or num_processes == 1:
    return
  # Late: it takes seconds, and a process alone does not need it.
  import jax
  from jax._src import distributed  # the store has no public name

  auto = coordinator == AUTO
  try:
    with _impatience(coordinator):
      jax.distributed.initialize(
          coordinator_address=None if auto else coordinator,
          num_processes=num_processes,
          process_id=process_id,
          # Under Slurm JAX would leave each process but one of its GPUs.
          cluster_detection_method=None if auto else 'deactivate',
          initialization_timeout=_START_SECONDS,
          shutdown_timeout_seconds=_LEAVE_SECONDS,
      )
      # All processes exchange what devices they have, when each first asks for
      # them: one that is the only one to need devices would wait for minutes.
      jax.devices()
  except ValueError as e:
    raise HostsError(
        f'--coordinator={coordinator}: {e} JAX found no Slurm step, TPU slice'
        ' or Open MPI run here: use --coordinator=HOST:PORT --num_processes=N'
        ' --process_id=I'
    ) from e
  state = distributed.global_state
  global _meetings
  _meetings = Meetings(
      state.client, index=state.process_id, count=state.num_processes
  )


def process_index() -> int:
  """The number of this process, from 0."""
  return _meetings.index


def process_count() -> int:
  return _meetings.count


def is_leader() -> bool:
  """Whether this is the one process that writes files and prints."""
  return _meetings.index == 0


def gather(name: str, text: str = '') -> list[str]:
  """Every process's text, in their order, once all have come here.

  All processes make the same calls in the same order. There is no time limit;
  where a process died, JAX ends the others after about 100 seconds.

  Raises:
    HostsError: another process has stopped, or is at another call.
  """
  return _meetings.gather(name, text)


def barrier(name: str) -> None:
  """Waits until all processes have come here."""
  gather(name)


def from_leader(name: str, text: str = '') -> str:
  """What the leader passes as `text`, on every process."""
  return gather(name, text)[0]


def anywhere(name: str, flag: bool) -> bool:
  """Whether any process passes True: the same answer on all of them."""
  return any(gather(name, '1' if flag else ''))


def agree(name: str, text: str) -> None:
  """Raises HostsError where the processes do not bring the same text."""
  for index, other in enumerate(gather(name, text)):
    if other != text:
      raise HostsError(
          f'process {process_index()} and process {index} differ in {name}: do'
          ' all see the same --workdir, the same files of the model, and run'
          ' the same version with the same settings?'
      )


def check() -> None:
  """Raises HostsError where another process has stopped; never waits."""
  _meetings.check()


@contextlib.contextmanager
def together() -> Iterator[None]:
  """A process that leaves this by an error or a signal tells the others."""
  try:
    yield
  except BaseException:
    _meetings.leave()
    raise


def _check(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  given = num_processes is not None, process_id is not None
  if coordinator is None or coordinator == AUTO:
    if any(given):
      raise HostsError(
          '--num_processes and --process_id need --coordinator=HOST:PORT, the'
          ' address of process 0'
      )
  elif not re.fullmatch(r'.+:\d+', coordinator):
    raise HostsError(
        f'--coordinator={coordinator} must be HOST:PORT of process 0, or auto'
    )
  elif num_processes is None or process_id is None:
    raise HostsError(
        f'--coordinator={coordinator} needs --num_processes and --process_id'
    )
  elif not 0 <= process_id < num_processes:
    raise HostsError(
        f'--process_id={process_id} must be from 0 to --num_processes - 1 ='
        f' {num_processes - 1}'
    )


@contextlib.contextmanager
def _impatience(coordinator: str) -> Iterator[None]:
  """Says after a while what is being waited for: JAX waits in silence."""

  def say() -> None:
    print(
        'Still waiting for the other processes'
        f' (--coordinator={coordinator}), {_START_SECONDS} s at most. Do all of'
        ' them run, and is the port of process 0 open to them?',
        file=sys.stderr,
        flush=True,
    )

  timer = threading.Timer(_PATIENCE_SECONDS, say)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()
