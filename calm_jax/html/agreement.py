"""What predictions say together: languages that agree, answers that moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses

from markupsafe import Markup

from calm_jax import records
from calm_jax.html import plots

Matrix = list[list[float | None]]
# The answers of two languages to each question, to a percentage.
Consistency = Callable[[Sequence[tuple[str | None, str | None]]], float]


@dataclasses.dataclass(frozen=True)
class Given:
  """An answer to one question in one language."""

  answer: str | None
  gold: str | None

  @property
  def right(self) -> bool:
    return self.answer is not None and self.answer == self.gold


# Question id, then language.
Answers = dict[str, dict[str, Given]]


@dataclasses.dataclass(frozen=True)
class Moves:
  """How one language's answers changed from one system to another."""

  lang: str
  questions: int
  changed: int
  fixed: int
  broken: int


def collect(predictions: Iterable[records.Prediction]) -> dict[str, Answers]:
  """The answers of each system, systems in order of appearance."""
  systems: dict[str, Answers] = {}
  for p in predictions:
    answers = systems.setdefault(p.system, {})
    answers.setdefault(p.question_id, {})[p.lang] = Given(p.answer, p.gold)
  return systems


def languages(
    systems: Iterable[Answers], langs: Sequence[str]
) -> tuple[str, ...]:
  """The languages answered in: as `langs` has them, then any others."""
  seen = {lang for a in systems for given in a.values() for lang in given}
  others = sorted(seen.difference(langs))
  return (*(lang for lang in langs if lang in seen), *others)


def pairwise(
    answers: Answers, langs: Sequence[str], consistency: Consistency
) -> Matrix:
  """`consistency` of every two languages over the questions they share.

  None on the diagonal, and where two languages share no question.
  """
  matrix: Matrix = [[None] * len(langs) for _ in langs]
  for i, a in enumerate(langs):
    for j, b in enumerate(langs[:i]):
      both = [
          (q[a].answer, q[b].answer)
          for q in answers.values()
          if a in q and b in q
      ]
      if both:
        matrix[i][j] = matrix[j][i] = consistency(both)
  return matrix


def moves(before: Answers, after: Answers, langs: Sequence[str]) -> list[Moves]:
  """Answers that became another, right or wrong; languages with none left out.

  `fixed` and `broken` count only questions with a gold answer.
  """
  rows = []
  for lang in langs:
    both = [
        (given[lang], after[i][lang])
        for i, given in before.items()
        if lang in given and lang in after.get(i, {})
    ]
    if both:
      changed = sum(a.answer != b.answer for a, b in both)
      fixed = sum(b.right and not a.right for a, b in both)
      broken = sum(a.right and not b.right for a, b in both)
      rows.append(Moves(lang, len(both), changed, fixed, broken))
  return rows


def figures(
    matrices: Mapping[str, Matrix], langs: Sequence[str]
) -> dict[str, Markup]:
  """A heat map a system, all on one colour scale."""
  values = [
      v for m in matrices.values() for row in m for v in row if v is not None
  ]
  if not values:
    return {}
  labels = [lang.upper() for lang in langs]
  return {
      system: plots.heat(
          labels,
          matrix,
          title=f'Answers alike, {system}, percent of questions',
          low=min(values),
          high=max(values),
      )
      for system, matrix in matrices.items()
  }
