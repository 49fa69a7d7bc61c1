"""The report: tables, plots, and a page for every question of a run.

Reads whatever the stages before have left, so it can be made at any time.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import gc
import json
import operator
import pathlib
from typing import Any, TypeVar

from ml_collections import ConfigDict

from calm_jax import console, lookup, records
from calm_jax.html import (
    agreement,
    facts,
    items,
    page,
    pairs,
    questions,
    samples,
    sections,
    votes,
)
from calm_jax.qa import ballots, metrics

R = TypeVar('R')

_STAGES = (
    'read',
    'translate',
    'retrieve',
    'sample',
    'vote',
    'pair',
    'align',
    'evaluate',
)
_QUESTION = operator.attrgetter('question_id')


@dataclasses.dataclass
class Findings:
  """All that is counted in one reading of a run's files."""

  entries: list[questions.Entry]
  samples: list[samples.Language]
  votes: votes.Votes | None
  pairs: list[pairs.Language] | None
  example: records.Pair | records.Target | None
  answers: dict[str, agreement.Answers]


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, int]:
  """Writes report.html and the questions*.html beside it."""
  langs = tuple(cfg.languages)
  sft = cfg.train.method == 'sft'
  shelves = _shelves(workdir)
  found = _read(shelves, langs, sft=sft)
  ended, begun = _done(workdir)
  values = {
      'about': _about(cfg),
      **sections.evaluation(
          found.answers, read_scores(workdir), langs, _consistency
      ),
      **sections.samples(found.samples),
      **sections.votes(found.votes),
      **sections.pairs(found.pairs, ended, found.example, sft=sft),
      **sections.training(_metrics(workdir / 'align' / 'metrics.jsonl')),
      **sections.run(ended, begun, cfg.to_dict()),
  }
  folder = workdir / 'report'
  records.write_text(
      folder / 'report.html', page.render('report.html.jinja', values)
  )
  written = _write_questions(
      folder, found.entries, shelves, langs, _reader(cfg.vote.parser)
  )
  return {
      'questions': len(found.entries),
      'samples': sum(row.samples for row in found.samples),
      'pairs': sum(row.rows for row in found.pairs or ()),
      'question_pages': written,
  }


def _about(cfg: ConfigDict) -> list[tuple[str, str]]:
  return [
      ('Model', cfg.model),
      ('data', cfg.data.name),
      ('languages', ', '.join(lang.upper() for lang in cfg.languages)),
      ('samples per question and language', str(cfg.sample.m)),
      ('trained by', cfg.train.method.upper()),
  ]


def read_scores(workdir: pathlib.Path) -> list[records.Score]:
  """The scores of a run; none where it is not evaluated yet."""
  path = workdir / 'evaluate' / 'scores.jsonl'
  return list(records.read_jsonl(path, records.Score)) if path.exists() else []


def _shelves(workdir: pathlib.Path) -> questions.Shelves:
  source = workdir / 'translate'
  if not (source / 'train.jsonl').exists():
    source = workdir / 'read'
  evaluate = workdir / 'evaluate'
  systems = sorted(
      (p for p in evaluate.glob('*') if p.is_dir()),
      key=lambda p: (p.name != 'base', p.name),
  )
  return questions.Shelves(
      train=_shelf(source, 'train.jsonl'),
      test=_shelf(source, 'test.jsonl'),
      samples=_shelf(workdir / 'sample', '*.jsonl'),
      votes=_shelf(workdir / 'vote', 'votes.jsonl'),
      pairs=_shelf(workdir / 'pair', 'train.jsonl'),
      val_pairs=_shelf(workdir / 'pair', 'val.jsonl'),
      predictions=_shelf_of(systems, '*.jsonl'),
      evidence=_shelf(workdir / 'retrieve', 'train.jsonl'),
      test_evidence=_shelf(workdir / 'retrieve', 'test.jsonl'),
      reflections=_shelf(workdir / 'sample', 'reflections/*.jsonl'),
      test_reflections=_shelf_of(systems, 'reflections/*.jsonl'),
  )


def _shelf(folder: pathlib.Path, pattern: str) -> lookup.Lookup:
  return _shelf_of([folder], pattern)


def _shelf_of(folders: Iterable[pathlib.Path], pattern: str) -> lookup.Lookup:
  return lookup.Lookup(
      [path for folder in folders for path in sorted(folder.glob(pattern))]
  )


