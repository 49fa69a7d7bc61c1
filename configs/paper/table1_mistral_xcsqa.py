"""Table 1, Mistral-7B-Instruct-v0.2 on X-CSQA: base, SFT, CALM.

python -m calm_jax.main --config=configs/paper/table1_mistral_xcsqa.py \
    --workdir=runs/table1_mistral_xcsqa --config.data.path=data/xcsqa

On one A100 expect 1.5 to 2.5 hours (floor 1). The paper, base / CALM: EN 60.1 /
68.1, consistency 50.51 / 57.27, AC3 50.51 / 57.67.
"""

from configs import systems, xcsqa_mistral


def get_config():
  c = xcsqa_mistral.get_config()
  c.systems.update(systems.TABLE1)
  c.order = ('base', 'sft', 'calm')
  c.paper = 'table1_mistral_xcsqa'
  return c
