"""Stage 6: votes become preferences for DPO, or targets for SFT.

Where both sides are of different languages, the chosen one is translated into
the language of the rejected one, which is that of the prompt. A user's own file
of preferences or targets may take the votes' place.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import hashlib
import pathlib

from ml_collections import ConfigDict

from calm_jax import console, formats, records, translators
from calm_jax.qa import (
    answers,
    ballots,
    languages,
    preferences,
    prompts,
    remedies,
)
from calm_jax.retrieval import evidence
from calm_jax.translators import guards

Questions = Mapping[tuple[str, str], records.Question]  # by id and language
Drafts = Sequence[preferences.Draft]
Rows = Sequence[records.Pair | records.Target]


def worded(
    drafts: Drafts,
    questions: Questions,
    translated: Mapping[translators.Wanted, str | None],
    *,
    rebuild: bool,
    render: Callable[[records.Question], str],
    openings: evidence.Openings | None = None,
) -> tuple[Rows, preferences.Counts]:
  """The rows of all drafts, and what was dropped.

  rebuild words both sides alike, so that style tells nothing; otherwise both
  stay as sampled, and a translation must still name the same option
  (answer_changed counts those that do not). Both go on from what the chosen
  sample went on from.
  """
  counts: preferences.Counts = collections.Counter()
  rows: dict[records.Pair | records.Target, None] = {}
  asked: dict[tuple[str, str], str] = {}
  texts: dict[tuple[str, ...], tuple[str, str]] = {}
  for draft in drafts:
    where = draft.chosen.question_id, draft.lang
    question = questions[where]
    if where not in asked:
      asked[where] = render(question)
    sides = []
    for sample in (draft.chosen, draft.rejected):
      if sample is not None:
        key = (*where, sample.lang, str(sample.index))
        if key not in texts:
          texts[key] = _completion(sample, question, translated, rebuild)
        sides.append(texts[key])
    if problem := next((drop for _, drop in sides if drop), ''):
      counts[problem] += 1
      continue
    chosen = draft.chosen
    opening = (openings or {}).get((where[0], chosen.lang, chosen.index), ())
    row = _row(draft, asked[where], [text for text, _ in sides], opening)
    known = len(rows)
    rows.setdefault(row)
    if len(rows) == known:
      counts['duplicate'] += 1
  return list(rows), counts


def wanted(
    drafts: Iterable[preferences.Draft], *, rebuild: bool
) -> dict[translators.Wanted, list[str]]:
  """What must be translated to word the drafts, with its questions' ids."""
  out: dict[translators.Wanted, list[str]] = {}
  for draft in drafts:
    if draft.chosen.lang != draft.lang:
      body = _body(draft.chosen, rebuild)
      if body:
        key = body, draft.chosen.lang, draft.lang
        out.setdefault(key, []).append(draft.chosen.question_id)
  return out


def split(rows: Rows, *, val_size: float, seed: int) -> tuple[Rows, Rows]:
  """Train and validation; all rows of a question fall on the same side.

  `val_size` is a part of the questions; where it is not 0, both sides get at
  least one of two or more questions.
  """
  rank = lambda name: hashlib.sha256(f'{seed}|{name}'.encode()).digest()
  ids = sorted({row.question_id for row in rows}, key=rank)
  count = round(val_size * len(ids))
  if val_size > 0:
    count = max(min(count, len(ids) - 1), min(1, len(ids) - 1))
  held_out = set(ids[:count])
  train = [row for row in rows if row.question_id not in held_out]
  return train, [row for row in rows if row.question_id in held_out]


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  """Writes pair/train.jsonl and val.jsonl, and train for TRL and LLaMA-Factory.

  Raises:
    ValueError: no row is left, or a row of the user's file is wrong.
    guard.Refusal: it would cost more than config.translate.max_cost.
  """
  if cfg.pair.file:
    rows = imported(pathlib.Path(cfg.pair.file), method=cfg.train.method)
    totals: dict[str, float] = {}
  else:
    rows, totals = _from_votes(cfg, workdir)
  train, val = split(rows, val_size=cfg.pair.val_size, seed=cfg.seed)
  _write(workdir / 'pair', train, val)
  totals |= {'rows': len(rows), 'train': len(train), 'val': len(val)}
  totals |= _sorted(collections.Counter(f'rows_{r.lang}' for r in rows))
  console.say(f'  {len(train)} rows to train on, {len(val)} to validate on')
  return totals


def imported(path: pathlib.Path, *, method: str) -> Rows:
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
    cfg: ConfigDict, workdir: pathlib.Path
) -> tuple[Rows, dict[str, float]]:
  """The rows that the votes make, and what was counted on the way."""
  path = workdir / 'translate' / 'train.jsonl'
  questions = {
      (q.id, q.lang): q for q in records.read_jsonl(path, records.Question)
  }
  translator = translators.build(cfg, workdir)
  drafts, counts = _drafts(cfg, workdir, questions, translator.supports)
  texts = wanted(drafts, rebuild=cfg.pair.rebuild)
  with console.progress('translate', len(texts)) as bar:
    translated = translators.translate_all(
        translator, texts, advance=bar.advance
    )
  openings = evidence.openings(workdir)
  # In Self-RAG a passage stands in the opening, one at a time.
  shown = {} if openings else evidence.read(workdir, 'train')
  rows, dropped = worded(
      drafts,
      questions,
      translated,
      rebuild=cfg.pair.rebuild,
      render=lambda question: prompts.render(
          question,
          style=cfg.prompt.style,
          shots=cfg.prompt.shots,
          passages=shown.get((question.id, question.lang), ()),
      ),
      openings=openings,
  )
  _write_untranslated(workdir / 'pair' / 'untranslated.jsonl', translated)
  changed = guards.write(workdir / 'pair', translated, texts)
  totals: dict[str, float] = {'samples': counts.pop('samples')}
  totals |= _sorted(counts + dropped) | changed | translator.end()
  if not rows:
    raise ValueError(remedies.nothing_left(totals))
  return rows, totals


