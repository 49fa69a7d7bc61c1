"""The passages to show beside each question, as the retrieve stage left them.

Light, because every stage that words a prompt reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
import pathlib

from calm_jax import records
from calm_jax.retrieval import selfrag

Shown = Mapping[tuple[str, str], tuple[records.Passage, ...]]  # id, language
# By question, language and number of the sample: what it went on from.
Openings = Mapping[tuple[str, str, int], tuple[str, ...]]

REFLECTIONS = 'reflections'  # a folder beside what was answered by Self-RAG


def read(workdir: pathlib.Path, split: str) -> Shown:
  """A split's passages by question and language; none without retrieval."""
  path = workdir / 'retrieve' / f'{split}.jsonl'
  if not path.exists():
    return {}
  rows = records.read_jsonl(path, records.Evidence)
  return {(e.question_id, e.lang): e.passages for e in rows}


def openings(workdir: pathlib.Path) -> Openings:
  """What each sample went on from; nothing where none is by Self-RAG."""
  folder = workdir / 'sample' / REFLECTIONS
  if not folder.is_dir():
    return {}
  shown = {
      (*where, passage.id): passage
      for where, passages in read(workdir, 'train').items()
      for passage in passages
  }
  found = {}
  for path in sorted(folder.glob('*.jsonl')):
    for r in records.read_jsonl(path, records.Reflection):
      if r.elected:
        passage = shown[r.question_id, r.lang, r.passage] if r.passage else None
        found[r.question_id, r.lang, r.index] = selfrag.opening(passage)
  return found
