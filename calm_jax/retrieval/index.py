"""A corpus in LanceDB, an embedded database: vectors and full text on disk.

Built in batches that are committed one by one, so that a build that is killed
goes on where it was; DONE.json is written last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent import futures
import dataclasses
import datetime
import hashlib
import json
import math
import pathlib
from typing import Any

import msgspec
import numpy as np

from calm_jax import console, guard, records
from calm_jax.retrieval import encoders

MODES = ('vector', 'text', 'hybrid')

DONE = 'DONE.json'
PENDING = 'PENDING.json'
_TABLE = 'passages'

# Passages embedded and committed at once: what a kill costs at most.
_COMMIT = 512
# Queries of one vector search: the table is read once for all of them.
_QUERIES = 64
# Up to here vectors need no index.
_UNINDEXED = 20_000
# A query is compared with all vectors of a corpus up to the first size; of a
# larger one, with those of the nearest parts: as many, and at least this part.
_COMPARED = 200_000
_PROBED = 0.2

# Reciprocal rank fusion (Cormack et al. 2009) and how far down it looks.
_FUSION_RANK = 60
_FUSION_DEPTH = 50

Ranking = list[records.Passage]  # best first


@dataclasses.dataclass(frozen=True)
class Index:
  """A corpus that can be searched; `table` is LanceDB's."""

  table: Any
  size: int

  def search(
      self,
      texts: Sequence[str],
      vectors: np.ndarray | None,
      *,
      count: int,
      mode: str = 'vector',
  ) -> list[Ranking]:
    """The best passages for each query.

    Scores are cosines (vector), BM25 (text), or sums of 1 / (60 + rank) over
    both (hybrid).
    """
    if mode not in MODES:
      raise ValueError(f'search mode {mode!r} is not one of {MODES}')
    if mode == 'text':
      return self._by_words(texts, count)
    if vectors is None:
      raise ValueError(f'a {mode} search needs the vectors of its queries')
    if mode == 'vector':
      return self._by_vector(vectors, count)
    depth = max(count, _FUSION_DEPTH)
    near = self._by_vector(vectors, depth)
    worded = self._by_words(texts, depth)
    return [
        fuse(rankings, count=count)
        for rankings in zip(near, worded, strict=True)
    ]

  def _by_vector(self, vectors: np.ndarray, count: int) -> list[Ranking]:
    found: list[Ranking] = [[] for _ in vectors]
    for start in range(0, len(vectors), _QUERIES):
      part = np.asarray(vectors[start : start + _QUERIES])
      query = self.table.search(part, vector_column_name='vector')
      query = query.distance_type('cosine').limit(count)
      if self.size > _UNINDEXED:
        query = query.nprobes(probes(self.size))
      for row in query.select([*_SHOWN, '_distance']).to_list():
        # One query has no index among its batch.
        number = start + row.get('query_index', 0)
        found[number].append(_passage(row, 1 - row['_distance']))
    return [_ranked(ranking) for ranking in found]

  def _by_words(self, texts: Sequence[str], count: int) -> list[Ranking]:
    def search(text: str) -> Ranking:
      query = self.table.search(text, query_type='fts', fts_columns='text')
      rows = query.limit(count).select([*_SHOWN, '_score']).to_list()
      return _ranked([_passage(row, row['_score']) for row in rows])

    # One at a time would leave all cores but one idle.
    with futures.ThreadPoolExecutor() as threads:
      return list(threads.map(search, texts))


def build(
    folder: pathlib.Path,
    passages: Sequence[records.Passage],
    encoder: encoders.Encoder | None,
) -> Index:
  """The index of these passages: opened, built, or built further.

  Without an encoder it can be searched by text only.

  Raises:
    ValueError: the folder holds the index of other passages or vectors.
    guard.Refusal: another run builds it.
  """
  identity = _identity(passages, encoder)
  _claim(folder, identity)
  if not (folder / DONE).is_file():
    # Runs may share an index, but one alone builds it.
    with guard.locked(folder, 'retrieve.index'):
      _fill(folder, passages, encoder, identity)
  return _open(folder)


