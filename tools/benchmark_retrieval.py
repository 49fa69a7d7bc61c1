"""Shows how long the index takes to search: by vector, by text, by both.

python -m tools.benchmark_retrieval --json=retrieval.json

Random unit vectors stand in for the encoder, and passages of made-up words
(as frequent as words are, by Zipf's law) for the corpus.
"""

from __future__ import annotations

from collections.abc import Sequence
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import sys
import tempfile
import time
from typing import Any

from absl import app, flags
import numpy as np

from calm_jax import console, records
from calm_jax.retrieval import encoders, index

_DIM, _COUNT, _SEED = 512, 10, 0
_VOCABULARY, _PASSAGE_WORDS, _QUERY_WORDS = 50_000, 40, 20
# Queries whose neighbours are compared with the true ones.
_RECALLED = 100
# Of the noise added to a passage's vector: the cosine to it is then 0.7.
_NOISE = 1.0


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-flags.FLAGS.cores :])
  result = {
      'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
      'command': shlex.join(
          ['python', '-m', 'tools.benchmark_retrieval', *sys.argv[1:]]
      ),
      'python': platform.python_version(),
      'lancedb': importlib.metadata.version('lancedb'),
      'platform': platform.platform(),
      'cores': len(os.sched_getaffinity(0)),
      'load_before': os.getloadavg()[0],
  }
  with tempfile.TemporaryDirectory() as folder:
    result |= measure(
        pathlib.Path(folder), flags.FLAGS.passages, flags.FLAGS.queries
    )
  result['load_after'] = os.getloadavg()[0]
  text = json.dumps(result, indent=2) + '\n'
  console.say(text)
  if flags.FLAGS.json:
    records.write_text(pathlib.Path(flags.FLAGS.json), text)


def measure(folder: pathlib.Path, size: int, queries: int) -> dict[str, Any]:
  """Seconds to build an index of `size` passages, and of every search."""
  rng = np.random.default_rng(_SEED)
  vectors = unit(rng, size)
  passages = [
      records.Passage(f'en/made-up@{i}', 'en/made-up', text)
      for i, text in enumerate(texts(rng, size, _PASSAGE_WORDS))
  ]
  rows = {p.text: i for i, p in enumerate(passages)}
  encoder = encoders.Encoder(
      lambda asked: vectors[[rows[text] for text in asked]], 'random'
  )
  start = _now()
  built = index.build(folder, passages, encoder)
  found: dict[str, Any] = {
      'passages': size,
      'queries': queries,
      'count': _COUNT,
      'dim': _DIM,
      'build': _since(start),
  }
  asked = texts(rng, queries, _QUERY_WORDS)
  wanted = unit(rng, queries)
  found['search'] = {
      mode: _cost(built, asked, wanted, mode) for mode in index.MODES
  }
  some = unit(rng, min(_RECALLED, queries))
  near = vectors[rng.integers(size, size=len(some))] + _NOISE * some
  near /= np.linalg.norm(near, axis=1, keepdims=True)
  return found | {
      'recall_random': recall(built, some, vectors),
      'recall_near_a_passage': recall(built, near, vectors),
      'nearest_found': recall(built, near, vectors, count=1),
  }


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
  """Vectors of length 1 in random directions."""
  rows = rng.standard_normal((count, _DIM), dtype=np.float32)
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def texts(rng: np.random.Generator, count: int, words: int) -> list[str]:
  """Texts of made-up words; the n-th comes 1 / n as often as the first."""
  part = 1 / np.arange(1, _VOCABULARY + 1)
  drawn = rng.choice(_VOCABULARY, size=(count, words), p=part / part.sum())
  names = np.array([f'w{i:x}' for i in range(_VOCABULARY)])
  return [' '.join(row) for row in names[drawn]]


def recall(
    built: index.Index,
    queries: np.ndarray,
    vectors: np.ndarray,
    *,
    count: int = _COUNT,
) -> float:
  """Part of the true nearest passages that the index finds."""
  found = built.search([''] * len(queries), queries, count=count, mode='vector')
  nearest = np.argsort(-queries @ vectors.T, axis=1)[:, :count]
  hits = sum(
      f'en/made-up@{i}' in {p.id for p in ranking}
      for ranking, row in zip(found, nearest, strict=True)
      for i in row
  )
  return hits / nearest.size


def _cost(
    built: index.Index, asked: Sequence[str], vectors: np.ndarray, mode: str
) -> dict[str, float]:
  start = _now()
  found = built.search(asked, vectors, count=_COUNT, mode=mode)
  spent = _since(start)
  if not all(found):
    raise ValueError(f'a {mode} search found nothing for one of its queries')
  return spent


def _now() -> tuple[float, float]:
  return time.monotonic(), time.process_time()


def _since(start: tuple[float, float]) -> dict[str, float]:
  """Seconds, and those of all threads on a core: without other jobs' time."""
  now = _now()
  return {'seconds': now[0] - start[0], 'cpu_seconds': now[1] - start[1]}


if __name__ == '__main__':
  # Not above: other benchmarks have a --json of their own.
  flags.DEFINE_integer('passages', 200_000, 'Size of the corpus.', 1)
  flags.DEFINE_integer('queries', 1000, 'Number of searches.', 1)
  flags.DEFINE_integer('cores', 2, 'Cores to use.', 1)
  flags.DEFINE_string('json', None, 'File to write.')
  app.run(main)
