"""Tables 7 and 8: which languages win the vote, on X-CSQA and on MEDQA.

python -m calm_jax.main --config=configs/paper/table7_8_votes.py \
    --workdir=runs/table7_8_votes --config.data.path=data/xcsqa \
    --config.systems.medqa.data.path=data/medqa \
    --stages=read,translate,sample,vote,pair,compare

Nothing is trained or tested. compare/ (report.html, table.md, votes.csv) has,
for each language, its part of the winning votes and how often its own majority
is the winner. On one A100 expect 3 to 5 hours (floor 2). No number of this
table is known to this project yet: its cells stay blank.
"""

from configs import xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update(
      {
          'xcsqa': {},
          'medqa': {
              'data': {
                  'name': 'medqa',
                  'path': 'data/medqa',
                  'train_split': 'train',
                  'test_split': 'test',
                  'test_limit': 1,  # nothing is tested, so none is translated
              },
              'languages': ('fr', 'zh', 'en'),
          },
      }
  )
  c.order = ('xcsqa', 'medqa')
  c.paper = 'table7_8_votes'
  return c
