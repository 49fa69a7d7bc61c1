"""CALM on X-CSQA with Llama-3-8B-Instruct: the paper's main setting.

python -m calm_jax.main --config=configs/xcsqa.py --workdir=runs/xcsqa \
    --config.data.path=FOLDER_OF_THE_RELEASE

--config.data.train_limit cuts the questions that are trained on, and not those
of dev, which limit would cut too.

The paper reports, before and after: accuracy EN 73.1 to 74.1, ZH 52.1 to 57.6,
FR 60.8 to 65.0, IT 59.8 to 64.7, DE 57.5 to 60.9, JA 49.2 to 53.6; consistency
57.73 to 61.13; AC3 58.24 to 61.70. Those are over 899 questions of a split of
the authors' own; this evaluates dev. Its hardware is one 80 GB GPU or more.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.data.name = 'xcsqa'
  # The release labels dev only; what is voted on needs no label.
  c.data.train_split = 'test'
  c.data.test_split = 'dev'
  # The last winning sample is the chosen one: English, where English won.
  c.languages = ('ja', 'zh', 'fr', 'it', 'de', 'en')
  c.vote.ties = 'first_seen'  # as the authors' released pairs were made
  # The paper translates by machine; the model itself needs no further key.
  c.translate.backend = 'model'
  return c
