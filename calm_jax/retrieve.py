"""Stage 3: passages that may help with each question, in each language.

Questions in any language search one corpus. Without retrieval the stage is
passed over, and no later one sees a passage.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from calm_jax import console, records
from calm_jax.datasets import textbooks
from calm_jax.retrieval import noise

if TYPE_CHECKING:  # arrays and a database: only a run that retrieves has both
  from calm_jax.retrieval import encoders, index

# Questions of one search and one file: what a kill costs at most.
_CHUNK = 512
_SPLITS = ('train', 'test')


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What to look for (fields as in configs/base.py)."""

  top_k: int
  mode: str
  query: str
  noise: int
  noise_kind: str
  seed: int


@dataclasses.dataclass(frozen=True)
class Library:
  """A corpus, its index, and what turns queries into its vectors."""

  corpus: Sequence[records.Passage]
  index: index.Index
  encoder: encoders.Encoder | None

  def search(
      self, queries: Sequence[str], *, count: int, mode: str
  ) -> list[list[records.Passage]]:
    vectors = self.encoder.queries(queries) if self.encoder else None
    return self.index.search(queries, vectors, count=count, mode=mode)


def query(question: records.Question, form: str) -> str:
  """What is searched for: the stem, or the stem and its options."""
  if form == 'stem':
    return question.stem
  return ' '.join([question.stem, *(o.text for o in question.options)])


def collect(
    questions: Sequence[records.Question], library: Library, wanted: Wanted
) -> list[records.Evidence]:
  """The evidence of each question: the best passages, and noise among them."""
  found: list[list[records.Passage]] = [[] for _ in questions]
  if wanted.top_k:
    queries = [query(q, wanted.query) for q in questions]
    found = library.search(queries, count=wanted.top_k, mode=wanted.mode)
  extra = _noise(questions, found, library, wanted)
  return [
      records.Evidence(q.id, q.lang, noise.mix(f, n, q.id, seed=wanted.seed))
      for q, f, n in zip(questions, found, extra, strict=True)
  ]


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, int]:
  """Writes retrieve/train.jsonl and test.jsonl."""
  folder = workdir / 'retrieve'
  library, counts = _library(cfg, folder)
  wanted = Wanted(
      top_k=cfg.retrieve.top_k,
      mode=cfg.retrieve.mode,
      query=cfg.retrieve.query,
      noise=cfg.retrieve.noise,
      noise_kind=cfg.retrieve.noise_kind,
      seed=cfg.seed,
  )
  for split in _SPLITS:
    path = workdir / 'translate' / f'{split}.jsonl'
    questions = list(records.read_jsonl(path, records.Question))
    rows = _in_parts(folder, split, questions, library, wanted)
    records.write_jsonl(folder / f'{split}.jsonl', rows)
    counts[f'{split}_questions'] = len(rows)
    # A search by text knows no passage that shares no word with its query.
    counts[f'{split}_without_passage'] = sum(not e.passages for e in rows)
  return counts


def _library(
    cfg: ConfigDict, folder: pathlib.Path
) -> tuple[Library, dict[str, int]]:
  """The corpus and its index, built where it is not there yet."""
  from calm_jax.retrieval import encoders, index

  corpus, counts = textbooks.passages(
      pathlib.Path(cfg.retrieve.corpus or textbooks.BUNDLED),
      cfg.retrieve.format,
  )
  console.say(f'  {len(corpus)} passages from {counts["sources"]} sources')
  encoder = None
  if cfg.retrieve.mode != 'text':
    encoder = encoders.build(
        cfg.retrieve.encoder,
        model=cfg.retrieve.model,
        pooling=cfg.retrieve.pooling,
        max_tokens=cfg.retrieve.max_tokens,
        query_prefix=cfg.retrieve.query_prefix,
        passage_prefix=cfg.retrieve.passage_prefix,
    )
  where = pathlib.Path(cfg.retrieve.index or folder / 'index')
  built = index.build(where, corpus, encoder)
  return Library(corpus, built, encoder), counts


def _in_parts(
    folder: pathlib.Path,
    split: str,
    questions: Sequence[records.Question],
    library: Library,
    wanted: Wanted,
) -> list[records.Evidence]:
  """All evidence, by way of files that a killed run finds again."""
  rows: list[records.Evidence] = []
  with console.progress(f'retrieve {split}', len(questions)) as bar:
    for start in range(0, len(questions), _CHUNK):
      part = questions[start : start + _CHUNK]
      path = folder / 'parts' / f'{split}-{start:07d}.jsonl'
      if not path.exists():
        records.write_jsonl(path, collect(part, library, wanted))
      rows += records.read_jsonl(path, records.Evidence)
      bar.advance(len(part))
  return rows


def _noise(
    questions: Sequence[records.Question],
    found: Sequence[Sequence[records.Passage]],
    library: Library,
    wanted: Wanted,
) -> list[list[records.Passage]]:
  """Each question's passages that do not help."""
  count, seed = wanted.noise, wanted.seed
  if not count:
    return [[] for _ in questions]
  taken = [{p.id for p in ranking} for ranking in found]
  if wanted.noise_kind == 'random':
    return [
        noise.draw(library.corpus, q.id, count=count, seed=seed, taken=ids)
        for q, ids in zip(questions, taken, strict=True)
    ]
  claims = [noise.claim(q, seed=seed) for q in questions]
  # Twice as many as needed, because some name the right option as well.
  many = 2 * (count + wanted.top_k)
  against = library.search(claims, count=many, mode=wanted.mode)
  return [
      noise.against(ranking, q, count=count, taken=ids)
      for ranking, q, ids in zip(against, questions, taken, strict=True)
  ]
