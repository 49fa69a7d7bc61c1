"""The metrics of a training run: metrics.jsonl and TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
import json
import pathlib

import tensorboardX

from calm_jax import records
from calm_jax.lm import hosts


class Journal:
  """Appends to the journal of a run that goes on after `step`.

  What was written about later steps is forgotten, so that each step has one
  line however often the run was killed. `last` has the newest metrics of each
  split. Of several processes only the leader writes. Use it in a `with`.
  """

  def __init__(self, folder: pathlib.Path, *, step: int):
    self._path = folder / 'metrics.jsonl'
    self.last: dict[str, Mapping[str, float]] = {}
    self._writes = hosts.is_leader()
    if not self._writes:
      return
    self._truncate(step)
    self._file = self._path.open('a', encoding='utf-8', newline='\n')
    self._board = tensorboardX.SummaryWriter(
        str(folder / 'tensorboard'), purge_step=step + 1, flush_secs=5
    )

  def __enter__(self) -> Journal:
    return self

  def __exit__(self, *exc: object) -> None:
    if self._writes:
      self._file.close()
      self._board.close()

  def write(self, step: int, split: str, metrics: Mapping[str, float]) -> None:
    self.last[split] = metrics
    if not self._writes:
      return
    line = {'step': step, 'split': split, **metrics}
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()
    for name, value in metrics.items():
      self._board.add_scalar(f'{split}/{name}', value, step)

  def _truncate(self, step: int) -> None:
    kept = []
    if self._path.exists():
      for text in self._path.read_text(encoding='utf-8').split('\n'):
        line = _parse(text)
        if line is not None and line['step'] <= step:
          kept.append(text + '\n')
          split = line['split']
          self.last[split] = {
              k: v for k, v in line.items() if k not in ('step', 'split')
          }
    records.write_text(self._path, ''.join(kept))


def _parse(text: str) -> dict | None:
  """A line as an object; None where a kill cut it short."""
  try:
    return json.loads(text)
  except ValueError:
    return None
