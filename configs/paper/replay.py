"""Table 1's X-CSQA as the authors' code does it, where that differs from ours.

python -m calm_jax.main --config=configs/paper/replay.py \
    --workdir=runs/replay --config.data.path=CALM

CALM is a clone of the authors' repository (docs/DATA.md). What differs, how it
is known, and what of it is not replayed: docs/EXPERIMENTS.md. On one A100
expect 2.5 to 4 hours (floor 1.7). The paper, base / SFT / CALM: EN 73.1 / 73.8
/ 74.1, ZH 52.1 / 53.2 / 57.6, FR 60.8 / 62.3 / 65.0, IT 59.8 / 60.0 / 64.7, DE
57.5 / 59.8 / 60.9, JA 49.2 / 51.0 / 53.6, consistency 57.73 / 59.67 / 61.13,
AC3 58.24 / 60.82 / 61.70.
"""

from configs import systems, xcsqa


def get_config():
  # It has the order of languages and the rule for ties already.
  c = xcsqa.get_config()
  c.data.name = 'xcsqa_authors'
  c.data.train_split = 'train'
  c.data.test_split = 'train'  # the base row is of these 899
  c.prompt.style = 'paper'
  c.sample.top_k = 50
  c.vote.parser = 'authors'
  c.pair.rebuild = False
  c.train.length_window = 1
  c.evaluate.temperature = 1.0
  released = {'pair': {'gold': 'released'}}
  c.systems.update(
      {
          **systems.TABLE1,
          'sft_gold': {**systems.SFT, **released},
          'dpo_gold': released,
      }
  )
  c.order = ('base', 'sft', 'calm', 'sft_gold', 'dpo_gold')
  c.paper = 'table1_llama_xcsqa'
  return c
