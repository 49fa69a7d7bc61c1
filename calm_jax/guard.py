"""One run per folder, and an orderly end when a run is stopped."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import fcntl
import os
import pathlib
import signal
import socket
import threading

from calm_jax import console


class Refusal(RuntimeError):
  """The run would overwrite, mix or miss results; nothing was changed."""


@contextlib.contextmanager
def locked(folder: pathlib.Path, setting: str = '--workdir') -> Iterator[None]:
  """Keeps a second run out of the folder; the lock dies with the process.

  `setting` is where the folder was named.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError) as e:
    raise Refusal(
        f'{setting}={folder} cannot be a folder: {e.filename} is a file'
    ) from e
  with (folder / '.lock').open('a+') as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      f.seek(0)
      raise Refusal(
          f'{folder} is in use by process {f.read().strip()}: wait for it to'
          f' end, or use another {setting}'
      ) from None
    f.truncate(0)
    f.write(f'{os.getpid()} on {socket.gethostname()}')
    f.flush()
    yield


class _Stop(BaseException):
  """SIGTERM or Ctrl-C, as an exception that closes files on its way out."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
  """Ends on a signal with one line and the shell's usual exit status."""
  # Elsewhere Python refuses to set handlers, and gets no signals either.
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def stop(number, frame):
    del frame
    # A second signal does not wait for files to be closed.
    signal.signal(number, signal.SIG_DFL)
    raise _Stop(number)

  old = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield
  except _Stop as e:
    (number,) = e.args
    console.say(
        f'Stopped by {signal.Signals(number).name}. What is finished is on'
        ' disk: the same command goes on from there.'
    )
    raise SystemExit(128 + number) from None
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)
