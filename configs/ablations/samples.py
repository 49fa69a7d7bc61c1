"""How many answers a language: m = 1, 3, 5.

python -m calm_jax.main --config=configs/ablations/samples.py \
    --workdir=runs/samples --config.data.path=data/xcsqa

The votes are surer with more. On one A100 expect 2.5 to 4.5 hours (floor 1.8).
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update(
      {
          'base': systems.BASE,
          'm1': {'sample': {'m': 1}},
          'm3': systems.CALM,
          'm5': {'sample': {'m': 5}},
      }
  )
  c.order = ('base', 'm1', 'm3', 'm5')
  return c
