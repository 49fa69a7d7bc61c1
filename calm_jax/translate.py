"""Stage 2: every question in every language.

A parallel release passes through; a question that lacks one of the languages
is translated from the first one it has.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
import dataclasses
import pathlib

from ml_collections import ConfigDict
import msgspec

from calm_jax import console, records, translators
from calm_jax.translators import files, guards

Counts = collections.Counter[str]
Translations = Mapping[translators.Wanted, str | None]


def complete(
    questions: Iterable[records.Question],
    languages: Sequence[str],
    translator: translators.Translator,
) -> tuple[list[records.Question], Counts]:
  """The questions in all `languages`, by question, then language; counts.

  kept, translated, and by reason what is not there: no_translator (for this
  direction), failed (the stem or an option came back empty) and
  other_language (a question in a language that is not asked for).
  """
  plan = lacking(questions, languages, translator)
  done = _translate(translator, plan.wanted())
  return filled(plan, languages, done, guards.flagged(done))


@dataclasses.dataclass
class Plan:
  """The questions that are there, and what to translate the others from."""

  versions: dict[str, dict[str, records.Question]]  # by id, then language
  sources: dict[tuple[str, str], records.Question]  # by id and lacking language
  counts: Counts

  def wanted(self) -> dict[translators.Wanted, list[str]]:
    """The texts to translate, each with the ids of its questions."""
    wanted: dict[translators.Wanted, list[str]] = {}
    for (name, lang), q in self.sources.items():
      for way in _ways(q, lang):
        wanted.setdefault(way, []).append(name)
    return wanted


def lacking(
    questions: Iterable[records.Question],
    languages: Sequence[str],
    translator: translators.Translator,
) -> Plan:
  """What is there, and what must be translated; see complete."""
  counts: Counts = collections.Counter()
  versions: dict[str, dict[str, records.Question]] = {}
  for question in questions:
    if question.lang in languages:
      versions.setdefault(question.id, {})[question.lang] = question
      counts['kept'] += 1
    else:
      counts['other_language'] += 1
  sources = _sources(versions, languages, translator, counts)
  return Plan(versions, sources, counts)


def filled(
    plan: Plan,
    languages: Sequence[str],
    done: Translations,
    changed: guards.Changes,
) -> tuple[list[records.Question], Counts]:
  """The plan's questions with what was translated; see complete."""
  versions = {name: dict(have) for name, have in plan.versions.items()}
  counts = plan.counts.copy()
  for (name, lang), source in plan.sources.items():
    question = _translated(source, lang, done, changed)
    if question is None:
      counts['failed'] += 1
    else:
      counts['translated'] += 1
      versions[name][lang] = question
  out = [v[lang] for v in versions.values() for lang in languages if lang in v]
  return out, counts


def run(cfg: ConfigDict, workdir: pathlib.Path) -> dict[str, float]:
  """Writes translate/train.jsonl and test.jsonl, and changed_facts.jsonl.

  Raises:
    guard.Refusal: it would cost more than config.translate.max_cost.
  """
  translator = translators.build(cfg, workdir)
  plans, wanted = {}, {}
  for split in ('train', 'test'):
    path = workdir / 'read' / f'{split}.jsonl'
    questions = records.read_jsonl(path, records.Question)
    plans[split] = lacking(questions, cfg.languages, translator)
    for text, names in plans[split].wanted().items():
      wanted[text] = wanted.get(text, []) + names
  # Both splits at once, so that their cost is known before either is sent.
  done = _translate(translator, wanted)
  total: dict[str, float] = {}
  changed = guards.flagged(done)
  for split, plan in plans.items():
    rows, counts = filled(plan, cfg.languages, done, changed)
    records.write_jsonl(workdir / 'translate' / f'{split}.jsonl', rows)
    total |= {f'{split}_{name}': n for name, n in sorted(counts.items())}
  lost = {k: n for k, n in total.items() if not k.endswith('_kept')}
  files.write_lacking(workdir / 'translate' / 'untranslated', done)
  console.say(f'  {_listed(lost)}' if lost else '  all languages are there')
  total |= guards.write(workdir / 'translate', changed, done, wanted)
  return total | translator.end()


def _translate(
    translator: translators.Translator, wanted: Collection[translators.Wanted]
) -> Translations:
  with console.progress('translate', len(wanted)) as bar:
    return translators.translate_all(translator, wanted, advance=bar.advance)


def _sources(
    versions: Mapping[str, Mapping[str, records.Question]],
    languages: Sequence[str],
    translator: translators.Translator,
    counts: Counts,
) -> dict[tuple[str, str], records.Question]:
  """What to translate from, by question id and the language it lacks."""
  sources = {}
  for name, have in versions.items():
    # Never a translation of a translation where the original is at hand.
    ranked = sorted(
        have.values(),
        key=lambda q: (q.translated_from is not None, languages.index(q.lang)),
    )
    for lang in languages:
      if lang in have:
        continue
      usable = [q for q in ranked if translator.supports(q.lang, lang)]
      if usable:
        sources[name, lang] = usable[0]
      else:
        counts['no_translator'] += 1
  return sources


def _translated(
    question: records.Question,
    lang: str,
    done: Translations,
    changed: guards.Changes,
) -> records.Question | None:
  ways = _ways(question, lang)
  stem, *texts = (done[way] for way in ways)
  if stem is None or None in texts:
    return None
  options = tuple(
      msgspec.structs.replace(option, text=text)
      for option, text in zip(question.options, texts, strict=True)
      if text is not None
  )
  return msgspec.structs.replace(
      question,
      lang=lang,
      stem=stem,
      options=options,
      translated_from=question.lang,
      changed=guards.kinds(c for way in ways for c in changed.get(way, ())),
  )


def _ways(question: records.Question, lang: str) -> list[translators.Wanted]:
  """What to translate of a question: its stem, then its options."""
  texts = (question.stem, *(option.text for option in question.options))
  return [(text, question.lang, lang) for text in texts]


def _listed(counts: Mapping[str, float]) -> str:
  return ', '.join(f'{n} {name}' for name, n in counts.items())
