"""The languages that questions are asked in."""

from __future__ import annotations

import difflib
import importlib
import string

from calm_jax.qa import language

# How options are shown; letter i stands for options[i].
LETTERS = string.ascii_uppercase

Language = language.Language
Vocabulary = language.Vocabulary
Wording = language.Wording

# Modules, each with the ROW of one language.
MODULES = (
    'calm_jax.qa.tongues.en',
    'calm_jax.qa.tongues.zh',
    'calm_jax.qa.tongues.fr',
    'calm_jax.qa.tongues.it',
    'calm_jax.qa.tongues.de',
    'calm_jax.qa.tongues.ja',
    'calm_jax.qa.tongues.es',
)

LANGUAGES: dict[str, Language] = {
    row.code: row
    for row in (importlib.import_module(name).ROW for name in MODULES)
}


def get(code: str) -> Language:
  """The row of a language; raises ValueError on an unknown code."""
  if code in LANGUAGES:
    return LANGUAGES[code]
  # Country codes are the usual mistake, and no spelling distance finds them.
  names = {'cn': 'zh', 'jp': 'ja', 'sp': 'es'}
  for row in LANGUAGES.values():
    names |= {row.code: row.code, row.name.lower(): row.code}
    names |= {row.native.lower(): row.code}
  near = difflib.get_close_matches(str(code).lower(), names, n=1, cutoff=0.0)
  raise ValueError(
      f'unknown language {code!r}; the languages are {", ".join(LANGUAGES)}.'
      f' Did you mean {names[near[0]]!r}?'
  )
