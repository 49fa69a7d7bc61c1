"""Table 1, Mistral-7B-Instruct-v0.2 on MEDQA: base, SFT, CALM.

python -m calm_jax.main --config=configs/paper/table1_mistral_medqa.py \
    --workdir=runs/table1_mistral_medqa --config.data.path=data/medqa

On one A100 expect 25 to 43 hours (floor 17). No number of this table is known
to this project yet: its cells stay blank.

The test is the first 1,000 questions of each country (table1_llama_medqa.py).
"""

from configs import medqa, systems


def get_config():
  c = medqa.get_config()
  c.data.test_limit = 2000
  c.model = 'mistralai/Mistral-7B-Instruct-v0.2'
  c.systems.update(systems.TABLE1)
  c.order = ('base', 'sft', 'calm')
  c.paper = 'table1_mistral_medqa'
  return c
