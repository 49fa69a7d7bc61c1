"""Layouts of pairs: the same numbers come out of each."""

from __future__ import annotations

from absl import flags
from absl.testing import flagsaver
import jax
import numpy as np
import pytest

from calm_jax.lm import batches, decoder, training
from calm_jax.lm import lora as lora_lib
from tools import benchmark_layout_rows as lay
from tools import benchmark_layout_step as steps
from tools import benchmark_layouts as layouts
from tools import benchmark_model, benchmark_page
from tools import benchmark_work as work

CFG = decoder.DecoderConfig(
    vocab_size=40,
    num_layers=1,
    model_dim=16,
    ffn_dim=16,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=128,
)
PAIRS = [
    work.Pair((2, 3, 4, 5), (6, 7, 1), (8, 1)),
    work.Pair((9, 10), (11, 1), (12, 13, 14, 1)),
    work.Pair((20, 21, 22), (23, 1), (24, 1)),
]


@pytest.fixture(scope='module')
def weights():
  key = jax.random.key(0)
  lora_cfg = lora_lib.LoraConfig(2, 2.0, ('q_proj', 'v_proj'))
  lora = lora_lib.init(CFG, lora_cfg, key)
  # Else `b` is zero, and the adapter has no say.
  lora = jax.tree.map(lambda x: x + 0.3, lora)
  params = decoder.init(CFG, key, 'float32')
  return jax.tree.map(lambda x: 5 * x, params), lora


@pytest.fixture(scope='module')
def expected(weights):
  """As training computes them."""
  rows = [batches.Row(p.prompt, (p.chosen, p.rejected)) for p in PAIRS]
  index = np.arange(len(rows))
  shape = batches.shapes([batches.need(rows, index)], limit=1)[0]
  batch = batches.build(rows, index, shape)
  found = jax.jit(
      lambda lora, params: training.completion_logprobs(
          CFG, params, lora, batch, chunk=256
      )
  )(weights[1], weights[0])
  return np.asarray(found.logp_B2)


@pytest.mark.parametrize(
    ('layout', 'rows'),
    [
        (lay.one_row, [1, 1, 1]),
        (lay.two_rows, [2, 2, 2]),
        (lambda pairs: lay.packed(pairs, 17), [1, 1]),
    ],
)
def test_every_layout_has_the_same_log_probabilities(
    weights, expected, layout, rows
):
  parts = lay.arrays(layout(PAIRS), 1)
  assert [len(p.tokens_BT) for p in parts] == rows
  params, lora = weights
  score = jax.jit(
      lambda part: steps.logprobs(CFG, params, lora, part, pairs=len(PAIRS))
  )
  found = sum(np.asarray(score(part)) for part in parts)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_rows_are_filled_where_a_pair_still_fits():
  rows = lay.packed(PAIRS, 17)
  groups = [[p.groups for p in row] for (row,) in rows]
  assert groups == [[(0, 1), (2, 3)], [(4, 5)]]


def test_layouts_take_turns_and_the_rule_is_judged(monkeypatch):
  clock = iter([0, 2, 2, 5, 5, 7, 7, 8, 8, 10, 10, 14])
  monkeypatch.setattr('time.process_time', lambda: next(clock))
  (part,) = lay.arrays(lay.one_row(PAIRS[:1]), 1)
  asked = []
  made = {'one row': [part], 'two rows': [part, part]}
  case = layouts.Case('a pair', 1, 'one row', made)
  found = layouts.compare(case, asked.append, 3)
  assert list(map(len, asked)) == [1, 2] * 4
  assert found['runs'] == {'one row': [2, 2, 2], 'two rows': [3, 1, 4]}
  assert (found['ratio'], found['ratio_spread']) == (1.5, [0.5, 2.0])
  assert found['agrees']
  assert found['padded_tokens'] == {'one row': 32, 'two rows': 64}
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
  row = '| a pair | one row: 2.00, 32 tokens | two rows: 3.00, 64 tokens |'
  page = benchmark_page.page({'layouts': result}, 'cpu')
  assert f'{row} 1.50 (0.50 to 2.00) | yes |' in page


def test_each_pair_is_judged_by_what_training_chooses():
  names = ['--pair_lengths=50:300,200:200', '--short_pairs=2']
  model = benchmark_model.SHAPES['smollm2-135m']
  with flagsaver.flagsaver():
    flags.FLAGS(['benchmark_layouts', *names])
    found = list(layouts.cases(range(900), model, 'auto'))
    apart = next(layouts.cases(range(900), model, 'shared'))
  assert [c.rule for c in found] == ['two rows', 'one row', 'by length']
  assert apart.rule == 'one row'
  assert all(c.rule in c.layouts for c in found)
  # Judged against what it did not choose.
  clock = iter([0, 1, 1, 3])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('time.process_time', lambda: next(clock))
    slower = layouts.compare(found[0], lambda parts: None, 1)
  assert (slower['rule'], slower['ratio']) == ('two rows', 0.5)
  assert not slower['agrees']
