"""The paper's results (arXiv 2501.18457), in percent, to be shown beside ours.

A table has the systems by the names that configs/paper gives them. Its columns
are languages and metrics; of votes they are those of html/winners.py with a
language, as won_en: the part of the winning votes that is English. Its numbers
are known here as far as the paper's text was at hand: a cell that is missing is
one that nobody has copied from the paper yet, and is shown as blank.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

_LANGS = ('en', 'zh', 'fr', 'it', 'de', 'ja')
# The paper's consistency is over the questions parsed in all languages.
CONSISTENCY = 'consistency_2_parsed'
AC3 = 'ac3_2_parsed'
_COLUMNS = (*_LANGS, CONSISTENCY, AC3)

Row = Mapping[str, float]  # by column


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows by system; `reported` has every system of which the paper tells.

  A table that is of each data set alone has `parts` in place of `rows`: by data
  set, its rows.
  """

  title: str
  reported: tuple[str, ...]
  rows: Mapping[str, Row] = dataclasses.field(default_factory=dict)
  of_votes: bool = False  # who won the vote, and not what was answered
  parts: Mapping[str, Mapping[str, Row]] = dataclasses.field(
      default_factory=dict
  )

  def value(self, system: str, column: str) -> float | None:
    return self.rows.get(system, {}).get(column)

  def of(self, part: str) -> Table | None:
    """What it tells of one data set of several; '': of all together."""
    if not self.parts:
      return None if part else self
    if part not in self.parts:
      return None
    title = f'{self.title}, {part}'
    return Table(title, self.reported, self.parts[part])


def _row(*values: float) -> Row:
  return dict(zip(_COLUMNS, values, strict=True))


def _untold(title: str, *systems: str) -> Table:
  return Table(title, systems)


_LLAMA_XCSQA = {
    'base': _row(73.1, 52.1, 60.8, 59.8, 57.5, 49.2, 57.73, 58.24),
    'sft': _row(73.8, 53.2, 62.3, 60.0, 59.8, 51.0, 59.67, 60.82),
    'calm': _row(74.1, 57.6, 65.0, 64.7, 60.9, 53.6, 61.13, 61.70),
}
_LLAMA_MEDQA = {
    'base': {'en': 60.1, 'zh': 56.2},
    'sft': {'en': 62.4, 'zh': 57.1},
    'calm': {'en': 63.5, 'zh': 59.5},
}
_MISTRAL_XCSQA = {
    'base': {'en': 60.1, CONSISTENCY: 50.51, AC3: 50.51},
    'calm': {'en': 68.1, CONSISTENCY: 57.27, AC3: 57.67},
}
_TABLE1 = ('base', 'sft', 'calm')
_GOLD = ('base', 'sft_gold', 'dpo_gold', 'calm')
_GROWING = ('en', 'en_fr', 'en_fr_zh')
_GROWING_ON = ('en_fr_zh_de', 'en_fr_zh_de_it', 'en_fr_zh_de_it_ja')


def _of(rows: Mapping[str, Row], *systems: str) -> dict[str, Row]:
  return {name: rows[name] for name in systems}


TABLES: dict[str, Table] = {
    'table1_llama_xcsqa': Table(
        'Table 1, Llama-3-8B-Instruct, X-CSQA', _TABLE1, _LLAMA_XCSQA
    ),
    'table1_llama_medqa': Table(
        'Table 1, Llama-3-8B-Instruct, MEDQA', _TABLE1, _LLAMA_MEDQA
    ),
    'table1_mistral_xcsqa': Table(
        'Table 1, Mistral-7B-Instruct-v0.2, X-CSQA', _TABLE1, _MISTRAL_XCSQA
    ),
    'table1_mistral_medqa': _untold(
        'Table 1, Mistral-7B-Instruct-v0.2, MEDQA', *_TABLE1
    ),
    'table1_selfrag_medqa': _untold(
        'Table 1, Self-RAG-7B, MEDQA with retrieval', *_TABLE1
    ),
    # The gold labels' rows are Table 3's own, the other two those of Table 1.
    'table3_llama_xcsqa': Table(
        'Table 3, gold labels, Llama-3-8B-Instruct, X-CSQA',
        _GOLD,
        _of(_LLAMA_XCSQA, 'base', 'calm'),
    ),
    'table3_llama_medqa': Table(
        'Table 3, gold labels, Llama-3-8B-Instruct, MEDQA',
        _GOLD,
        _of(_LLAMA_MEDQA, 'base', 'calm'),
    ),
    'table4_cross_dataset': _untold(
        'Table 4, trained on one data set, tested on the other',
        'medqa_on_xcsqa',
        'xcsqa_on_medqa',
    ),
    'table7_8_votes': Table(
        'Tables 7 and 8, who wins the vote', ('xcsqa', 'medqa'), of_votes=True
    ),
    'table9_full_medqa': Table(
        'Table 9, all of MEDQA',
        _TABLE1,
        parts={'medqa_us_4': {}, 'medqa_mainland_4': {}},
    ),
    # The untrained model and all six languages are Table 1's base and CALM.
    'table10_incremental': Table(
        'Table 10, one language after another (base: from Table 1)',
        ('base', *_GROWING),
        _of(_LLAMA_XCSQA, 'base'),
    ),
    'figure3_languages': Table(
        'Figure 3, number of languages (none, all six: from Table 1)',
        ('base', *_GROWING, *_GROWING_ON),
        {
            'base': _LLAMA_XCSQA['base'],
            _GROWING_ON[-1]: _LLAMA_XCSQA['calm'],
        },
    ),
}
