"""Pairs and targets in words: prompts, completions, translations.

Where both sides are of different languages, the chosen one is translated into
the language of the rejected one, which is that of the prompt.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from calm_jax import records, translators
from calm_jax.qa import answers, languages, preferences, prompts
from calm_jax.retrieval import evidence
from calm_jax.translators import guards

Questions = Mapping[tuple[str, str], records.Question]  # by id and language
Drafts = Sequence[preferences.Draft]
Rows = Sequence[records.Pair | records.Target]


class Side(NamedTuple):
  """A sample in words, or the reason why there are none."""

  text: str
  problem: str = ''
  changed: tuple[str, ...] = ()  # as a Pair's


def worded(
    drafts: Drafts,
    questions: Questions,
    translated: Mapping[translators.Wanted, str | None],
    changed: guards.Changes,
    *,
    rebuild: bool,
    render: Callable[[records.Question], str],
    openings: evidence.Openings | None = None,
) -> tuple[Rows, preferences.Counts]:
  """The rows of all drafts, and what was dropped.

  rebuild words both sides alike, so that style tells nothing; otherwise both
  stay as sampled, and a translation must still name the same option
  (answer_changed counts those that do not). Both go on from what the chosen
  sample went on from. `changed` flags the rows that are worded with it.
  """
  counts: preferences.Counts = collections.Counter()
  rows: dict[records.Pair | records.Target, tuple[str, ...]] = {}
  asked: dict[tuple[str, str], str] = {}
  texts: dict[tuple[str, ...], Side] = {}
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
          texts[key] = _completion(
              sample, question, translated, changed, rebuild
          )
        sides.append(texts[key])
    if problem := next((side.problem for side in sides if side.problem), ''):
      counts[problem] += 1
      continue
    chosen = draft.chosen
    opening = (openings or {}).get((where[0], chosen.lang, chosen.index), ())
    row = _row(draft, asked[where], [side.text for side in sides], opening)
    known = len(rows)
    rows.setdefault(row, sides[0].changed)
    if len(rows) == known:
      counts['duplicate'] += 1
  return [
      msgspec.structs.replace(row, changed=flag) if flag else row
      for row, flag in rows.items()
  ], counts


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


def _body(sample: records.Sample, rebuild: bool) -> str:
  if rebuild:
    return answers.explanation(sample.text, sample.lang)
  return sample.text


def _completion(
    sample: records.Sample,
    question: records.Question,
    translated: Mapping[translators.Wanted, str | None],
    changed: guards.Changes,
    rebuild: bool,
) -> Side:
  """A sample worded for `question`."""
  facts: tuple[str, ...] = ()
  body: str | None = _body(sample, rebuild)
  foreign = sample.lang != question.lang
  if foreign and body:
    way = body, sample.lang, question.lang
    body = translated[way]
    if body is None:
      return Side('', 'untranslated')
    facts = guards.kinds(changed.get(way, ()))
  if not rebuild:
    if foreign and answers.parse(body, question).answer != sample.answer:
      return Side('', 'answer_changed')
    return Side(body, changed=facts)
  for letter, option in zip(languages.LETTERS, question.options, strict=False):
    if option.key == sample.answer:
      text = prompts.completion(body, letter, option.text, question.lang)
      return Side(text, changed=facts)
  return Side('', 'not_an_option')


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
