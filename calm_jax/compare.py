"""The comparison: all systems of an experiment in one table, beside the paper.

Reads what the systems have evaluated and voted; writes scores, McNemar's tests,
the table and who won the votes as Markdown and CSV, and a page.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
import csv
import dataclasses
import io
import itertools
import pathlib

import numpy as np

from calm_jax import paper as papers
from calm_jax import records
from calm_jax.html import comparison, page, votes, winners
from calm_jax.qa import forgetting, languages, lineage, metrics, scoring

READS = ('translate', 'vote', 'pair', 'evaluate')  # stages of each system
PAGE, TEXT, CSV = 'report.html', 'table.md', 'table.csv'
VOTES = 'votes.csv'

_CSV_HEAD = (
    'setting',
    'system',
    'column',
    'value',
    'low',
    'high',
    'paper',
    'difference',
)
# What is drawn against the number of languages trained on.
_GROWTH = {
    'accuracy': 'mean accuracy',
    papers.CONSISTENCY: 'consistency',
}


def run(
    systems: Sequence[lineage.System],
    folder: pathlib.Path,
    *,
    paper: str,
    resamples: int,
    seed: int,
) -> dict[str, int]:
  """Writes the comparison into `folder`; `paper` names a table, or is ''."""
  scores: list[records.Score] = []
  contrasts: list[records.Contrast] = []
  groups = _settings(systems)
  for setting, answers in groups.items():
    scores += scoring.score(
        answers, setting=setting, resamples=resamples, seed=seed
    )
    contrasts += scoring.contrasts(answers, setting=setting)
  records.write_jsonl(folder / 'scores.jsonl', scores)
  records.write_jsonl(folder / 'mcnemar.jsonl', contrasts)
  known = papers.TABLES.get(paper)
  tables = _tables(groups, scores, known)
  ballots = _ballots(systems, known)
  records.write_text(folder / TEXT, _text(tables, ballots))
  rows = itertools.chain.from_iterable(map(comparison.csv_rows, tables))
  records.write_text(folder / CSV, _csv(_CSV_HEAD, rows))
  rows = itertools.chain.from_iterable(map(winners.csv_rows, ballots))
  records.write_text(folder / VOTES, _csv(winners.CSV_HEAD, rows))
  values = {
      'title': known.title if known else '',
      'systems': systems,
      'tables': tables,
      'notes': comparison.NOTES,
      'contrasts': [(s, _by_pair(contrasts, s)) for s in groups],
      'kept': _kept(systems, groups, resamples=resamples, seed=seed),
      'growth': _growth(systems, groups, scores),
      'growth_legend': comparison.growth_legend(_GROWTH),
      'ballots': ballots,
      'ballot_columns': winners.COLUMNS.values(),
      'langs': _langs(systems),
  }
  text = page.render('comparison.html.jinja', values)
  records.write_text(folder / PAGE, text)
  return {
      'systems': len(systems),
      'settings': len(groups),
      'scores': len(scores),
      'tests': len(contrasts),
      'votes': len(ballots),
  }


def _kept(
    systems: Sequence[lineage.System],
    groups: Mapping[str, dict[str, metrics.Answers]],
    *,
    resamples: int,
    seed: int,
) -> list[tuple[str, list[tuple[str, list[forgetting.Kept]]]]]:
  """The forgetting matrix of each setting."""
  langs = _langs(systems)
  return [
      (
          setting,
          forgetting.kept(
              systems, answers, langs, resamples=resamples, seed=seed
          ),
      )
      for setting, answers in groups.items()
  ]


def _growth(
    systems: Sequence[lineage.System],
    settings: Iterable[str],
    scores: Sequence[records.Score],
) -> list[tuple[str, str]]:
  """The plot of each setting whose systems saw more and more languages."""
  found = []
  for setting in settings:
    if points := lineage.growth(systems, scores, setting, tuple(_GROWTH)):
      found.append((setting, comparison.growth(points, _GROWTH)))
  return found


def _settings(
    systems: Iterable[lineage.System],
) -> dict[str, dict[str, metrics.Answers]]:
  """The answers by setting and system; a setting has one set of questions.

  A setting of several data sets is followed by each of them alone.
  """
  groups: dict[str, dict[str, metrics.Answers]] = {}
  for system in systems:
    answers = _answers(system)
    if answers is None:
      continue
    setting = _same_questions(groups, system.setting, answers)
    groups.setdefault(setting, {})[system.name] = answers
    datasets = _datasets(system.folder, answers.question_ids)
    for name in dict.fromkeys(datasets):
      if len(set(datasets)) > 1:
        chosen = np.array([dataset == name for dataset in datasets])
        part = metrics.subset(answers, chosen)
        groups.setdefault(f'{setting}: {name}', {})[system.name] = part
  return groups


def _answers(system: lineage.System) -> metrics.Answers | None:
  """What a system answered after its training, or without one."""
  for kind in ('aligned', 'base'):
    paths = sorted((system.folder / 'evaluate' / kind).glob('*.jsonl'))
    rows = (r for p in paths for r in records.read_jsonl(p, records.Prediction))
    if paths:
      return metrics.collect(rows, system.languages)
  return None


def _same_questions(
    groups: Mapping[str, Mapping[str, metrics.Answers]],
    setting: str,
    answers: metrics.Answers,
) -> str:
  """The setting's name, numbered where its questions are not those before."""
  name, number = setting, 1
  while name in groups:
    first, *_ = groups[name].values()
    if first.question_ids == answers.question_ids:
      return name
    number += 1
    name = f'{setting} ({number})'
  return name


