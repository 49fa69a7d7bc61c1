"""Table 3, gold labels against votes, Llama-3-8B-Instruct on X-CSQA.

python -m calm_jax.main --config=configs/paper/table3_llama_xcsqa.py \
    --workdir=runs/table3_llama_xcsqa --config.data.path=X-CSQA_WITH_LABELS

Gold labels need a labelled split to train on, in all languages, and the release
has one only, dev, which is tested on: put labelled questions of your own, such
as the 899 in the authors' files, into the folder as {lang}/train.jsonl.

About 1.5 hours on one A100 at the floor. Of this table the rows base and calm
are known, from Table 1: EN 73.1 and 74.1, consistency 57.73 and 61.13.
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.data.train_split = 'train'
  c.systems.update(systems.GOLD)
  c.order = ('base', 'sft_gold', 'dpo_gold', 'calm')
  c.paper = 'table3_llama_xcsqa'
  return c
