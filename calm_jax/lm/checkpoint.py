"""Checkpoints of a training run: the only module that knows Orbax.

Orbax commits a step atomically but does not check what it reads back, so each
step carries a digest of its content. A step that does not match is deleted and
the one before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from calm_jax import console
from calm_jax.lm import hosts, sharding


class Checkpoints:
  """The newest `keep` steps of a run and the best one; use it in a `with`.

  Several processes make the same calls: each saves and restores its part.
  `fingerprint` says what a state was trained on; a folder with another one is
  refused.
  """

  def __init__(self, folder: pathlib.Path, *, keep: int, fingerprint: str):
    self._folder, self._keep, self._print = folder, keep, fingerprint
    # Saving in the background would lose the last step of a killed process,
    # and an adapter takes a fraction of a second.
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
    self._steps: set[int] = set()
    # Of every validation of the run, those of deleted steps included.
    self._scores: dict[int, float] = {}
    for step in sorted(self._manager.all_steps()):
      if meta := self._read_meta(step):
        self._steps.add(step)
        self._scores = {int(s): score for s, score in meta['scores']}

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, *exc: object) -> None:
    self._manager.close()

  def save(self, step: int, state: Any, *, score: float | None) -> None:
    """Commits a step, then deletes those that are neither new nor best.

    The lower `score`, the better; None is a step that was not validated.
    """
    scores = self._scores | ({} if score is None else {step: score})
    flat = _flatten(state)
    meta = {
        'digest': _digest(flat),
        'fingerprint': self._print,
        'shapes': _describe(flat),
        'scores': sorted(scores.items()),
    }
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(flat),
        meta=ocp.args.JsonSave({'meta': meta, 'seal': _seal(meta)}),
    )
    # Orbax leaves a step out without a word when a later one exists.
    if not self._manager.save(step, args=items):
      steps = self._manager.all_steps()
      raise ValueError(
          f'{self._folder}: step {step} was not saved, there are {steps}'
      )
    self._steps.add(step)
    self._scores = scores
    kept = {*sorted(self._steps)[-self._keep :], self.best}
    for old in self._steps - kept:
      self._delete(old)

  def restore(self, like: Any) -> Any | None:
    """The newest intact state, laid out as `like`; None where there is none.

    Raises:
      ValueError: the checkpoints belong to another model, adapter or data.
    """
    for step in sorted(self._manager.all_steps(), reverse=True):
      state = self._load(step, like)
      # What one of several processes cannot read, none may go on from.
      if not hosts.anywhere(f'damaged {step}', state is None):
        return state
      console.say(f'  warning: {self._folder}/{step} is damaged; deleted')
      self._delete(step)
      self._scores.pop(step, None)  # a run goes on before it
    return None

  def restore_best(self, like: Any) -> Any | None:
    """The state with the best score; None where nothing was validated."""
    return None if self.best is None else self._load(self.best, like)

  @property
  def best(self) -> int | None:
    measured = self._steps & self._scores.keys()
    return min(measured, key=lambda s: (self._scores[s], s), default=None)

  @property
  def waited(self) -> int:
    """How many validations there were since the best one."""
    return sum(s > (self.best or 0) for s in self._scores)

  def _delete(self, step: int) -> None:
    self._manager.delete(step)
    self._steps.discard(step)

  def _read_meta(self, step: int) -> dict[str, Any] | None:
    """What was noted about a step, or None where the note is damaged."""
    try:
      args = ocp.args.Composite(meta=ocp.args.JsonRestore())
      sealed = self._manager.restore(step, args=args)['meta']
      meta = sealed['meta']
      return meta if sealed['seal'] == _seal(meta) else None
    except (OSError, ValueError, LookupError, TypeError):
      return None

  def _load(self, step: int, like: Any) -> Any | None:
    """A step's state, or None where its files are damaged."""
    meta = self._read_meta(step)
    if meta is None:
      return None
    flat = _flatten(like)
    self._check(step, meta, flat)
    abstract = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        for name, x in flat.items()
    }
    try:
      args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
      restored = self._manager.restore(step, args=args)['state']
    # Whatever tensorstore and Orbax make of damaged bytes.
    except Exception as e:
      console.say(f'  {type(e).__name__}: {str(e).splitlines()[0]}')
      return None
    if _digest(restored) != meta['digest']:
      return None
    leaves = [restored[name] for name in flat]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)

  def _check(self, step: int, meta, flat: Mapping[str, Any]) -> None:
    place = f'{self._folder}/{step}'
    if meta['fingerprint'] != self._print:
      raise ValueError(
          f'{place} was trained on other data or by another base model; delete'
          f' {self._folder} to start again'
      )
    shapes = _describe(flat)
    differ = sorted(
        name
        for name in shapes.keys() | meta['shapes'].keys()
        if shapes.get(name) != meta['shapes'].get(name)
    )
    if differ:
      name = differ[0]
      raise ValueError(
          f'{place}: {name} is {meta["shapes"].get(name)}, this run needs'
          f' {shapes.get(name)} ({len(differ)} differ); delete {self._folder}'
          ' to start again'
      )


def _flatten(tree: Any) -> dict[str, Any]:
  """Leaves by name: Orbax turns integer keys to text and tuples to lists."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='.')
  return {name(path): leaf for path, leaf in leaves}


def _describe(flat: Mapping[str, Any]) -> dict[str, str]:
  return {name: f'{x.dtype}{list(x.shape)}' for name, x in flat.items()}


def _seal(meta: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _digest(flat: Mapping[str, Any]) -> str:
  digest = hashlib.sha256()
  for name in sorted(flat):
    array = sharding.fetch(flat[name])
    digest.update(f'{name} {array.dtype}{list(array.shape)}\n'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()
