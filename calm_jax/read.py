"""Stage 1: raw data to questions."""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
import pathlib

from calm_jax import console, datasets, records
from calm_jax.datasets import alignment, hub


def first(
    questions: Iterable[records.Question], limit: int
) -> list[records.Question]:
  """The first `limit` questions, each in all its languages; 0: all."""
  questions = list(questions)
  if not limit:
    return questions
  ids = list(dict.fromkeys(q.id for q in questions))[:limit]
  keep = frozenset(ids)
  return [q for q in questions if q.id in keep]


def summary(part: str, questions: list[records.Question]) -> dict[str, int]:
  """How many questions, and rows of them, one part has."""
  ids = {q.id for q in questions}
  unlabelled = {q.id for q in questions if q.gold is None}
  counts = {f'{part}_questions': len(ids), f'{part}_rows': len(questions)}
  if unlabelled:
    counts[f'{part}_without_gold'] = len(unlabelled)
  versions: dict[str, list[records.Question]] = {}
  for question in questions:
    versions.setdefault(question.id, []).append(question)
  checked, moved = alignment.evidence(versions.values())
  for lang, n in checked.items():
    counts[f'{part}_order_checked_{lang}'] = n
    counts[f'{part}_order_differs_{lang}'] = moved[lang]
  return counts


def trained_on(
    train: Iterable[records.Question], test: Iterable[records.Question]
) -> int:
  """How many questions of the test are trained on too, whatever their ids.

  Data sets that are made of each other share questions; what learns from gold
  labels knows their answers.
  """
  seen = {_content(q) for q in train}
  return len({q.id for q in test if _content(q) in seen})


def _content(question: records.Question) -> bytes:
  """A digest of the stem and of the options in any order."""
  texts = (question.stem, *sorted(o.text for o in question.options))
  words = [' '.join(text.split()).casefold() for text in texts]
  return hashlib.blake2b('\n'.join(words).encode(), digest_size=16).digest()


def run(cfg, workdir: pathlib.Path) -> dict[str, int]:
  """Writes read/train.jsonl and read/test.jsonl; returns the counts."""
  read = datasets.reader(cfg.data.name)
  path = hub.folder(cfg.data.path)
  languages = tuple(cfg.languages)
  counts, parts = {}, {}
  splits = {'train': cfg.data.train_split, 'test': cfg.data.test_split}
  limits = {'train': cfg.data.train_limit, 'test': cfg.data.test_limit}
  with console.progress('read', len(splits)) as bar:
    for part, split in splits.items():
      questions, dropped = read(path, split, languages) if split else ([], {})
      questions = first(
          questions, min(filter(None, (cfg.limit, limits[part])), default=0)
      )
      if split and not questions:
        raise ValueError(
            f'data.{part}_split: {split!r} of {cfg.data.name} has no sound '
            f'question in {", ".join(languages)}; dropped: {dropped or "none"}'
        )
      if part == 'test' and all(q.gold is None for q in questions):
        raise ValueError(
            f'data.test_split: {split!r} of {cfg.data.name} has no answer '
            'keys: nothing can be scored on it. Choose a labelled split; one '
            'without labels may still be data.train_split'
        )
      records.write_jsonl(workdir / 'read' / f'{part}.jsonl', questions)
      parts[part] = questions
      counts |= summary(part, questions)
      counts |= {f'dropped_{part}_{why}': n for why, n in dropped.items()}
      bar.advance(note=f'{counts[f"{part}_questions"]} {part} questions')
  if same := trained_on(parts['train'], parts['test']):
    counts['test_questions_trained_on'] = same
    console.say(
        f'  warning: {same} of {counts["test_questions"]} test questions are'
        ' trained on too: no measure of what learns from gold labels'
    )
  return counts
