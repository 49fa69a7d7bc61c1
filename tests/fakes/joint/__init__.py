"""Stages for two processes that meet in a folder: no jax, and no time.

`read` and `vote` need no devices, `sample` does. The folder's file fail0 names
a stage that fails in process 0, fail1 in the other; `slow` one that takes long.
"""

import contextlib
import pathlib
import sys
import time

from calm_jax import experiment, ledger, pipeline
from calm_jax.lm import hosts
from configs import tiny

TABLE = (
    ledger.Stage('read', 'r', needs=(), fields=('limit',)),
    ledger.Stage(
        'sample',
        's',
        needs=('read',),
        fields=('seed',),
        on_devices=lambda cfg: cfg.limit > 0,
    ),
    ledger.Stage('vote', 'v', needs=('sample',), fields=()),
)
RUNS = {'pipeline': pipeline.run, 'experiment': experiment.run}
_here = {}


class Store:
  """What of the coordinator's store is used; a file for each key."""

  def __init__(self, folder):
    self.folder = folder

  def key_value_set(self, key, value):
    path = self.folder / key.replace('/', '+')
    path.with_suffix('.new').write_text(value)
    path.with_suffix('.new').rename(path)

  def key_value_delete(self, key):
    (self.folder / key.replace('/', '+')).unlink()

  def key_value_dir_get(self, folder):
    found = []
    for path in self.folder.iterdir():
      if path.suffix != '.new':
        # The other process may delete it meanwhile.
        with contextlib.suppress(FileNotFoundError):
          found.append((path.name.replace('+', '/'), path.read_text()))
    return found


def main(what, folder, index, limit):
  """One of the two processes; what it fails of is its last word."""
  _here['folder'] = folder = pathlib.Path(folder)
  store = Store(folder / 'store')
  hosts._meetings = hosts.Meetings(store, index=index, count=2)
  cfg = tiny.get_config()
  cfg.model, cfg.limit = str(folder / 'model'), limit
  if what == 'experiment':
    cfg.systems.update({'a': {}, 'b': {'seed': 9}, 'c': {}})
  try:
    RUNS[what](cfg, folder / 'run', table=TABLE, package='joint')
  except Exception as e:
    sys.exit(f'{type(e).__name__}: {e}')


def begin(workdir, name, *, together=False):
  """What every stage does first: it says that it runs."""
  folder, index = _here['folder'], hosts.process_index()
  stage = f'{workdir.name}/{name}'
  with (folder / f'log{index}').open('a') as f:
    f.write(stage + '\n')
  if together:
    # Neither fails before both are here.
    hosts.barrier('in sample')
  if stage == _text(folder / f'fail{index}'):
    raise OSError('the disk is full')
  time.sleep(20 * (stage == _text(folder / 'slow')))


def _text(path):
  return path.read_text() if path.exists() else ''
