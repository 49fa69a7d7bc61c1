"""The questions of a run, as the data of pages of a few hundred each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import math
from typing import Any

from calm_jax import lookup, records
from calm_jax.html import agreement, items

PAGE_SIZE = 200
_STEM = 140  # characters of a question in the list

_OF_TRAINING = (
    'samples',
    'votes',
    'pairs',
    'val_pairs',
    'evidence',
    'reflections',
)
_OF_TESTS = ('predictions', 'test_evidence', 'test_reflections')
_BY_LANGUAGE = ('samples', 'pairs', 'val_pairs', 'evidence', 'reflections')


@dataclasses.dataclass
class Entry:
  """One line of the list; `notes` are what the list can be filtered by."""

  id: str
  split: str
  stem: str
  trained: bool = False
  tested: bool = False
  notes: list[str] = dataclasses.field(default_factory=list)

  @property
  def key(self) -> str:
    return f'{self.split}/{self.id}'


@dataclasses.dataclass(frozen=True)
class Shelves:
  """Where all that belongs to a question is found."""

  train: lookup.Lookup
  test: lookup.Lookup
  samples: lookup.Lookup
  votes: lookup.Lookup
  pairs: lookup.Lookup
  val_pairs: lookup.Lookup
  predictions: lookup.Lookup
  evidence: lookup.Lookup
  test_evidence: lookup.Lookup
  reflections: lookup.Lookup
  test_reflections: lookup.Lookup


@dataclasses.dataclass(frozen=True)
class Page:
  """A file's worth of questions: `items` are what its script shows."""

  number: int
  entries: Sequence[Entry]
  items: Sequence[Mapping[str, Any]]


def index(
    train: Iterable[records.Question], test: Iterable[records.Question]
) -> list[Entry]:
  """Every question once: those trained on first, in file order."""
  entries: dict[tuple[str, str], Entry] = {}
  for trained, part in ((True, train), (False, test)):
    for q in part:
      stem = ' '.join(q.stem.split())[:_STEM]
      entry = entries.setdefault((q.split, q.id), Entry(q.id, q.split, stem))
      entry.trained |= trained
      entry.tested |= not trained
  return list(entries.values())


def annotate(
    entries: Iterable[Entry],
    gold: Mapping[str, str | None],
    winners: Mapping[str, str | None],
    systems: Sequence[agreement.Answers],
) -> None:
  """Notes on each entry what a reader may want to filter by."""
  for entry in entries:
    if entry.trained and entry.id in winners:
      winner, right = winners[entry.id], gold.get(entry.id)
      if winner is None:
        entry.notes.append('no winner')
      elif right not in (None, winner):
        entry.notes.append('winner wrong')
    if entry.tested and len(systems) > 1:
      before, after = (s.get(entry.id, {}) for s in (systems[0], systems[-1]))
      moved = [(g, after[lang]) for lang, g in before.items() if lang in after]
      if any(b.right and not a.right for a, b in moved):
        entry.notes.append('fixed')
      if any(a.right and not b.right for a, b in moved):
        entry.notes.append('broken')


def file_name(number: int) -> str:
  return f'questions-{number:03d}.html' if number else 'questions.html'


def page_count(entries: Sequence[Entry]) -> int:
  return max(1, math.ceil(len(entries) / PAGE_SIZE))


def data(
    page: Page, entries: Sequence[Entry], langs: Sequence[str]
) -> dict[str, Any]:
  """What a page's script reads; the first page lists all `entries`."""
  listed = page.entries if page.number else entries
  start = page.number * PAGE_SIZE
  return {
      'langs': langs,
      'items': page.items,
      'index': [
          [e.key, e.id, e.split, e.stem, e.notes, file_name(i // PAGE_SIZE)]
          for i, e in enumerate(listed, start)
      ],
  }


def pages(
    entries: Sequence[Entry],
    shelves: Shelves,
    *,
    langs: Sequence[str],
    read_answer: items.ReadAnswer,
) -> Iterator[Page]:
  """The pages in order, at least one; one page is in memory at a time."""
  rank = {lang: i for i, lang in enumerate(langs)}
  for number in range(page_count(entries)):
    part = entries[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
    yield Page(number, part, _items(part, shelves, rank, read_answer))


def _items(
    entries: Sequence[Entry],
    shelves: Shelves,
    rank: Mapping[str, int],
    read_answer: items.ReadAnswer,
) -> list[dict[str, Any]]:
  trained = [e.id for e in entries if e.trained]
  tested = [e.id for e in entries if e.tested]
  found = {
      name: shelf.gather(ids)
      for name, shelf, ids in (
          ('train', shelves.train, trained),
          ('samples', shelves.samples, trained),
          ('votes', shelves.votes, trained),
          ('pairs', shelves.pairs, trained),
          ('val_pairs', shelves.val_pairs, trained),
          ('test', shelves.test, tested),
          ('predictions', shelves.predictions, tested),
          ('evidence', shelves.evidence, trained),
          ('test_evidence', shelves.test_evidence, tested),
          ('reflections', shelves.reflections, trained),
          ('test_reflections', shelves.test_reflections, tested),
      )
  }
  built = []
  for entry in entries:
    own = {name: rows.get(entry.id, []) for name, rows in found.items()}
    if not entry.trained:
      own |= {name: [] for name in _OF_TRAINING}
    if not entry.tested:
      own |= {name: [] for name in _OF_TESTS}
    texts = own['train'] if entry.trained else own['test']
    own['evidence'] = own['evidence'] or own['test_evidence']
    for rows in (texts, *(own[name] for name in _BY_LANGUAGE)):
      rows.sort(key=lambda r: (rank.get(r['lang'], len(rank)), r['lang']))
    heading = {
        'key': entry.key,
        'id': entry.id,
        'split': entry.split,
        'notes': entry.notes,
    }
    built.append(heading | items.build(texts, own, read_answer))
  return built
