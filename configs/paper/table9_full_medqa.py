"""Table 9, all of MEDQA: each country's test alone, in all languages.

python -m calm_jax.main --config=configs/paper/table9_full_medqa.py \
    --workdir=runs/table9_full_medqa --config.data.path=data/medqa

Its systems are trained as those of table1_llama_medqa.py, which asks the first
1,000 questions of each country; here the whole test split is asked. On one A100
expect 25 to 43 hours (floor 17). No number of this table is known to this
project yet: its cells stay blank.
"""

from configs import medqa, systems


def get_config():
  c = medqa.get_config()
  c.systems.update(systems.TABLE1)
  c.order = ('base', 'sft', 'calm')
  c.paper = 'table9_full_medqa'
  return c
