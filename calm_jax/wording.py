"""Pairs and targets in words: prompts, completions, translations.

Where both sides are of different languages, the chosen one is translated into
the language of the rejected one, which is that of the prompt.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from calm_jax import records, translators
from calm_jax.qa import answers, languages, preferences, prompts
from calm_jax.retrieval import evidence
from calm_jax.translators import guards

Questions = Mapping[tuple[str, str], records.Question]  # by id and language
Drafts = Sequence[preferences.Draft]
Rows = Sequence[records.Pair | records.Target]


class Side(msgspec.Struct, frozen=True):
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
  rows: dict[tuple[Any, ...], records.Pair | records.Target] = {}
  asked: dict[tuple[str, str], str] = {}
  texts: dict[tuple[str, str, str, int], Side] = {}

  def side(sample: records.Sample, question: records.Question) -> Side:
    key = question.id, question.lang, sample.lang, sample.index
    if key not in texts:
      texts[key] = _side(sample, question, translated, changed, rebuild)
    return texts[key]

  for draft in drafts:
    sample = draft.chosen
    where = sample.question_id, draft.lang
    question = questions[where]
    chosen = side(sample, question)
    rejected = side(draft.rejected, question) if draft.rejected else None
    if problem := chosen.problem or (rejected.problem if rejected else ''):
      counts[problem] += 1
      continue
    opening = ()
    if openings:
      opening = openings.get((where[0], sample.lang, sample.index), ())
    # A target does not say whose answer it was.
    pair = (sample.lang, rejected.text) if rejected else ()
    key = (*where, chosen.text, *pair, opening)
    if key in rows:
      counts['duplicate'] += 1
      continue
    if where not in asked:
      asked[where] = render(question)
    rows[key] = _row(draft, asked[where], chosen, rejected, opening)
  return list(rows.values()), counts


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


def _side(
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
    chosen: Side,
    rejected: Side | None,
    opening: tuple[str, ...],
) -> records.Pair | records.Target:
  question_id, lang = draft.chosen.question_id, draft.lang
  if rejected is None:
    return records.Target(
        question_id=question_id,
        lang=lang,
        prompt=prompt,
        completion=chosen.text,
        vote_share=draft.share,
        opening=opening,
        changed=chosen.changed,
    )
  return records.Pair(
      question_id=question_id,
      lang=lang,
      prompt=prompt,
      chosen=chosen.text,
      rejected=rejected.text,
      chosen_lang=draft.chosen.lang,
      vote_share=draft.share,
      opening=opening,
      changed=chosen.changed,
  )
