"""The passages to show beside each question, as the retrieve stage left them.

Light, because every stage that words a prompt reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
import pathlib

from calm_jax import records

Shown = Mapping[tuple[str, str], tuple[records.Passage, ...]]  # id, language


def read(workdir: pathlib.Path, split: str) -> Shown:
  """A split's passages by question and language; none without retrieval."""
  path = workdir / 'retrieve' / f'{split}.jsonl'
  if not path.exists():
    return {}
  rows = records.read_jsonl(path, records.Evidence)
  return {(e.question_id, e.lang): e.passages for e in rows}