def _datasets(folder: pathlib.Path, ids: Sequence[str]) -> list[str]:
  """The data set of every question."""
  path = folder / 'translate' / 'test.jsonl'
  if not path.exists():
    return [''] * len(ids)
  rows = records.read_jsonl(path, records.Question)
  found = {question.id: question.dataset for question in rows}
  return [found.get(question_id, '') for question_id in ids]


def _tables(
    groups: Mapping[str, Mapping[str, metrics.Answers]],
    scores: Sequence[records.Score],
    known: papers.Table | None,
) -> list[comparison.Table]:
  """One table a setting; the paper's rows stand beside the systems they name.

  Where a setting has parts (of several data sets), the paper's table says
  whether it is of the whole or of which of them.
  """
  tables = []
  for setting, answers in groups.items():
    langs = {la for a in answers.values() for la in a.languages}
    ordered = [lang for lang in languages.LANGUAGES if lang in langs]
    whole = max((w for w in groups if setting.startswith(f'{w}: ')), default='')
    part = setting.removeprefix(f'{whole}: ') if whole else ''
    told = known.of(part) if known and not known.of_votes else None
    beside = _beside(told, answers, groups) if told else None
    tables.append(
        comparison.table(setting, scores, langs=ordered, known=beside)
    )
  return tables


def _beside(
    known: papers.Table,
    answers: Mapping[str, metrics.Answers],
    groups: Mapping[str, Mapping[str, metrics.Answers]],
) -> papers.Table:
  """The paper's rows but for those that another setting of the run shows."""
  elsewhere = {name for group in groups.values() for name in group}
  reported = tuple(
      name
      for name in known.reported
      if name in answers or name not in elsewhere
  )
  return dataclasses.replace(known, reported=reported)


def _text(
    tables: Iterable[comparison.Table], ballots: Iterable[winners.Ballot]
) -> str:
  parts = [comparison.markdown(table) for table in tables]
  if parts:
    parts += [f'{note}\n' for note in comparison.NOTES]
  parts += [winners.markdown(ballot) for ballot in ballots]
  return '\n'.join(parts) or 'No system is evaluated yet.\n'


def _csv(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(head)
  writer.writerows(rows)
  return out.getvalue()


def _by_pair(
    contrasts: Iterable[records.Contrast], setting: str
) -> dict[tuple[str, str], dict[str, records.Contrast]]:
  pairs: dict[tuple[str, str], dict[str, records.Contrast]] = {}
  for c in contrasts:
    if c.setting == setting:
      pairs.setdefault((c.first, c.second), {})[c.lang] = c
  return pairs


def _ballots(
    systems: Iterable[lineage.System], known: papers.Table | None
) -> list[winners.Ballot]:
  """Each vote once, with the names of all systems that share it."""
  shared: dict[pathlib.Path, list[lineage.System]] = {}
  for system in systems:
    path = system.folder / 'vote' / 'votes.jsonl'
    if path.exists():
      shared.setdefault(path.resolve(), []).append(system)
  return [_ballot(path, sharing, known) for path, sharing in shared.items()]


def _ballot(
    path: pathlib.Path,
    sharing: Sequence[lineage.System],
    known: papers.Table | None,
) -> winners.Ballot:
  first = sharing[0]
  questions = first.folder / 'translate' / 'train.jsonl'
  gold = {q.id: q.gold for q in records.read_jsonl(questions, records.Question)}
  tally = votes.tally(
      records.read_jsonl(path, records.Vote), gold, _langs(sharing)
  )
  names = [system.name for system in sharing]
  return winners.ballot(names, tally, _chosen(sharing), known)


def _chosen(sharing: Iterable[lineage.System]) -> collections.Counter[str]:
  """How often each language's answer is the chosen one, in the first pairs."""
  for system in sharing:
    for path in (system.folder / 'pair').glob('train.jsonl'):
      with path.open(encoding='utf-8') as lines:
        pairs_are_there = '"chosen_lang"' in lines.readline()
      if pairs_are_there:  # and not targets to imitate
        pairs = records.read_jsonl(path, records.Pair)
        return collections.Counter(pair.chosen_lang for pair in pairs)
  return collections.Counter()


def _langs(systems: Iterable[lineage.System]) -> list[str]:
  found = {lang for system in systems for lang in system.languages}
  return [lang for lang in languages.LANGUAGES if lang in found]
