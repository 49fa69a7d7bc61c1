"""Guesses a text's language, by its script and stop words."""

from __future__ import annotations

import re

from calm_jax.qa import languages

_KANA = re.compile('[\u3041-\u30fa\u30fc]')
_HAN = re.compile('[\u4e00-\u9fff]')
_LATIN = re.compile(r'[a-zà-öø-ÿœ]+')
_STOP = {
    lang: row.lexicon.frequent
    for lang, row in languages.LANGUAGES.items()
    if row.lexicon.frequent
}
_OF_WORD: dict[str, list[str]] = {}
for _lang, _words in _STOP.items():
  for _word in _words.split():
    _OF_WORD.setdefault(_word, []).append(_lang)
# Any other language has no words here, and a text in it may look like these.
KNOWN = frozenset({*_STOP, 'zh', 'ja'})
_LEAST = 3.0  # a word of one language counts 1, one of two languages 1/2
_CLEARLY = 1.5  # times the next language
_CJK_WORTH = 3  # Latin letters that say as much as one character


def guess(text: str) -> str | None:
  """The language of a text; None where it is too short or mixed to say."""
  words = _LATIN.findall(text.lower())
  kana, han = len(_KANA.findall(text)), len(_HAN.findall(text))
  if (kana + han) * _CJK_WORTH > sum(map(len, words)):
    if kana + han < 6:
      return None
    return 'ja' if kana > 0.1 * han else 'zh'
  hits = dict.fromkeys(_STOP, 0.0)
  for word in words:
    langs = _OF_WORD.get(word, ())
    for lang in langs:
      hits[lang] += 1.0 / len(langs)
  best, second = sorted(hits.values())[-1:-3:-1]
  if best < _LEAST or best < _CLEARLY * second:
    return None
  return next(lang for lang, n in hits.items() if n == best)
