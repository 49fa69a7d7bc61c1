"""Preference losses on the same pairs.

python -m calm_jax.main --config=configs/ablations/losses.py \
    --workdir=runs/losses --config.data.path=data/xcsqa

On one A100 expect 5.5 to 9 hours (floor 3.7). The rates are those of DPO for
all: the losses differ in scale, so tune beta before judging one.
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update(
      {
          'base': systems.BASE,
          'sigmoid': systems.CALM,
          'ipo': {'train': {'loss': 'ipo'}},
          'hinge': {'train': {'loss': 'hinge'}},
          'simpo': {'train': {'loss': 'simpo', 'beta': 2.0}},
          'robust': {'train': {'loss': 'robust', 'label_smoothing': 0.1}},
          'smoothed': {'train': {'label_smoothing': 0.1}},
          'with_sft': {'train': {'sft_weight': 1.0}},
      }
  )
  c.order = (
      'base',
      'sigmoid',
      'ipo',
      'hinge',
      'simpo',
      'robust',
      'smoothed',
      'with_sft',
  )
  return c