def _fill(
    folder: pathlib.Path,
    passages: Sequence[records.Passage],
    encoder: encoders.Encoder | None,
    identity: str,
) -> None:
  """Builds it, from where a killed build left it."""
  table = _table(folder, passages[0], encoder)
  have = table.count_rows()
  with console.progress('embed passages', len(passages)) as bar:
    bar.advance(have)
    for start in range(have, len(passages), _COMMIT):
      part = passages[start : start + _COMMIT]
      table.add(_rows(table.schema, part, encoder))
      bar.advance(len(part))
  _finish(table, indexed=encoder is not None and len(passages) > _UNINDEXED)
  done = {'identity': identity, 'passages': len(passages)}
  records.write_text(folder / DONE, json.dumps(done) + '\n')
  (folder / PENDING).unlink(missing_ok=True)


def fuse(rankings: Iterable[Ranking], *, count: int) -> Ranking:
  """Rankings of different measures as one, by rank alone."""
  scores: dict[str, float] = {}
  passages: dict[str, records.Passage] = {}
  for ranking in rankings:
    for rank, passage in enumerate(ranking, 1):
      passages[passage.id] = passage
      scores[passage.id] = scores.get(passage.id, 0) + 1 / (_FUSION_RANK + rank)
  fused = [
      msgspec.structs.replace(p, score=scores[i]) for i, p in passages.items()
  ]
  return _ranked(fused)[:count]


_SHOWN = ['id', 'source', 'text']


def _passage(row: dict[str, Any], score: float) -> records.Passage:
  return records.Passage(row['id'], row['source'], row['text'], float(score))


def _ranked(found: Ranking) -> Ranking:
  # By id where scores are equal, so that no two runs differ.
  return sorted(found, key=lambda p: (-p.score, p.id))


def _identity(
    passages: Sequence[records.Passage], encoder: encoders.Encoder | None
) -> str:
  total = hashlib.sha256((encoder.identity if encoder else '').encode())
  for p in passages:
    total.update(json.dumps([p.id, p.text]).encode())
  return total.hexdigest()


def _claim(folder: pathlib.Path, identity: str) -> None:
  """Says what the folder is for; refuses one that is for something else."""
  for name in (DONE, PENDING):
    path = folder / name
    if path.is_file():
      if json.loads(path.read_text('utf-8')).get('identity') != identity:
        raise ValueError(
            f'{folder} is the index of another corpus or encoder: name another'
            ' folder in retrieve.index, or delete this one'
        )
      return
  text = json.dumps({'identity': identity})
  records.write_text(folder / PENDING, text + '\n')


def _connect(folder: pathlib.Path):
  lancedb = encoders.package('lancedb', install="'calm_jax[retrieval]'")
  return lancedb.connect(folder / 'lancedb')


def _open(folder: pathlib.Path) -> Index:
  table = _connect(folder).open_table(_TABLE)
  return Index(table, table.count_rows())


def _table(
    folder: pathlib.Path,
    first: records.Passage,
    encoder: encoders.Encoder | None,
):
  """The table, empty or as a killed build left it."""
  import pyarrow as pa

  columns = [(name, pa.string()) for name in _SHOWN]
  if encoder is not None:
    size = encoder.passages([first.text]).shape[1]
    columns.append(('vector', pa.list_(pa.float32(), size)))
  schema = pa.schema(columns)
  return _connect(folder).create_table(_TABLE, schema=schema, exist_ok=True)


def _rows(
    schema,
    passages: Sequence[records.Passage],
    encoder: encoders.Encoder | None,
):
  import pyarrow as pa

  columns = [pa.array([getattr(p, name) for p in passages]) for name in _SHOWN]
  if encoder is not None:
    vectors = encoder.passages([p.text for p in passages])
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    columns.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
  return pa.table(columns, schema=schema)


def _finish(table, *, indexed: bool) -> None:
  """Compacts the table and indexes its words, and its vectors if many."""
  from lancedb import index as kinds

  # Nobody else reads the versions before this one.
  table.optimize(cleanup_older_than=datetime.timedelta(milliseconds=1))
  # Words by Unicode's rules: Chinese has no spaces. No stemming, because
  # queries come in every language.
  words = kinds.FTS(base_tokenizer='icu', stem=False, remove_stop_words=False)
  table.create_index('text', config=words, replace=True)
  if indexed:
    parts = _parts(table.count_rows())
    config = kinds.IvfFlat(distance_type='cosine', num_partitions=parts)
    table.create_index('vector', config=config, replace=True)


def probes(size: int) -> int:
  """How many parts of an index over `size` vectors a query is compared with."""
  compared = min(1.0, max(_PROBED, _COMPARED / size))
  return max(1, math.ceil(compared * _parts(size)))


def _parts(size: int) -> int:
  """How many parts an index has: as many as each part has vectors."""
  return max(1, round(size**0.5))
