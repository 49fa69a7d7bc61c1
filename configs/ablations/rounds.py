"""Three rounds of sample, vote, pair and align, each from the last's adapter.

python -m calm_jax.main --config=configs/ablations/rounds.py \
    --workdir=runs/rounds --config.data.path=data/xcsqa

The reference of a round is the model that the round starts with. On one A100
expect 2.5 to 4.5 hours (floor 1.8).
"""

from configs import xcsqa


def get_config():
  c = xcsqa.get_config()
  c.rounds = 3
  return c
