"""Which winning answer is the chosen one.

python -m calm_jax.main --config=configs/ablations/positives.py \
    --workdir=runs/positives --config.data.path=data/xcsqa

english: only questions whose winner has an English answer. The samples and
votes are shared. On one A100 expect 3 to 5 hours (floor 2).
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update(
      {
          'base': systems.BASE,
          'last': systems.CALM,
          'english': {'pair': {'positives': 'english'}},
          'same_language': {'pair': {'positives': 'same_language_first'}},
          'likeliest': {'pair': {'positives': 'highest_logprob'}},
      }
  )
  c.order = ('base', 'last', 'english', 'same_language', 'likeliest')
  return c
