"""Layouts of pairs are timed in turns, and training's choice is judged."""

from __future__ import annotations

from absl import flags
from absl.testing import flagsaver
import pytest

from configs import base
from tools import benchmark_layouts as layouts
from tools import benchmark_page
from tools import benchmark_work as work


class Job:
  """Takes the seconds that its settings were given."""

  def __init__(self, cfg, chosen, seconds, turns):
    self.chosen = chosen(cfg)
    self._seconds, self._turns = seconds(cfg), turns

  def warm_up(self):
    self._turns.append('warm up')

  def run(self):
    self._turns.append(self.chosen)
    details = {'tokens': 24, 'padding': 0.25}
    return work.Run(0, next(self._seconds), 1, details)


def cases(*names):
  with flagsaver.flagsaver():
    flags.FLAGS(['benchmark_layouts', *names])
    return list(layouts.cases(range(900), base.get_config()))


def test_layouts_take_turns_and_the_rule_is_judged():
  (case,) = cases('--pair_lengths=50:300', '--short_pairs=0')
  turns, seconds = [], {'shared': [2, 2, 2], 'apart': [3, 1, 4], 'auto': []}
  sequences = {'auto': 1, 'shared': 1, 'apart': 2}
  found = layouts.compare(
      case,
      lambda cfg: Job(
          cfg,
          lambda cfg: {
              'sequences_per_row': sequences[cfg.train.layout],
              'packed_tokens': 0,
          },
          lambda cfg: iter(seconds[cfg.train.layout]),
          turns,
      ),
      3,
  )
  made = [
      turn if turn == 'warm up' else turn['sequences_per_row'] for turn in turns
  ]
  assert made == ['warm up'] * 2 + [1, 2] * 3
  assert found['runs'] == {'one row': [2, 2, 2], 'two rows': [3, 1, 4]}
  assert (found['ratio'], found['ratio_spread']) == (1.5, [0.5, 2.0])
  assert found['agrees']
  assert found['padded_tokens'] == {'one row': 32, 'two rows': 32}
  assert 'two rows / one row 1.50 (0.50 to 2.00)' in layouts.line(found)
  assert layouts.line(found).endswith('chooses one row: faster here')
  result = {
      'layouts': [found],
      'date': 'today',
      'model': 'm',
      'dtype': 'float32',
      'command': 'python',
      'versions': {'jax': '0.10.2'},
      'machine': {'cores': 2, 'load': 0.5, 'platform': 'Linux'},
  }
  row = (
      '| prompt 50, answers 300 | one row: 2.00, 32 tokens'
      ' | two rows: 3.00, 32 tokens |'
  )
  page = benchmark_page.page({'layouts': result}, 'cpu')
  assert f'{row} 1.50 (0.50 to 2.00) | yes |' in page


@pytest.mark.parametrize(
    ('packs', 'rule', 'ratio'), [(0, 'by length', 0.5), (256, 'packed', 2.0)]
)
def test_short_pairs_are_packed_as_training_packs(packs, rule, ratio):
  (case,) = cases('--pair_lengths=', '--short_pairs=4')
  assert len(case.pairs) == 4
  assert case.cfg.train.accumulation == 8
  packed = {'auto': packs, 0: 0, 512: 512}
  made = []

  def make(cfg):
    made.append(cfg.train.packing)
    chosen = {
        'packed_tokens': packed[cfg.train.packing],
        'sequences_per_row': 1,
    }
    seconds = 2 if cfg.train.packing == 0 else 1
    return Job(cfg, lambda cfg: chosen, lambda cfg: iter([seconds]), [])

  found = layouts.compare(case, make, 1)
  assert made == ['auto', 0, 512]
  assert (found['rule'], found['ratio']) == (rule, ratio)
  assert found['agrees'] == (rule == 'packed')
