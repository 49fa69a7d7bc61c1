"""Table 1, Llama-3-8B-Instruct on X-CSQA: base, SFT, CALM.

python -m calm_jax.main --config=configs/paper/table1_llama_xcsqa.py \
    --workdir=runs/table1_llama_xcsqa --config.data.path=data/xcsqa

On one A100 expect 1.5 to 2.5 hours (floor 1). The paper, base / SFT / CALM: EN
73.1 / 73.8 / 74.1, ZH 52.1 / 53.2 / 57.6, FR 60.8 / 62.3 / 65.0, IT 59.8 / 60.0
/ 64.7, DE 57.5 / 59.8 / 60.9, JA 49.2 / 51.0 / 53.6, consistency 57.73 / 59.67
/ 61.13, AC3 58.24 / 60.82 / 61.70.
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update(systems.TABLE1)
  c.order = ('base', 'sft', 'calm')
  c.paper = 'table1_llama_xcsqa'
  return c
