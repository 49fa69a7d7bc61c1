"""Joins the languages of a data set: the same question, the same options.

A question that does not fit is left out and counted, by these reasons or by
one that a reader found in a single row:

  missing_language  a language has no row for it
  blank_text        a stem or an option is empty in a language
  labels_differ     the languages label their options differently
  options_moved     the options' own texts say that the labels were permuted
  gold_differs      the languages disagree about the right option
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
import itertools
import re
import unicodedata

from calm_jax import records

# A question, or why its row cannot be one.
Version = records.Question | str
Versions = Mapping[str, Version]  # by question id
Counts = dict[str, int]

_NUMBER = re.compile(r'\d+(?:[.,]\d+)*')
# Other files of a release may hold a few rows more, not another data set.
_MOST_EXTRA = 0.05
# Options whose order can be checked, and the part of them that may disagree: a
# single word may mean something else elsewhere.
_LEAST_CHECKED = 10
_MOST_MOVED = 0.2


def align(
    languages: Mapping[str, Versions],
) -> tuple[list[records.Question], Counts]:
  """The questions that are sound in every language, and the drops by reason.

  Ordered by question (as in the first language), then by language.

  Raises:
    ValueError: the options of a language seem to stand in another order.
  """
  kept: list[records.Question] = []
  dropped = collections.Counter()
  whole: list[list[records.Question]] = []
  for name in dict.fromkeys(i for rows in languages.values() for i in rows):
    found = [rows[name] for rows in languages.values() if name in rows]
    sound = [v for v in found if isinstance(v, records.Question)]
    reasons = [v for v in found if isinstance(v, str)]
    if reasons:
      dropped[reasons[0]] += 1
    elif len(sound) < len(languages):
      dropped['missing_language'] += 1
    else:
      whole.append(sound)
      if reason := _misfit(sound):
        dropped[reason] += 1
      else:
        kept += sound
  _refuse_permuted(*evidence(whole))
  return kept, dict(dropped)


def evidence(
    questions: Iterable[Sequence[records.Question]],
) -> tuple[collections.Counter[str], collections.Counter[str]]:
  """By language: how often options' order can be checked, and disagrees.

  It is compared with English, or else the first language, where one option at
  least has the same number or name in both.
  """
  checked, moved = collections.Counter(), collections.Counter()
  for versions in questions:
    ours = next((q for q in versions if q.lang == 'en'), versions[0])
    known = _signs(ours)
    for other in versions:
      theirs = _signs(other) if other is not ours else {}
      if shared := known.keys() & theirs.keys():
        checked[other.lang] += 1
        moved[other.lang] += any(known[s] != theirs[s] for s in shared)
  return checked, moved


def _refuse_permuted(
    checked: Mapping[str, int], moved: Mapping[str, int]
) -> None:
  for lang, n in checked.items():
    if n >= _LEAST_CHECKED and moved[lang] > _MOST_MOVED * n:
      raise ValueError(
          f'options of {lang} look permuted: in {moved[lang]} of {n} questions'
          ' a number or name that another language has too stands under another'
          ' label. Give every language the same order of options, or leave'
          f' {lang} out of config.languages'
      )


def match(first: Sequence[str], other: Sequence[str]) -> list[int | None]:
  """For each text of `first`, the row of `other` that renders it, or None.

  Both are in the same order, but one of them may have some rows more: those
  are left out that let the numbers in the texts agree best.

  Raises:
    ValueError: the lengths differ by more than a few percent.
  """
  extra = len(other) - len(first)
  if abs(extra) > _MOST_EXTRA * len(first):
    raise ValueError(
        f'has {len(other)} rows, but the file that it renders {len(first)}:'
        ' they do not hold the same questions'
    )
  if extra >= 0:
    return [*_choose(first, other)]
  chosen = _choose(other, first)
  partner = {row: i for i, row in enumerate(chosen)}
  return [partner.get(row) for row in range(len(first))]


def alike(one: str, two: str) -> bool:
  """Whether two texts are the same but for case, spaces and punctuation."""
  return _letters(one) == _letters(two)


def _misfit(versions: Sequence[records.Question]) -> str:
  """Why one question's languages do not belong together, '' if they do."""
  texts = [[q.stem, *(o.text for o in q.options)] for q in versions]
  if not all(text for row in texts for text in row):
    return 'blank_text'
  if len({frozenset(o.key for o in q.options) for q in versions}) > 1:
    return 'labels_differ'
  if any(_moved(a, b) for a, b in itertools.combinations(versions, 2)):
    return 'options_moved'
  if len({q.gold for q in versions}) > 1:
    return 'gold_differs'
  return ''


def _moved(one: records.Question, two: records.Question) -> bool:
  """Whether options that translation leaves alone stand under other labels.

  Such are numbers and names. One is not enough: German 'lose' is English
  'loose', and no permutation moves only one option.
  """
  ours, theirs = _signs(one), _signs(two)
  shared = ours.keys() & theirs.keys()
  return sum(ours[sign] != theirs[sign] for sign in shared) > 1


def _signs(question: records.Question) -> dict[str, str]:
  """The label of each option that its numbers, or else its letters, tell."""
  signs = [(_sign(o.text), o.key) for o in question.options]
  counts = collections.Counter(sign for sign, _ in signs)
  return {sign: key for sign, key in signs if sign and counts[sign] == 1}


def _sign(text: str) -> str:
  numbers = _numbers(text)
  return ' '.join(numbers) if numbers else _letters(text)


def _numbers(text: str) -> list[str]:
  text = unicodedata.normalize('NFKC', text)
  return [n.replace(',', '.') for n in _NUMBER.findall(text)]


def _letters(text: str) -> str:
  text = unicodedata.normalize('NFKC', text)
  return re.sub(r'[\W_]+', '', text).casefold()


def _choose(short: Sequence[str], long: Sequence[str]) -> list[int]:
  """The rows of `long`, in order, that agree best with those of `short`."""
  shifts = range(len(long) - len(short) + 1)
  if len(shifts) == 1:
    return list(range(len(long)))
  ours = [collections.Counter(_numbers(text)) for text in short]
  theirs = [collections.Counter(_numbers(text)) for text in long]
  best = [0.0 for _ in shifts]
  steps: list[list[int]] = []  # steps[i][s]: the shift of row i - 1
  for i, numbers in enumerate(ours):
    came = [max(range(s + 1), key=lambda p: best[p]) for s in shifts]
    gains = [_agreement(numbers, theirs[i + s]) for s in shifts]
    best = [best[came[s]] + gains[s] for s in shifts]
    steps.append(came)
  shift = max(shifts, key=lambda s: best[s])
  chosen = []
  for i in reversed(range(len(short))):
    chosen.append(i + shift)
    shift = steps[i][shift]
  return chosen[::-1]


def _agreement(
    one: collections.Counter[str], two: collections.Counter[str]
) -> float:
  """The part of the numbers that two texts share, 0 without numbers."""
  union = (one | two).total()
  return (one & two).total() / union if union else 0.0
