"""Three rounds of sample, vote, pair and align, each from the last's adapter.

python -m calm_jax.main --config=configs/ablations/rounds.py \
    --workdir=runs/rounds --config.data.path=data/xcsqa

The reference of a round is the model that the round starts with. About 2.5
hours on one A100 at the floor.
"""

from configs import xcsqa


def get_config():
  c = xcsqa.get_config()
  c.rounds = 3
  return c
