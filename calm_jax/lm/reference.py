"""Log-probabilities of the model before training, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
import pathlib

import numpy as np

from calm_jax import records
from calm_jax.lm import batches

# Batches per file: what a killed run has to compute again.
_SHARD = 16


@dataclasses.dataclass(frozen=True)
class Reference:
  """The summed log-probabilities of the two completions of row `index`."""

  index: int
  chosen: float
  rejected: float


def key(
    rows: Sequence[batches.Row], *, identity: str, dtype: str, batch: int
) -> str:
  """A name for the log-probabilities of these rows under this base model.

  The rows' token ids stand for the data, the tokenizer and the template. The
  batch size counts because bfloat16 sums depend on it.
  """
  digest = hashlib.sha256(f'{identity}|{dtype}|{batch}'.encode())
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
    batch: int,
    advance: Callable[[int], None],
) -> np.ndarray:
  """The reference [N, 2] of all rows; `score` gives that of one batch.

  Finished shards in `folder` are read, not computed again. `advance` is told
  how many rows were dealt with.
  """
  ref_N2 = np.zeros((len(rows), 2), np.float32)
  if not rows:
    return ref_N2
  plan = batches.by_length(rows, batch)
  choices = batches.shapes([batches.need(rows, b) for b in plan], limit=4)
  for start in range(0, len(plan), _SHARD):
    path = folder / f'{start // _SHARD:05d}.jsonl'
    shard = plan[start : start + _SHARD]
    if not path.exists():
      found = []
      for index_B in shard:
        found += _score(score, rows, index_B, choices)
      records.write_jsonl(path, found)
    count = 0
    for item in records.read_jsonl(path, Reference):
      ref_N2[item.index] = item.chosen, item.rejected
      count += 1
    advance(count)
  return ref_N2


def _score(score, rows, index_B: np.ndarray, choices) -> list[Reference]:
  shape = batches.pick(choices, batches.need(rows, index_B))
  logp_B2 = np.asarray(score(batches.build(rows, index_B, shape)))
  return [
      Reference(int(i), float(chosen), float(rejected))
      for i, (chosen, rejected) in zip(index_B, logp_B2, strict=True)
      if i >= 0
  ]
