"""Figure 3: accuracy and consistency against the number of languages.

python -m calm_jax.main --config=configs/paper/figure3_languages.py \
    --workdir=runs/figure3_languages --config.data.path=data/xcsqa

One language to all six, each system trained on its languages at once; the page
draws the curves. On one A100 expect 3.3 to 5.5 hours (floor 2.2). Known are
the two rows that are Table 1's base and CALM, no language and all six: EN 73.1
and 74.1, ZH 52.1 and 57.6, FR 60.8 and 65.0, IT 59.8 and 64.7, DE 57.5 and
60.9, JA 49.2 and 53.6, consistency 57.73 and 61.13, AC3 58.24 and 61.70. The
other cells stay blank.
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
