"""Table 10: more and more languages, tested in all, also the untrained ones.

python -m calm_jax.main --config=configs/paper/table10_incremental.py \
    --workdir=runs/table10_incremental --config.data.path=data/xcsqa

en, en_fr and en_fr_zh are trained at once on their languages; then_fr and
then_zh go on, one language after another, from what was trained before: the
forgetting matrix shows what that costs. On one A100 expect 1.5 to 2.5 hours
(floor 1). Of this table only the row base is known, from Table 1: EN 73.1, ZH
52.1, FR 60.8, IT 59.8, DE 57.5, JA 49.2, consistency 57.73, AC3 58.24. Its
other cells stay blank.
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  of = lambda *langs: {'sample': {'languages': langs}}
  c.systems.update(
      {
          'base': systems.BASE,
          'en': of('en'),
          'en_fr': of('fr', 'en'),
          'en_fr_zh': of('zh', 'fr', 'en'),
          'then_fr': {'adapter': '@en', **of('fr')},
          'then_zh': {'adapter': '@then_fr', **of('zh')},
      }
  )
  c.order = ('base', 'en', 'en_fr', 'en_fr_zh', 'then_fr', 'then_zh')
  c.paper = 'table10_incremental'
  return c
