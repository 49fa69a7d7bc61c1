"""Replays the released samples of CALM's authors through our own code.

python -m tools.replay --samples=FOLDER [--suffix=_x] [--pairs=FOLDER]

reads x_csqa_{lang}_train{suffix}_sampled.json for lang en cn fr it de ja (those
that are there) and DPO_{lang}.json, and prints one JSON object: percentages,
but counts for questions, samples, ties, unparsed (samples) and pairs. Answers
are read by the authors' rule; on English pairs English samples vote alone.
Accuracy and consistency take the first sample of a question that names an
option; `consistency_s` and `ac3_strict` are strict (an unparsed answer
disagrees), `ac3` is the paper's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import json
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

from calm_jax import formats, records, vote
from calm_jax.qa import answers, metrics, preferences

# Our codes in the order of the tables, and what the files call them.
FILES = {'en': 'en', 'zh': 'cn', 'fr': 'fr', 'it': 'it', 'de': 'de', 'ja': 'ja'}
# The order in which the authors count votes: it settles ties.
COUNTING = ('ja', 'zh', 'fr', 'it', 'de', 'en')


class Row(NamedTuple):
  gold: str
  texts: tuple[str, ...]


Release = dict[str, list[Row]]  # by language; row i is the same question


def main(argv: Sequence[str] | None = None) -> None:
  args = _parser().parse_args(argv)
  try:
    release = load(args.samples, args.suffix)
    given = {}
    if args.pairs is not None:
      given = load_rejected(args.pairs)
    result = replay(release, given)
  except (OSError, ValueError) as e:
    sys.exit(f'replay: {e}')
  print(json.dumps(result, indent=2, allow_nan=False))


def load(folder: pathlib.Path, suffix: str = '') -> Release:
  """The released samples of every language whose file is there.

  Raises:
    FileNotFoundError: there is none.
    ValueError: a row is malformed, or files have different numbers of rows.
  """
  paths = {
      lang: folder / f'x_csqa_{name}_train{suffix}_sampled.json'
      for lang, name in FILES.items()
  }
  release = {
      lang: list(_rows(path)) for lang, path in paths.items() if path.is_file()
  }
  if not release:
    found = sorted(path.name for path in folder.glob('*_sampled.json'))
    raise FileNotFoundError(
        f'{folder}: no file is named like {paths["en"].name}; it holds'
        f' {", ".join(found) or "no *_sampled.json"}. Check --samples, --suffix'
    )
  for lang in paths.keys() - release.keys():
    print(f'replay: no {paths[lang]}: going on without', file=sys.stderr)
  first = next(iter(release))
  for lang, rows in release.items():
    if len(rows) != len(release[first]):
      raise ValueError(
          f'{paths[lang]} has {len(rows)} rows, but {paths[first].name} has'
          f' {len(release[first])}; row i must be the same question in both'
      )
  if not release[first]:
    raise ValueError(f'{paths[first]}: holds no questions')
  return release


def load_rejected(folder: pathlib.Path) -> dict[str, list[str]]:
  """The rejected texts of every DPO_{lang}.json that is there, in order."""
  paths = {lang: folder / f'DPO_{name}.json' for lang, name in FILES.items()}
  found = {lang: path for lang, path in paths.items() if path.is_file()}
  if not found:
    raise FileNotFoundError(f'{folder}: no DPO_{{lang}}.json; check --pairs')
  return {
      lang: [pair.rejected for pair in formats.read_pairs(path, lang=lang)]
      for lang, path in found.items()
  }


def replay(release: Release, given: dict[str, list[str]]) -> dict[str, Any]:
  """Everything that `main` prints; `given` is to be equalled."""
  samples = _parsed(release)
  languages = list(release)
  unparsed = [s.lang for s in samples if s.answer is None]
  return {
      'languages': languages,
      'questions': len(release[languages[0]]),
      'samples': len(samples),
      'unparsed': {lang: unparsed.count(lang) for lang in languages},
      **_scores(release, samples),
      **_votes(release, samples),
      **_pairs(samples, given, languages),
  }


def _rows(path: pathlib.Path) -> Iterator[Row]:
  try:
    rows = json.loads(path.read_text(encoding='utf-8-sig'))
  except ValueError as e:
    raise ValueError(f'{path}: not JSON in UTF-8: {e}') from e
  if not isinstance(rows, list):
    raise ValueError(f'{path}: must be a JSON array of questions')
  for number, row in enumerate(rows, 1):
    yield _row(row, f'{path}: row {number}')


def _row(row: Any, where: str) -> Row:
  """Takes one text for `pred` too, and null for a blank one."""
  if not isinstance(row, dict):
    raise ValueError(f'{where}: {row!r:.80} is not an object')
  for field in ('output', 'pred'):
    if field not in row:
      raise ValueError(f'{where}: lacks {field!r}; it has {sorted(row)}')
  gold, texts = row['output'], row['pred']
  if not isinstance(gold, str) or not gold.strip():
    raise ValueError(f"{where}: 'output' must be the gold letter, not {gold!r}")
  texts = texts if isinstance(texts, list) else [texts]
  for text in texts:
    if text is not None and not isinstance(text, str):
      raise ValueError(f"{where}: 'pred' must hold strings, not {text!r:.80}")
  return Row(gold.strip(), tuple(text or '' for text in texts))


def _parsed(release: Release) -> list[records.Sample]:
  """All samples in the authors' counting order."""
  return [
      records.Sample(
          question_id=str(number),
          lang=lang,
          index=index,
          text=text,
          answer=answers.parse_authors(text, lang),
          parse='authors',
          logprob=0.0,
          tokens=0,
          stop_reason='',
      )
      for lang in COUNTING
      for number, row in enumerate(release.get(lang, ()))
      for index, text in enumerate(row.texts)
  ]


