"""CALM end to end on a laptop: a 135M model, bundled questions, CPU.

python -m tools.fetch_demo_model --out=models/smollm2-135m-instruct
python -m calm_jax.main --config=configs/demo.py --workdir=runs/demo

About 7 minutes on 2 cores. It shows the machinery, not the method's gain: a
model this small reasons in English at best, and 12 test questions cannot tell
systems apart (see the intervals in the report).
"""

from configs import base


def get_config():
  c = base.get_config()
  c.model = 'models/smollm2-135m-instruct'
  c.dtype = 'float32'
  c.data.name = 'demo'
  c.limit = 12
  c.sample.max_new_tokens = 32
  # Small models rarely name an option by themselves.
  c.sample.answer = 'two_stage'
  c.sample.slots = 48
  c.vote.ties = 'seeded'
  c.pair.positives = 'same_language_first'
  c.pair.cap = 1
  c.pair.val_size = 0.1
  c.train.learning_rate = 3e-4  # so that a dozen steps show
  c.train.epochs = 1
  c.train.batch_size = 2
  c.train.accumulation = 2
  c.train.eval_every = 10
  c.evaluate.max_new_tokens = 32
  return c
