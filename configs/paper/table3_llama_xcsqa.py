"""Table 3, gold labels against votes, Llama-3-8B-Instruct on X-CSQA.

python -m calm_jax.main --config=configs/paper/table3_llama_xcsqa.py \
    --workdir=runs/table3_llama_xcsqa --config.data.path=data/CALM

Gold labels need a labelled split to train on, in all languages. The release has
one only, dev, so its authors' files are read (docs/DATA.md): they split a
thousand labelled questions, most likely those of dev, into 899 to train on and
about 100 to be tested on. Do not train on the 899 and test on dev.

On one A100 expect 2 to 3 hours (floor 1.3). Of this table the rows base / calm
are known, from Table 1, over the 899 questions: EN 73.1 / 74.1, ZH 52.1 / 57.6,
FR 60.8 / 65.0, IT 59.8 / 64.7, DE 57.5 / 60.9, JA 49.2 / 53.6, consistency
57.73 / 61.13, AC3 58.24 / 61.70.
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.data.name = 'xcsqa_authors'
  c.data.train_split, c.data.test_split = 'train', 'test'
  c.systems.update(systems.GOLD)
  c.order = ('base', 'sft_gold', 'dpo_gold', 'calm')
  c.paper = 'table3_llama_xcsqa'
  return c
