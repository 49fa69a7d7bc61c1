"""Guesses a text's language, of the seven, by its script and stop words."""

from __future__ import annotations

import re

_KANA = re.compile('[\u3041-\u30fa\u30fc]')
_HAN = re.compile('[\u4e00-\u9fff]')
_LATIN = re.compile(r'[a-zà-öø-ÿœ]+')
# Frequent words, most of them of one language only.
_STOP = {
    'en': (
        'the of and to is that it for was are with as be this have from by not'
        ' or which an they their would can been has its who more when there'
    ),
    'fr': (
        'le les des est une du que qui dans pour pas sur au avec sont ce il'
        ' elle par plus ou cette peut être donc et nous mais ses aux leur'
    ),
    'it': (
        'il che di è per non sono con una del della gli nel alla dei più come'
        ' questo anche delle ha nella può essere perché e lo si i ma dalla'
    ),
    'de': (
        'der die und ist nicht das den mit von zu sich ein eine auf dem für im'
        ' es auch als wird sind kann oder werden einen einer bei daher wenn'
    ),
    'es': (
        'el los las que y es una del por con para no se su al como más pero sus'
        ' está son puede ser este lo porque muy también donde hay'
    ),
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
