"""Pairs that all count the same, or by the share of their winner.

python -m calm_jax.main --config=configs/ablations/weighting.py \
    --workdir=runs/weighting --config.data.path=data/xcsqa

The pairs are shared. On one A100 expect 2 to 3 hours (floor 1.2).
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update(
      {
          'base': systems.BASE,
          'same': systems.CALM,
          'share': {'train': {'weighting': 'share'}},
      }
  )
  c.order = ('base', 'same', 'share')
  return c
