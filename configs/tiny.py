"""The smallest run that passes through every stage, for tests: seconds on CPU.

python -m calm_jax.main --config=configs/tiny.py --workdir=runs/tiny \
    --config.model=FOLDER_OF_ANY_TINY_MODEL
"""

from configs import base


def get_config():
  c = base.get_config()
  c.model = ''
  c.dtype = 'float32'
  c.languages = ('en', 'fr')
  c.limit = 4
  c.data.name = 'demo'
  c.sample.m = 2
  c.sample.max_new_tokens = 8
  c.translate.max_new_tokens = 24
  c.sample.answer = 'two_stage'  # random weights never name an option
  c.sample.slots = 4
  c.sample.shard = 4
  c.vote.ties = 'seeded'
  c.pair.val_size = 0.25
  c.lora.rank = 2
  c.train.learning_rate = 1e-3
  c.train.epochs = 1
  c.train.accumulation = 1
  c.train.max_length = 512
  c.train.eval_every = 2
  c.evaluate.max_new_tokens = 8
  c.evaluate.bootstrap = 10
  return c
