"""The checks of lint_pairs: headers, answers, languages, repetitions, style."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import pathlib
import re
from typing import Any

import msgspec
import numpy as np

from calm_jax import formats, records
from calm_jax.qa import answers, headers, languages, wrappers
from tools import lint_language, lint_style

# What each count means, in the order of the table.
CHECKS = {
    'leaked_header': 'a header that stands twice, or asks another question',
    'contradiction': 'the explanation seems to name another option',
    'no_answer': 'no option can be read as the answer',
    'wrong_language': 'an explanation in another language than the prompt',
    'same_text': 'both sides are the same text',
    'duplicate': 'a row that was there before',
}
_OF_PAIRS = ('same_text', 'duplicate')  # the others are of one side
_SIDES = ('chosen', 'rejected')
_SHOWN = 5  # row numbers given as examples
_OPTION = re.compile(r'(?m)^\s*[(（]?([A-Z])[.．)）:：、]\s*(\S.*)$')

Found = dict[str, dict[str, list[int]]]  # check, side, row numbers


def read(path: pathlib.Path) -> list[records.Pair]:
  """The pairs of a file, with a language guessed where it names none.

  Raises:
    ValueError: a row is not a preference, or there is none.
  """
  pairs = formats.read_pairs(path)
  if not pairs:
    raise ValueError(f'{path}: holds no pairs')
  return [p if p.lang != 'und' else _with_language(p) for p in pairs]


def lint(pairs: Sequence[records.Pair]) -> dict[str, Any]:
  """How many rows fail each check, which ones, and what style tells."""
  found: Found = {
      name: {s: [] for s in (['pair'] if name in _OF_PAIRS else _SIDES)}
      for name in CHECKS
  }
  seen: set[tuple[str, str, str]] = set()
  options: dict[str, tuple[records.Option, ...]] = {}
  for number, pair in enumerate(pairs, 1):
    if pair.prompt not in options:
      options[pair.prompt] = _options(pair.prompt)
    for side, text in (('chosen', pair.chosen), ('rejected', pair.rejected)):
      for name in _problems(text, pair.lang, options[pair.prompt]):
        found[name][side].append(number)
    if pair.chosen == pair.rejected:
      found['same_text']['pair'].append(number)
    row = pair.prompt, pair.chosen, pair.rejected
    if row in seen:
      found['duplicate']['pair'].append(number)
    seen.add(row)
  unread = sum(not options[p.prompt] for p in pairs)
  return {
      'pairs': len(pairs),
      'questions': len({p.question_id for p in pairs}),
      'languages': dict(collections.Counter(p.lang for p in pairs)),
      'options_unread': unread,
      **{name: _told(sides) for name, sides in found.items()},
      'length_ratio': _length_ratio(pairs),
      'style': lint_style.measure(pairs),
  }


def _problems(
    text: str, lang: str, options: tuple[records.Option, ...]
) -> list[str]:
  """The checks that a side fails."""
  out = ['leaked_header'] if _leaks(text) else []
  reason = answers.explanation(text, 'en')  # it knows all languages' headers
  heard = lint_language.guess(reason)
  if heard is not None and lang in lint_language.KNOWN and heard != lang:
    out.append('wrong_language')
  if options:
    question = records.Question('', '', '', lang, '', options)
    answer = answers.parse(text, question).answer
    said = answers.parse(reason, question).answer
    if answer is None:
      out.append('no_answer')
    elif said not in (None, answer):
      out.append('contradiction')
  return out


def _leaks(text: str) -> bool:
  low = wrappers.lower(wrappers.view(wrappers.compose(text)))
  if headers.next_question(low, 0) < len(low):
    return True
  given = [h for h in headers.answers(low) if h.marked]
  return len(given) > 1 or len(headers.explanations(low, 0, len(low))) > 1


def _options(prompt: str) -> tuple[records.Option, ...]:
  """The last A, B, C ... of a prompt; () where there are not two."""
  out: list[records.Option] = []
  for letter, text in _OPTION.findall(prompt):
    if letter == 'A':
      out = []
    if len(out) < 26 and letter == languages.LETTERS[len(out)]:
      out.append(records.Option(letter, text.strip()))
  return tuple(out) if len(out) > 1 else ()


def _with_language(pair: records.Pair) -> records.Pair:
  lang = lint_language.guess(pair.prompt) or 'und'
  return msgspec.structs.replace(pair, lang=lang, chosen_lang=lang)


def _told(sides: dict[str, list[int]]) -> dict[str, dict[str, Any]]:
  return {
      side: {'count': len(rows), 'rows': rows[:_SHOWN]}
      for side, rows in sides.items()
  }


def _length_ratio(pairs: Sequence[records.Pair]) -> dict[str, float]:
  ratios = [len(p.chosen) / max(len(p.rejected), 1) for p in pairs]
  low, median, high = np.percentile(ratios, (5, 50, 95))
  return {'median': float(median), 'p5': float(low), 'p95': float(high)}
