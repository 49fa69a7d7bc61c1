"""Gold labels by the paper's rule and by its released code's.

python -m calm_jax.main --config=configs/ablations/gold.py \
    --workdir=runs/gold --config.data.path=data/CALM

It trains on labelled questions: the 899 of the authors' files, and is tested on
the rest of those (paper/table3_llama_xcsqa.py says why not on the release).
paper: pairs whose winner is gold; released: the first right English answer
before all that are wrong. On one A100 expect 2.6 to 4.3 hours (floor 1.7).
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.data.name = 'xcsqa_authors'
  c.data.train_split, c.data.test_split = 'train', 'test'
  c.systems.update(
      {
          'base': systems.BASE,
          'paper': {'pair': {'gold': 'paper'}},
          'sft_paper': {**systems.SFT, 'pair': {'gold': 'paper'}},
          'released': {'pair': {'gold': 'released'}},
          'sft_released': {**systems.SFT, 'pair': {'gold': 'released'}},
          'calm': systems.CALM,
      }
  )
  c.order = (
      'base',
      'paper',
      'sft_paper',
      'released',
      'sft_released',
      'calm',
  )
  return c
