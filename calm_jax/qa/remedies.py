"""What to change where the votes leave no pair to train on."""

from __future__ import annotations

from collections.abc import Mapping

_REMEDIES = {
    'no_winner': 'break ties (vote.ties=first_seen) or raise sample.m',
    'low_share': 'lower pair.min_share',
    'low_margin': 'lower pair.min_margin',
    'no_gold': 'set pair.gold=none: these questions have no label',
    'not_gold': 'set pair.gold=none to learn from the vote as it is',
    'no_english': (
        'let any language be chosen (pair.positives=last, and pair.gold=none'
        ' or paper), or raise sample.m'
    ),
    'unparsed': (
        'let every sample name an option (sample.answer=two_stage,'
        ' prompt.shots) or use a stronger model'
    ),
    'no_chosen': (
        'let translate.backend translate (configs/base.py names them), so that'
        ' a winning answer need not be in the same language'
    ),
    'untranslated': 'translate the texts in pair/untranslated/ (backend files)',
    'answer_changed': 'set pair.rebuild=True',
    'agreed': 'raise sample.temperature or sample.m, so that answers differ',
}


def nothing_left(counts: Mapping[str, float]) -> str:
  """Why no pair is left, by the counts of what was dropped, and what to do."""
  listed = ', '.join(f'{name} {n}' for name, n in counts.items())
  known = [name for name in counts if name in _REMEDIES]
  known.sort(key=lambda name: -counts[name])
  found = [_REMEDIES[name] for name in known[:3]]
  return (
      f'no pair is left ({listed}). To change that: '
      + '; '.join(found or ['sample more (sample.m, or more questions)'])
      + '. Then delete the folders of the stages that this concerns'
  )