def _read(
    shelves: questions.Shelves, langs: Sequence[str], *, sft: bool
) -> Findings:
  """Reads every file once."""
  gold: dict[str, str | None] = {}
  winners: dict[str, str | None] = {}
  train = shelves.train.scan(records.Question, operator.attrgetter('id'))
  test = shelves.test.scan(records.Question, operator.attrgetter('id'))
  entries = questions.index(
      _noting(train, lambda q: gold.setdefault(q.id, q.gold)), test
  )
  given = shelves.samples.scan(records.Sample, _QUESTION)
  sampled = samples.tally(given, langs)
  ballot = _noting(
      shelves.votes.scan(records.Vote, _QUESTION),
      lambda v: winners.setdefault(v.question_id, v.winner),
  )
  voted = votes.tally(ballot, gold, langs)
  example: list[records.Pair | records.Target] = []
  kind = records.Target if sft else records.Pair
  paired = pairs.tally(
      _noting(
          shelves.pairs.scan(kind, _QUESTION),
          lambda p: None if example else example.append(p),
      ),
      shelves.val_pairs.scan(kind, _QUESTION),
      langs,
  )
  answers = agreement.collect(
      shelves.predictions.scan(records.Prediction, _QUESTION)
  )
  for kind_of, shelf in (
      (records.Evidence, shelves.evidence),
      (records.Evidence, shelves.test_evidence),
      (records.Reflection, shelves.reflections),
      (records.Reflection, shelves.test_reflections),
  ):
    collections.deque(shelf.scan(kind_of, _QUESTION), maxlen=0)
  questions.annotate(entries, gold, winners, list(answers.values()))
  return Findings(
      entries=entries,
      samples=sampled,
      votes=voted if shelves.votes.paths else None,
      pairs=paired if shelves.pairs.paths else None,
      example=example[0] if example else None,
      answers=answers,
  )


def _noting(items: Iterable[R], note: Callable[[R], object]) -> Iterator[R]:
  for item in items:
    note(item)
    yield item


def _consistency(both: Sequence[tuple[str | None, str | None]]) -> float:
  return metrics.consistency(metrics.encode(zip(*both, strict=True)))


def _reader(parser: str) -> items.ReadAnswer:
  """How the vote read a sample, given both as plain JSON."""
  if parser == 'default':
    return lambda question, sample: sample['answer']

  def reread(question: Mapping[str, Any], sample: Mapping[str, Any]):
    options = tuple(records.Option(**o) for o in question['options'])
    asked = records.Question(**{**question, 'options': options})
    given = records.Sample(**sample)
    return ballots.reread([given], {(asked.id, asked.lang): asked})[0].answer

  return reread


def _done(workdir: pathlib.Path) -> tuple[list[facts.Stage], list[str]]:
  """The stages that ended, and the names of those that only began."""
  ended, begun = [], []
  for name in _STAGES:
    path = workdir / name / 'DONE.json'
    if path.exists():
      ended.append(facts.stage(name, json.loads(path.read_text('utf-8'))))
    elif path.parent.is_dir():
      begun.append(name)
  return ended, begun


def _metrics(path: pathlib.Path) -> Iterator[Mapping[str, Any]]:
  """The lines of metrics.jsonl; one that is still being written is left out."""
  if not path.exists():
    return
  with path.open(encoding='utf-8') as lines:
    for number, line in enumerate(lines, 1):
      if not line.endswith('\n'):
        return
      try:
        row = json.loads(line)
        yield row | {'step': float(row['step'])}
      except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f'{path}:{number}: not metrics with a step: {e!r}'
        ) from e


@contextlib.contextmanager
def _settled() -> Iterator[None]:
  """Spares what is known by now the garbage collector's rounds.

  Of a million samples that is much, and every page is new objects.
  """
  gc.freeze()
  try:
    yield
  finally:
    gc.unfreeze()


def _write_questions(
    folder: pathlib.Path,
    entries: Sequence[questions.Entry],
    shelves: questions.Shelves,
    langs: Sequence[str],
    read_answer: items.ReadAnswer,
) -> int:
  """Writes the pages; the first also lists the questions of all others."""
  script, policy = page.script('questions.js.jinja')
  total = questions.page_count(entries)
  pages = questions.pages(
      entries, shelves, langs=langs, read_answer=read_answer
  )
  with _settled(), console.progress('question pages', total) as bar:
    for part in pages:
      values = {
          'number': part.number,
          'of': total,
          'previous': questions.file_name(part.number - 1),
          'following': questions.file_name(part.number + 1),
          'script': script,
          'policy': policy,
          'data': questions.data(part, entries, langs),
      }
      text = page.render('questions.html.jinja', values)
      records.write_text(folder / questions.file_name(part.number), text)
      bar.advance()
  return total
