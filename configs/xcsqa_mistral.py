"""CALM on X-CSQA with Mistral-7B-Instruct-v0.2.

python -m calm_jax.main --config=configs/xcsqa_mistral.py \
    --workdir=runs/xcsqa_mistral --config.data.path=FOLDER_OF_THE_RELEASE

The paper reports, before and after: accuracy EN 60.1 to 68.1, consistency
50.51 to 57.27, AC3 50.51 to 57.67.
"""

from configs import xcsqa


def get_config():
  c = xcsqa.get_config()
  c.model = 'mistralai/Mistral-7B-Instruct-v0.2'
  return c
