"""The usual form of answers, read quickly, as it is read at length."""

from __future__ import annotations

import random

import pytest

from calm_jax.qa import answers, canonical, languages, prompts

REASON = {
    'en': 'Dogs bark at night, as well-known guards of the house do.',
    'zh': '狗在晚上会叫，因为它们看守房子，猫和鸟都不会这样做（参见第2条）。',
    'ja': '犬は夜に吠えます。家を守る動物として知られているからです。',
}
PIECES = (
    'Answer',
    'so the answer is',
    'Answer B',
    'answer',
    '答案是',
    'B',
    'est',
)
PIECES += (
    'Explanation:',
    'Reason',
    '*',
    '<B>',
    ':',
    '：',
    '- ',
    '->',
    '\n',
    ' ',
)
PIECES += (
    '\u3000',
    '\xa0',
    '.',
    '\\boxed',
    '\u200b',
    '\ufeff',
    'Ｂ',
    'Ⓑ',
    '＊',
    'Réponse',
    'é',
    '\r',
)


def at_length(monkeypatch, text):
  """The explanation that is found by looking for every header."""
  with monkeypatch.context() as m:
    m.setattr(canonical, 'explanation', lambda text: None)
    return answers.explanation.__wrapped__(text, 'en')


@pytest.mark.parametrize('lang', languages.LANGUAGES)
def test_completions_have_the_form(lang):
  reason = REASON.get(lang, REASON['en'])
  text = prompts.completion(reason, 'B', 'dog', lang)
  assert canonical.explanation(text) == reason


@pytest.mark.parametrize(
    'text',
    [
        'Erklärung:\n\n{}\n\nAntwort:\nB',
        '\n Explanation: {} \nAnswer: B\n\nAnswer: C',
        'Reasoning: {}\nAnswer: B',
        'Explanation: The answer is not the cat. {} {}\nAnswer: B',
    ],
)
def test_forms(monkeypatch, text):
  text = text.format(REASON['en'], REASON['en'])
  assert canonical.explanation(text) == at_length(monkeypatch, text)


@pytest.mark.parametrize(
    'text',
    [
        '{}\nAnswer: B',
        'Explanation: {} Answer: B',
        'Explanation: {}\n\nTwo.\nAnswer: B',
        'Explanation: {} So the answer is\nAnswer: B',
        'Explanation: {} Answer B.\nAnswer: C',
        'Explanation: {} It is: a dog.\nAnswer: B',
        'Explanation: *{}*\nAnswer: B',
        'Explanation:\nMost certain answer\nAnswer: B',
        'Explanation: Reasoning                    \nAnswer: B',
        'Explanation: -\nAnswer: B',
    ],
)
def test_other_forms(text):
  assert canonical.explanation(text.format(REASON['en'])) is None


def test_what_is_put_into_the_form_is_seen(monkeypatch):
  rng, found = random.Random(0), 0
  for _ in range(1500):
    lang = rng.choice(tuple(REASON))
    text = prompts.completion(REASON[lang], 'B', 'dog', lang)
    for piece in rng.choices(PIECES, k=rng.randint(1, 3)):
      at = rng.randint(0, len(text))
      text = text[:at] + piece + text[at:]
    said = canonical.explanation(text)
    found += said is not None
    if said is not None:
      assert said == at_length(monkeypatch, text), text
  assert found > 200
