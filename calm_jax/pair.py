"""Stage 6: votes become preferences for DPO, or targets for SFT.

A user's own file of preferences or targets may take the votes' place. No more
than translations and retrieved passages is held in memory, however many samples
there are.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
import hashlib
import itertools
import pathlib

from ml_collections import ConfigDict

from calm_jax import console, formats, lookup, records, translators, wording
from calm_jax.qa import ballots, preferences, prompts, remedies
from calm_jax.retrieval import evidence
from calm_jax.translators import files, guards

# Questions in all languages, what was picked of them, and what was counted.
Drafted = tuple[wording.Questions, wording.Drafts, preferences.Counts]


def held_out(ids: Collection[str], *, val_size: float, seed: int) -> set[str]:
  """The questions to validate on.

  `val_size` is a part of the questions; where it is not 0, both sides get at
  least one of two or more.
  """
  rank = lambda name: hashlib.sha256(f'{seed}|{name}'.encode()).digest()
  count = round(val_size * len(ids))
  if val_size > 0:
    count = max(min(count, len(ids) - 1), min(1, len(ids) - 1))
  return set(sorted(ids, key=rank)[:count])


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  """Writes pair/train.jsonl and pair/val.jsonl.

  Raises:
    ValueError: no row is left, or a row of the user's file is wrong.
    guard.Refusal: it would cost more than config.translate.max_cost.
  """
  folder = workdir / 'pair'
  every = folder / 'rows.jsonl'
  totals: dict[str, float] = {}
  if cfg.pair.file:
    rows = imported(pathlib.Path(cfg.pair.file), method=cfg.train.method)
    records.write_jsonl(every, rows)
    totals |= _sorted(collections.Counter(f'rows_{row.lang}' for row in rows))
  else:
    totals |= _from_votes(cfg, workdir, every)
  sizes = _divide(
      every,
      records.Target if cfg.train.method == 'sft' else records.Pair,
      val_size=cfg.pair.val_size,
      seed=cfg.seed,
  )
  every.unlink()
  console.say(
      f'  {sizes["train"]} rows to train on, {sizes["val"]} to validate on'
  )
  return totals | sizes


def imported(path: pathlib.Path, *, method: str) -> wording.Rows:
  """The rows of a file for TRL or LLaMA-Factory: pairs, or targets for sft."""
  read = formats.read_targets if method == 'sft' else formats.read_pairs
  try:
    rows = read(path)
  except (OSError, ValueError) as e:
    raise ValueError(f'config.pair.file for train.method={method}: {e}') from e
  if not rows:
    raise ValueError(f'config.pair.file: {path} holds no row')
  return rows


def _from_votes(
    cfg: ConfigDict, workdir: pathlib.Path, path: pathlib.Path
) -> dict[str, float]:
  """Writes the rows that the votes make; returns what was counted."""
  langs = cfg.sample.languages or cfg.languages
  translator = translators.build(cfg, workdir)
  texts: dict[translators.Wanted, list[str]] = {}
  # Only then the drafts are made twice: all must be known before any is sent.
  if any(translator.supports(*way) for way in itertools.permutations(langs, 2)):
    drafts = (
        draft
        for _, mine, _ in _drafts(cfg, workdir, langs, translator.supports)
        for draft in mine
    )
    texts = wording.wanted(drafts, rebuild=cfg.pair.rebuild)
  with console.progress('translate', len(texts)) as bar:
    translated = translators.translate_all(
        translator, texts, advance=bar.advance
    )
  counts: preferences.Counts = collections.Counter()
  drafts = _drafts(cfg, workdir, langs, translator.supports)
  changed = guards.flagged(translated)
  left = records.write_jsonl(
      path, _rows(cfg, workdir, drafts, translated, changed, counts)
  )
  files.write_lacking(workdir / 'pair' / 'untranslated', translated)
  totals: dict[str, float] = {'samples': counts.pop('samples')}
  totals |= guards.write(workdir / 'pair', changed, translated, texts)
  totals |= _sorted(counts) | translator.end()
  if not left:
    path.unlink()
    raise ValueError(remedies.nothing_left(totals))
  return totals


def _rows(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    drafted: Iterable[Drafted],
    translated: Mapping[translators.Wanted, str | None],
    changed: guards.Changes,
    counts: preferences.Counts,
) -> Iterator[records.Pair | records.Target]:
  """The rows of all questions in turn; adds to `counts` what became of them."""
  openings = evidence.openings(workdir)
  # In Self-RAG a passage stands in the opening, one at a time.
  shown = {} if openings else evidence.read(workdir, 'train')
  style, shots, rebuild = cfg.prompt.style, cfg.prompt.shots, cfg.pair.rebuild
  render = lambda question: prompts.render(
      question,
      style=style,
      shots=shots,
      passages=shown.get((question.id, question.lang), ()),
  )
  for questions, drafts, found in drafted:
    rows, dropped = wording.worded(
        drafts,
        questions,
        translated,
        changed,
        rebuild=rebuild,
        render=render,
        openings=openings,
    )
    counts.update(found)
    counts.update(dropped)
    for row in rows:
      counts[f'rows_{row.lang}'] += 1
      yield row


def _drafts(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    langs: Sequence[str],
    supports: preferences.Supports,
) -> Iterator[Drafted]:
  """The drafts of some questions after those of others, and their counts."""
  gold, imitates = cfg.pair.gold, cfg.train.method == 'sft'
  cap = cfg.pair.cap
  options = {
      # English is part of the rule of the released code.
      'positives': 'english' if gold == 'released' else cfg.pair.positives,
      'min_share': cfg.pair.min_share,
      'min_margin': cfg.pair.min_margin,
      'supports': supports,
  }
  for samples, votes, questions in _decisions(cfg, workdir, langs):
    counts = collections.Counter(samples=len(samples))
    if gold != 'none':
      labels = {q.id: q.gold for q in questions.values()}
      samples, votes, dropped = preferences.label(
          samples, votes, labels, rule=gold
      )
      counts.update(dropped)
    if imitates:
      found = preferences.imitate(samples, votes, questions, langs, **options)
    else:
      found = preferences.prefer(samples, votes, **options)
    kept, limited = preferences.limit(found[0], cap=cap)
    counts.update(found[1])
    counts.update(limited)
    yield questions, kept, counts


def _decisions(
    cfg: ConfigDict, workdir: pathlib.Path, langs: Sequence[str]
) -> Iterator[
    tuple[list[records.Sample], list[records.Vote], wording.Questions]
]:
  """Samples, votes and texts of some questions at a time, by their ids."""
  path = workdir / 'vote' / 'votes.jsonl'
  votes = records.read_jsonl(path, records.Vote)
  groups = ballots.read_asked(workdir, order=langs, parser=cfg.vote.parser)
  vote = next(votes, None)
  for samples, questions in groups:
    found = []
    while vote is not None and vote.question_id <= samples[-1].question_id:
      found.append(vote)
      vote = next(votes, None)
    yield samples, found, questions


def _divide(
    every: pathlib.Path,
    kind: type[records.Pair] | type[records.Target],
    *,
    val_size: float,
    seed: int,
) -> dict[str, int]:
  """Writes both parts beside the rows; returns their sizes.

  All rows of a question fall on the same side.
  """
  shelf = lookup.Lookup([every])
  shelf.index(kind, 'question_id')
  val = held_out(list(shelf.ids), val_size=val_size, seed=seed)
  parts = {'train': [i for i in shelf.ids if i not in val], 'val': val}
  sizes = {'rows': 0}
  for name, ids in parts.items():
    with records.replacing(every.with_name(f'{name}.jsonl')) as f:
      sizes[name] = 0
      for lines in shelf.text(ids):
        f.write(lines)
        sizes[name] += lines.count(b'\n')
  sizes['rows'] = sizes['train'] + sizes['val']
  return sizes


def _sorted(counts: collections.Counter[str]) -> dict[str, int]:
  return {name: counts[name] for name in sorted(counts) if counts[name]}