def _scores(
    release: Release, samples: Sequence[records.Sample]
) -> dict[str, Any]:
  languages = list(release)
  first: dict[tuple[str, str], str | None] = {}
  for sample in samples:
    key = sample.lang, sample.question_id
    if first.get(key) is None:
      first[key] = sample.answer
  count = len(release[languages[0]])
  table: dict[str, int] = {}
  codes = metrics.encode(
      [[first.get((k, str(i))) for i in range(count)] for k in languages], table
  )
  gold = metrics.encode(
      [[row.gold for row in release[k]] for k in languages], table
  )
  right = {
      lang: float(metrics.accuracy(codes[i : i + 1], gold[i])[0])
      for i, lang in enumerate(languages)
  }
  differs = int((gold != gold[0]).any(0).sum())
  if differs:
    print(
        f'replay: gold differs between languages in {differs} of {count} rows:'
        ' are the files aligned?',
        file=sys.stderr,
    )
  return {
      'gold_differs': differs,
      'accuracy': right,
      **_agreement(right, codes),
  }


def _agreement(right: dict[str, float], codes: np.ndarray) -> dict[str, Any]:
  """Consistency and AC3; nothing to compare where there is one language."""
  if len(codes) < 2:
    return {}
  sizes = range(2, len(codes) + 1)
  strict = {s: metrics.consistency(codes, s) for s in sizes}
  parsed = {s: metrics.consistency(codes, s, strict=False) for s in sizes}
  means = {'all': sum(right.values()) / len(right)}
  if set(metrics.PAPER_MEAN) <= right.keys():
    some = [right[lang] for lang in metrics.PAPER_MEAN]
    means['en_zh_fr'] = sum(some) / len(some)
  ac3 = lambda same: {k: float(metrics.ac3(v, same)) for k, v in means.items()}
  return {
      'accuracy_mean': means,
      'questions_parsed': int((codes >= 0).all(0).sum()),
      'consistency_parsed': parsed[2],
      'consistency_strict': strict[2],
      'consistency_s': strict,
      'consistency_s_parsed': parsed,
      'ac3': ac3(parsed[2]),
      'ac3_strict': ac3(strict[2]),
  }


def _votes(
    release: Release, samples: Sequence[records.Sample]
) -> dict[str, Any]:
  votes = vote.tally(samples, ties='first_seen')
  winners = {int(v.question_id): v.winner for v in votes}
  gold = [row.gold for row in next(iter(release.values()))]
  right = sum(winners.get(i) == letter for i, letter in enumerate(gold))
  out: dict[str, Any] = {
      'vote_accuracy': 100.0 * right / len(gold),
      'ties': sum(vote.tied(v) for v in votes),
  }
  if set(metrics.PAPER_MEAN) <= release.keys():
    some = [s for s in samples if s.lang in metrics.PAPER_MEAN]
    fewer = vote.tally(some, ties='first_seen')
    out['ties_en_zh_fr'] = sum(vote.tied(v) for v in fewer)
  return out


def _pairs(
    samples: Sequence[records.Sample],
    given: dict[str, list[str]],
    languages: Sequence[str],
) -> dict[str, Any]:
  """Every sample against the winner is one pair; any text can be translated.

  English answers are held against the winner of the English ones alone; how
  many there would be against all languages' winner stands beside.
  """
  english = [s for s in samples if s.lang == 'en']
  found = [*_rejected(samples)]
  others = [row for row in found if row[0] != 'en']
  rejected: dict[str, list[str]] = {lang: [] for lang in languages}
  for lang, text in (*others, *_rejected(english)):
    rejected[lang].append(text)
  return {
      'pairs_en_by_all': len(found) - len(others),
      'pairs': {lang: len(texts) for lang, texts in rejected.items()},
      'pairs_given': {lang: len(texts) for lang, texts in given.items()},
      'pairs_equal': {
          lang: rejected.get(lang) == texts for lang, texts in given.items()
      },
  }


def _rejected(samples: Sequence[records.Sample]) -> Iterator[tuple[str, str]]:
  """Language and text of all that is rejected where these samples vote."""
  for _, rejected in _preferred(samples):
    yield rejected.lang, rejected.text


def _preferred(
    samples: Sequence[records.Sample],
) -> Iterator[tuple[records.Sample, records.Sample]]:
  """Chosen and rejected by the authors' rule, where these samples vote."""
  drafts, _ = preferences.prefer(
      samples,
      vote.tally(samples, ties='first_seen'),
      positives='last',
      min_share=0.0,
      supports=lambda source, target: True,
  )
  for draft in drafts:
    if draft.rejected is not None:
      yield draft.chosen, draft.rejected


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  path = pathlib.Path
  files = 'folder of x_csqa_{lang}_train{suffix}_sampled.json'
  parser.add_argument('--samples', type=path, required=True, help=files)
  parser.add_argument('--suffix', default='', help='what follows "train"')
  parser.add_argument('--pairs', type=path, help='folder of DPO_{lang}.json')
  return parser


if __name__ == '__main__':
  main()
