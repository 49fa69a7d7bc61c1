"""Figure 3: accuracy and consistency against the number of languages.

python -m calm_jax.main --config=configs/paper/figure3_languages.py \
    --workdir=runs/figure3_languages --config.data.path=data/xcsqa

One language to all six, each system trained on its languages at once; the page
draws the curves. On one A100 expect 3.3 to 5.5 hours (floor 2.2). No number of
this table is known to this project yet: its cells stay blank.
"""

from configs import systems, xcsqa


def get_config():
  c = xcsqa.get_config()
  c.systems.update({'base': systems.BASE})
  grown = ('en', 'fr', 'zh', 'de', 'it', 'ja')
  for count in range(1, len(grown) + 1):
    chosen = grown[:count]
    # In the order in which all languages are counted.
    langs = tuple(lang for lang in c.languages if lang in chosen)
    c.systems['_'.join(chosen)] = {'sample': {'languages': langs}}
  c.paper = 'figure3_languages'
  return c
