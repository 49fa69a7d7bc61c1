"""The authors' wording of MEDQA, against their own files."""

from __future__ import annotations

import json

import pytest

from calm_jax import datasets, records, settings
from calm_jax.qa import prompts
from configs import base

OPTIONS = (records.Option('A', 'one'), records.Option('B', ' two '))


def question(dataset, lang, translated_from=None):
  return records.Question(
      'q', dataset, 'test', lang, ' Which? ', OPTIONS, 'A', translated_from
  )


@pytest.mark.parametrize(
    ('dataset', 'source', 'asked'),
    [
        ('medqa_us_4', None, 'Which?\n(A) one\n(B) two\n'),
        ('medqa_us_4', 'zh', 'Which?\n(A) one\n(B) two'),
        ('medqa_authors_mainland', None, 'Which? (A) one (B) two '),
        ('medqa_mainland', 'en', 'Which? (A) one (B) two'),
    ],
)
def test_options_stand_as_in_each_edition(dataset, source, asked):
  text = prompts.render(question(dataset, 'en', source), style='paper', shots=0)
  assert text.endswith(f'Answer:<correct choice>\n{asked}')


def test_it_has_three_languages():
  with pytest.raises(ValueError, match="'de' in medqa_us, only for en, zh, fr"):
    prompts.render(question('medqa_us', 'de'), style='paper', shots=0)
  cfg = base.get_config()
  cfg.prompt.style, cfg.data.name = 'paper', 'medqa_us'
  assert 'leave it, de, ja out' in '\n'.join(settings.problems(cfg))


FILES = {
    ('us', 'en'): 'all_test_native_en.json',
    ('us', 'zh'): 'all_test_en2cn.json',
    ('us', 'fr'): 'all_test_en2fr.json',
    ('mainland', 'zh'): 'testset_native_cn.json',
    ('mainland', 'en'): 'testset_cn2en.json',
    ('mainland', 'fr'): 'all_test_cn2fr.json',
}


@pytest.mark.parametrize(
    ('release', 'lang', 'same', 'alike'),
    [
        # Byte for byte, and but for white space: theirs has some between the
        # letter and the text, translations also other brackets.
        ('us', 'en', 963, 996),
        ('us', 'zh', 753, 911),
        ('us', 'fr', 926, 980),
        ('mainland', 'zh', 1000, 1000),
        ('mainland', 'en', 996, 996),
        ('mainland', 'fr', 980, 988),
    ],
)
def test_the_real_prompts(real_data, release, lang, same, alike):
  folder = real_data / 'calm_authors' / 'medqa' / 'test'
  text = (folder / FILES[release, lang]).read_text('utf-8')
  theirs = json.loads(text)
  read = datasets.reader(f'medqa_authors_{release}')
  found, _ = read(folder, 'test', ('en', 'zh', 'fr'))
  ours = [
      prompts.render(q, style='paper', shots=0) for q in found if q.lang == lang
  ]
  instructions = {row['instruction'] for row in theirs}
  (instruction,) = instructions
  assert all(text.startswith(f'{instruction}\n') for text in ours)
  asked = {f'{row["instruction"]}\n{row["input"]}' for row in theirs}
  assert sum(text in asked for text in ours) == same
  plain = {' '.join(text.split()) for text in asked}
  assert sum(' '.join(text.split()) in plain for text in ours) == alike
