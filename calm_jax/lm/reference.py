"""Log-probabilities of the model before training, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import hashlib
import pathlib

import numpy as np

from calm_jax import records
from calm_jax.lm import batches, hosts, shares

# Batches per file: what a killed run has to compute again.
_SHARD = 64


class Reference(records.Record, frozen=True):
  """The summed log-probabilities of the two completions of row `index`."""

  index: int
  chosen: float
  rejected: float


def key(
    rows: Sequence[batches.Row],
    *,
    identity: str,
    dtype: str,
    layout: Sequence[batches.Part],
) -> str:
  """A name for the log-probabilities of these rows under this base model.

  The rows' token ids stand for the data, the tokenizer and the template. The
  layout counts because bfloat16 sums depend on it.
  """
  digest = hashlib.sha256(f'{identity}|{dtype}'.encode())
  for index_BP, shape in layout:
    digest.update(np.array([len(index_BP), *shape], np.int64).tobytes())
    digest.update(np.asarray(index_BP, np.int64).tobytes())
  for row in rows:
    for part in (row.prompt, *row.completions):
      digest.update(len(part).to_bytes(4, 'little'))
      digest.update(np.asarray(part, np.int32).tobytes())
  return digest.hexdigest()[:16]


def logprobs(
    score: Callable[[batches.Batch], np.ndarray],
    rows: Sequence[batches.Row],
    folder: pathlib.Path,
    *,
    layout: Sequence[batches.Part],
    advance: Callable[[int], None],
) -> np.ndarray:
  """The reference [N, 2] of all rows; `score` gives that of one batch,
  [B * P, 2].

  `layout` has each row once: the batches, with their shapes, in which a policy
  that equals the reference must score the same (`layouts.train`).

  Finished shards in `folder` are read, not computed again. `advance` is told
  how many rows were dealt with. Several processes compute every shard together,
  and the leader writes it.
  """
  ref_N2 = np.zeros((len(rows), 2), np.float32)
  if not rows:
    return ref_N2
  starts = range(0, len(layout), _SHARD)
  paths = [folder / f'{number:05d}.jsonl' for number in range(len(starts))]
  todo = shares.missing(f'reference {folder.name}', paths)
  for number, start in enumerate(starts):
    if number in todo:
      found = []
      for part in layout[start : start + _SHARD]:
        found += _score(score, rows, part)
      if hosts.is_leader():
        records.write_jsonl(paths[number], found)
    else:
      found = list(records.read_jsonl(paths[number], Reference))
    for item in found:
      ref_N2[item.index] = item.chosen, item.rejected
    advance(len(found))
  return ref_N2


def _score(score, rows, part: batches.Part) -> list[Reference]:
  logp_B2 = np.asarray(score(batches.build(rows, *part)))
  return [
      Reference(int(i), float(chosen), float(rejected))
      for i, (chosen, rejected) in zip(part.index_BP.flat, logp_B2, strict=True)
      if i >= 0
  ]
