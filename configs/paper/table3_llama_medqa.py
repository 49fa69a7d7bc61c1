"""Table 3, gold labels against votes, Llama-3-8B-Instruct on MEDQA.

python -m calm_jax.main --config=configs/paper/table3_llama_medqa.py \
    --workdir=runs/table3_llama_medqa --config.data.path=data/medqa

On one A100 expect 30 to 50 hours (floor 20). Of this table the rows base and
calm are known, from Table 1: EN 60.1 and 63.5, ZH 56.2 and 59.5.

The test is the first 1,000 questions of each country (table1_llama_medqa.py).
"""

from configs import medqa, systems


def get_config():
  c = medqa.get_config()
  c.data.test_limit = 2000
  c.systems.update(systems.GOLD)
  c.order = ('base', 'sft_gold', 'dpo_gold', 'calm')
  c.paper = 'table3_llama_medqa'
  return c
