"""What is known of a language; the languages are in tongues/."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class Wording:
  """Prompt text. `instruction` has one gap, `{letters}`.

  `passages` stands before passages of a corpus, numbered [1], [2] and so on.
  `comma` and `last_comma` join the letters: 'A, B or C'.
  """

  instruction: str
  your_explanation: str
  letter_and_option: str
  passages: str
  comma: str
  last_comma: str


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Words that real answers are written with, in lower case.

  `answer`, `explanation` and `question` are headers; `copula` joins a header
  to its answer ('is'); `lead` may stand between them ('option'); `join` is
  between two answers ('or'); `right` says that an option is correct; `no`
  denies what follows; `choose` is followed by the choice.
  """

  answer: tuple[str, ...]
  explanation: tuple[str, ...]
  question: tuple[str, ...]
  copula: tuple[str, ...]
  lead: tuple[str, ...]
  join: tuple[str, ...]
  right: tuple[str, ...]
  no: tuple[str, ...]
  choose: tuple[str, ...]


class Shot(NamedTuple):
  """A worked example; `others` are the wrong options, as many as needed."""

  stem: str
  gold: str
  others: tuple[str, ...]
  explanation: str


class Codes(NamedTuple):
  """What translators call the language; `opus` are the marks of a target.

  Apertium has two names for each of its languages, or does not know it.
  """

  google: str
  nllb: str
  opus: tuple[str, ...]
  apertium: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Lexicon:
  """Words by which texts are compared and recognised, with spaces between.

  `numbers` are those of one to ten, `units` by symbol (a no-break space is part
  of a name), `option` is what may stand before a letter, `frequent` are words
  that hardly any other language has. What is empty is not looked for.
  """

  numbers: tuple[str, ...] = ()
  units: tuple[tuple[str, str], ...] = ()
  option: str = ''
  frequent: str = ''


@dataclasses.dataclass(frozen=True)
class Language:
  """One language; `question`, `explanation`, `answer` are prompt headers.

  `colon` is what stands between a header and its text, spaces included;
  `spaced` says whether there are spaces between sentences.
  """

  code: str
  name: str
  native: str
  question: str
  explanation: str
  answer: str
  colon: str
  wording: Wording
  vocabulary: Vocabulary
  shots: tuple[Shot, ...]
  codes: Codes
  spaced: bool
  lexicon: Lexicon = Lexicon()
