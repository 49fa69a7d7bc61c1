"""Whether style alone tells the chosen side of a pair from the rejected one.

A logistic regression on the difference of both sides' surface features, which
know form and no content: where it does better than a coin on questions that it
has not seen, a model can learn that form instead of the preference.
"""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
import re
from typing import Any

import numpy as np

from calm_jax import records
from calm_jax.qa import headers, wrappers

_PUNCTUATION = '.,;:!?()"\'-*。，、：？！（）「」'
_RATES = {
    'capitals': re.compile(r'[A-ZÀ-ÖØ-Þ]'),
    'digits': re.compile(r'\d'),
    'Latin letters': re.compile(r'[A-Za-zÀ-ÿ]'),
    'kana': re.compile('[\u3041-\u30fa]'),
    'Chinese characters': re.compile('[\u4e00-\u9fff]'),
    'spaces': re.compile('[ \u3000]'),
    **{f'sign {c}': re.compile(re.escape(c)) for c in _PUNCTUATION},
}
_COUNTS = {
    'line breaks': re.compile('\n'),
    'blank lines': re.compile(r'\n[ \t]*(?=\n)'),
    'lists': re.compile(r'(?m)^[ \t]*(?:[-*•]|\d+[.)])[ \t]'),
    'bold': re.compile(r'\*\*'),
    'colon, no space': re.compile(r':(?=[^\s/])'),
    'colon, space': re.compile(r'[:：][ \u3000]'),
    'space, colon': re.compile(r'\s[:：]'),
    'stop, no space': re.compile(r'[a-zà-ÿ][.!?][A-ZÀ-Þ]'),
    'space at line end': re.compile(r'(?m)[ \t]$'),
    'letter and stop': re.compile(r'(?<![\w])[A-E]\. ?\S'),
}
_OTHERS = (
    'length',
    'words',
    'longest line',
    'last line',
    'answer headers',
    'explanation headers',
    'opens with a header',
    'ends in a stop',
    'ends in a colon',
    'text after the answer',
)
FEATURES = (*_RATES, *_COUNTS, *_OTHERS)
_FOLDS = 5
_LEAST_QUESTIONS = 10
_RIDGE = 1.0
_RESAMPLES = 1000


def features(text: str) -> np.ndarray:
  """The surface of a text, in the order of FEATURES."""
  size = max(len(text), 1)
  rates = [len(form.findall(text)) / size for form in _RATES.values()]
  counts = [np.log1p(len(form.findall(text))) for form in _COUNTS.values()]
  return np.array([*rates, *counts, *_others(text)], np.float64)


def measure(
    pairs: Sequence[records.Pair], *, seed: int = 0
) -> dict[str, Any] | None:
  """Accuracy in percent on unseen questions, its 95 % interval, what tells.

  50 is no style leak. None where there are too few questions.
  """
  if len({p.question_id for p in pairs}) < _LEAST_QUESTIONS:
    return None
  seen: dict[str, np.ndarray] = {}
  for pair in pairs:
    for text in (pair.chosen, pair.rejected):
      if text not in seen:
        seen[text] = features(text)
  x = np.stack([seen[p.chosen] - seen[p.rejected] for p in pairs])
  ids, question = np.unique([p.question_id for p in pairs], return_inverse=True)
  right = _cross_validated(x, _folds(ids, seed)[question])
  low, high = _interval(right, question, seed)
  return {
      'accuracy': 100.0 * float(right.mean()),
      'low': low,
      'high': high,
      'pairs': len(pairs),
      'questions': len(ids),
      'tells': _tells(x),
  }


def _others(text: str) -> list[float]:
  low = wrappers.lower(wrappers.view(wrappers.compose(text)))
  answers = [h for h in headers.answers(low) if h.marked]
  explanations = headers.explanations(low, 0, len(low))
  lines = [len(line) for line in text.split('\n')]
  end = low.rstrip()[-1:]
  after = low[answers[0].end :].strip().partition('\n')[2] if answers else ''
  return [
      np.log1p(len(text)),
      np.log1p(len(text.split())),
      np.log1p(max(lines)),
      np.log1p(lines[-1]),
      float(len(answers)),
      float(len(explanations)),
      float(any(h.start == 0 for h in explanations)),
      float(end in ('.', '。')),
      float(end == ':'),
      np.log1p(len(after)),
  ]


def _folds(ids: np.ndarray, seed: int) -> np.ndarray:
  """A fold for every question: none is trained and tested on."""
  rank = lambda name: hashlib.sha256(f'{seed}|{name}'.encode()).digest()
  order = sorted(range(len(ids)), key=lambda i: rank(ids[i]))
  folds = np.empty(len(ids), np.int64)
  folds[order] = np.arange(len(ids)) % _FOLDS
  return folds


def _cross_validated(x: np.ndarray, fold: np.ndarray) -> np.ndarray:
  """Per pair 1 if its sides are told apart, 1/2 if they look the same."""
  right = np.empty(len(x))
  for k in range(_FOLDS):
    test = fold == k
    margin = _scaled(x[test], x[~test]) @ _fit(_scaled(x[~test], x[~test]))
    margin = np.where(np.abs(margin) < 1e-9, 0.0, margin)
    right[test] = (1.0 + np.sign(margin)) / 2.0
  return right


def _scaled(x: np.ndarray, by: np.ndarray) -> np.ndarray:
  # Not centred: the mean difference is what tells the sides apart.
  spread = np.sqrt((by**2).mean(0))
  return x / np.where(spread > 0, spread, 1.0)


def _fit(x: np.ndarray) -> np.ndarray:
  """Weights under which chosen minus rejected scores above 0, by Newton."""
  weights = np.zeros(x.shape[1])
  for _ in range(30):
    p = 1.0 / (1.0 + np.exp(np.clip(x @ weights, -30.0, 30.0)))
    gradient = x.T @ p - _RIDGE * weights
    hessian = (x.T * (p * (1.0 - p))) @ x + _RIDGE * np.eye(x.shape[1])
    step = np.linalg.solve(hessian, gradient)
    weights += step
    if np.abs(step).max() < 1e-6:
      break
  return weights


def _interval(
    right: np.ndarray, question: np.ndarray, seed: int
) -> tuple[float, float]:
  """Bootstrap over questions, as pairs of one question are alike."""
  total, count = np.bincount(question, right), np.bincount(question)
  draws = np.random.default_rng(seed).integers(
      len(count), size=(_RESAMPLES, len(count))
  )
  accuracy = 100.0 * total[draws].sum(1) / count[draws].sum(1)
  low, high = np.percentile(accuracy, (2.5, 97.5))
  return float(low), float(high)


def _tells(x: np.ndarray, most: int = 5) -> list[dict[str, Any]]:
  """The features with the largest weights; above 0, chosen has more."""
  weights = _fit(_scaled(x, x))
  order = np.argsort(-np.abs(weights))[:most]
  return [
      {'feature': FEATURES[i], 'weight': round(float(weights[i]), 3)}
      for i in order
      if weights[i]
  ]
