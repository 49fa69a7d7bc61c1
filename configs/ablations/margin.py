"""How sure a vote must be to be learnt from: its winner's share, or its lead.

python -m calm_jax.main --config=configs/ablations/margin.py \
    --workdir=runs/margin --config.data.path=data/xcsqa

The samples and votes are shared. On one A100 expect 2 to 4 hours (floor 1.5).
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update(
      {
          'base': systems.BASE,
          'any': systems.CALM,
          'share40': {'pair': {'min_share': 0.4}},
          'share60': {'pair': {'min_share': 0.6}},
          'share80': {'pair': {'min_share': 0.8}},
          'lead20': {'pair': {'min_margin': 0.2}},
          'lead60': {'pair': {'min_margin': 0.6}},
      }
  )
  c.order = ('base', 'any', 'share40', 'share60', 'share80', 'lead20', 'lead60')
  return c
