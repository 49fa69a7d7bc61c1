"""Table 4: trained on one data set, tested on the other.

python -m calm_jax.main --config=configs/paper/table4_cross_dataset.py \
    --workdir=runs/table4_cross_dataset --config.data.path=data/medqa \
    --config.systems.base_on_xcsqa.data.path=data/xcsqa \
    --config.systems.xcsqa.data.path=data/xcsqa \
    --config.systems.medqa_on_xcsqa.data.path=data/xcsqa

Both in EN, ZH and FR; the test of MEDQA is the first 1,000 questions of each
country (table1_llama_medqa.py). On one A100 expect 18 to 30 hours (floor 12).
No number of this table is known to this project yet: its cells stay blank.
"""

from configs import medqa

_MEDQA = {'name': 'medqa', 'train_split': ''}
_XCSQA = {'name': 'xcsqa', 'path': 'data/xcsqa', 'test_split': 'dev'}
_TESTED = _XCSQA | {'train_split': ''}
_UNTRAINED = {'method': 'none'}


def get_config():
  c = medqa.get_config()
  c.data.test_limit = 2000
  c.systems.update(
      {
          'base': {'train': _UNTRAINED},
          'base_on_xcsqa': {'data': _TESTED, 'train': _UNTRAINED},
          'medqa': {},
          'medqa_on_xcsqa': {
              'data': _TESTED,
              'train': _UNTRAINED,
              'adapter': '@medqa',
          },
          'xcsqa': {'data': _XCSQA | {'train_split': 'test'}},
          'xcsqa_on_medqa': {
              'data': _MEDQA,
              'train': _UNTRAINED,
              'adapter': '@xcsqa',
          },
      }
  )
  # Differences are to the first system of each data set: let it be the base.
  c.order = (
      'base',
      'base_on_xcsqa',
      'medqa',
      'medqa_on_xcsqa',
      'xcsqa',
      'xcsqa_on_medqa',
  )
  c.paper = 'table4_cross_dataset'
  return c