def _drafts(
    cfg: ConfigDict,
    workdir: pathlib.Path,
    questions: Questions,
    supports: preferences.Supports,
) -> tuple[list[preferences.Draft], preferences.Counts]:
  """The drafts of all questions in turn, and what was counted."""
  langs = cfg.sample.languages or cfg.languages
  gold = {}
  if cfg.pair.gold != 'none':
    gold = {q.id: q.gold for q in questions.values()}
  options = {
      # English is part of the rule of the released code.
      'positives': 'english'
      if cfg.pair.gold == 'released'
      else cfg.pair.positives,
      'min_share': cfg.pair.min_share,
      'min_margin': cfg.pair.min_margin,
      'supports': supports,
  }
  counts: preferences.Counts = collections.Counter()
  drafts = []
  for samples, votes in _decisions(cfg, workdir, langs):
    counts['samples'] += len(samples)
    if cfg.pair.gold != 'none':
      samples, votes, dropped = preferences.label(
          samples, votes, gold, rule=cfg.pair.gold
      )
      counts.update(dropped)
    if cfg.train.method == 'sft':
      found = preferences.imitate(samples, votes, questions, langs, **options)
    else:
      found = preferences.prefer(samples, votes, **options)
    kept, limited = preferences.limit(found[0], cap=cfg.pair.cap)
    counts.update(found[1])
    counts.update(limited)
    drafts += kept
  return drafts, counts


def _decisions(
    cfg: ConfigDict, workdir: pathlib.Path, langs: Sequence[str]
) -> Iterator[tuple[list[records.Sample], list[records.Vote]]]:
  """Each question's samples with its vote; both come in the order of ids."""
  path = workdir / 'vote' / 'votes.jsonl'
  votes = records.read_jsonl(path, records.Vote)
  for samples in ballots.read(workdir, order=langs, parser=cfg.vote.parser):
    name = samples[0].question_id
    vote = next((v for v in votes if v.question_id >= name), None)
    yield samples, [vote] if vote and vote.question_id == name else []


def _body(sample: records.Sample, rebuild: bool) -> str:
  if rebuild:
    return answers.explanation(sample.text, sample.lang)
  return sample.text


def _completion(
    sample: records.Sample,
    question: records.Question,
    translated: Mapping[translators.Wanted, str | None],
    rebuild: bool,
) -> tuple[str, str]:
  """A sample worded for `question`, or '' and the reason why it cannot be."""
  body: str | None = _body(sample, rebuild)
  foreign = sample.lang != question.lang
  if foreign and body:
    body = translated[body, sample.lang, question.lang]
    if body is None:
      return '', 'untranslated'
  if not rebuild:
    if foreign and answers.parse(body, question).answer != sample.answer:
      return '', 'answer_changed'
    return body, ''
  for letter, option in zip(languages.LETTERS, question.options, strict=False):
    if option.key == sample.answer:
      text = prompts.completion(body, letter, option.text, question.lang)
      return text, ''
  return '', 'not_an_option'


def _row(
    draft: preferences.Draft,
    prompt: str,
    sides: list[str],
    opening: tuple[str, ...],
) -> records.Pair | records.Target:
  chosen = draft.chosen
  if draft.rejected is None:
    return records.Target(
        chosen.question_id, draft.lang, prompt, sides[0], draft.share, opening
    )
  return records.Pair(
      question_id=chosen.question_id,
      lang=draft.lang,
      prompt=prompt,
      chosen=sides[0],
      rejected=sides[1],
      chosen_lang=chosen.lang,
      vote_share=draft.share,
      opening=opening,
  )


def _write(folder: pathlib.Path, train: Rows, val: Rows) -> None:
  records.write_jsonl(folder / 'train.jsonl', train)
  records.write_jsonl(folder / 'val.jsonl', val)
  formats.write_trl(folder / 'trl_train.jsonl', train)
  formats.write_llamafactory(folder / 'llamafactory_train.json', train)


def _write_untranslated(
    path: pathlib.Path, translated: Mapping[translators.Wanted, str | None]
) -> None:
  """What a user could translate by hand, for translate.backend=files."""
  path.unlink(missing_ok=True)
  rows = [
      {'source': source, 'target': target, 'text': text, 'translation': ''}
      for (text, source, target), done in translated.items()
      if done is None
  ]
  if rows:
    records.write_jsonl(path, rows)


def _sorted(counts: collections.Counter[str]) -> dict[str, int]:
  return {name: counts[name] for name in sorted(counts) if counts[name]}
