"""Table 1, Self-RAG-7B on MEDQA with retrieval: base, SFT, CALM.

python -m calm_jax.main --config=configs/paper/table1_selfrag_medqa.py \
    --workdir=runs/table1_selfrag_medqa --config.data.path=data/medqa \
    --config.translate.path=models/nllb

The model's weights on the hub are pickles: docs/RETRIEVAL.md converts them. It
was tuned on English only, so others translate: nllb or google. Each question
searches the textbooks of both languages and is answered beside each passage. On
one A100 expect 60 to 100 hours (floor 40), as an answer is drawn for every
passage. No number of this table is known to this project yet: its cells stay
blank.

The test is the first 1,000 questions of each country (table1_llama_medqa.py).
"""

from configs import medqa, systems


def get_config():
  c = medqa.get_config()
  c.data.test_limit = 2000
  c.model = 'models/selfrag_llama2_7b'  # selfrag/selfrag_llama2_7b, converted
  c.prompt.template = 'selfrag'
  c.translate.backend = 'nllb'
  c.retrieve.backend = 'lancedb'
  c.retrieve.corpus = 'data/medqa'
  c.selfrag.mode = 'adaptive'
  # Llama-2 spells Chinese out: a question of 500 tokens, a passage of 300.
  c.train.max_length = 2048
  c.systems.update(systems.TABLE1)
  c.order = ('base', 'sft', 'calm')
  c.paper = 'table1_selfrag_medqa'
  return c
