"""Table 3, gold labels against votes, Llama-3-8B-Instruct on X-CSQA.

python -m calm_jax.main --config=configs/paper/table3_llama_xcsqa.py \
    --workdir=runs/table3_llama_xcsqa --config.data.path=X-CSQA_WITH_LABELS

Gold labels need a labelled split to train on, in all languages, and the release
has one only, dev, which is tested on: put labelled questions of your own, such
as the 899 in the authors' files, into the folder as {lang}/train.jsonl.

On one A100 expect 2 to 3 hours (floor 1.3). Of this table the rows base / calm
are known, from Table 1: EN 73.1 / 74.1, ZH 52.1 / 57.6, FR 60.8 / 65.0, IT 59.8
/ 64.7, DE 57.5 / 60.9, JA 49.2 / 53.6, consistency 57.73 / 61.13, AC3 58.24 /
61.70.
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.data.train_split = 'train'
  c.systems.update(systems.GOLD)
  c.order = ('base', 'sft_gold', 'dpo_gold', 'calm')
  c.paper = 'table3_llama_xcsqa'
  return c
