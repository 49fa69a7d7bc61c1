"""Pairs that all count the same, or by the share of their winner.

python -m calm_jax.main --config=configs/ablations/weighting.py \
    --workdir=runs/weighting --config.data.path=data/xcsqa

The pairs are shared. About 1.5 hours on one A100 at the floor.
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
