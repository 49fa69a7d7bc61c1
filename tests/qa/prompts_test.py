"""Prompts: options counted, examples right, the authors' wording verbatim."""

from __future__ import annotations

import json
import re

import pytest

from calm_jax import records
from calm_jax.qa import answers, languages, prompts


def question(lang='en', count=5, **changes):
  options = tuple(
      records.Option('EDCBAFGH'[i], f'thing {i}') for i in range(count)
  )
  fields = {'stem': 'Which one?', 'options': options} | changes
  return records.Question('q7', 'demo', 'test', lang, **fields)


def render(asked, *, style='default', shots=0):
  return prompts.render(asked, style=style, shots=shots)


def test_the_whole_english_prompt():
  assert render(question(count=3)) == (
      'Answer the following multiple-choice question in English. First explain'
      ' briefly, in one to three sentences, which option is the best and why.'
      ' Then give exactly one answer: A, B or C. Use this format:\n'
      'Explanation: <your explanation>\n'
      'Answer: <letter>. <option>\n'
      '\n'
      'Question: Which one?\n'
      'A. thing 0\n'
      'B. thing 1\n'
      'C. thing 2'
  )


@pytest.mark.parametrize(
    ('lang', 'two', 'four', 'five'),
    [
        ('en', 'A or B', 'A, B, C or D', 'A, B, C, D or E'),
        ('zh', 'A 或 B', 'A、B、C 或 D', 'A、B、C、D 或 E'),
        ('fr', 'A ou B', 'A, B, C ou D', 'A, B, C, D ou E'),
        ('it', 'A o B', 'A, B, C o D', 'A, B, C, D o E'),
        ('de', 'A oder B', 'A, B, C oder D', 'A, B, C, D oder E'),
        ('ja', 'A、B', 'A、B、C、D', 'A、B、C、D、E'),
        ('es', 'A o B', 'A, B, C o D', 'A, B, C, D o E'),
    ],
)
def test_letters_are_counted_from_the_question(lang, two, four, five):
  for count, letters in ((2, two), (4, four), (5, five)):
    first = render(question(lang, count)).split('\n\n')[0]
    named = re.findall(r'(?<![A-Za-zÀ-ɏ])[A-Z](?![A-Za-zÀ-ɏ])', first)
    assert named == list('ABCDE'[:count])
    assert letters in first


@pytest.mark.parametrize('lang', languages.LANGUAGES)
@pytest.mark.parametrize('shots', range(4))
def test_headers_and_options_have_their_own_lines(lang, shots):
  row = languages.get(lang)
  text = render(question(lang), shots=shots)
  lines = text.split('\n')
  for word, times in (
      (row.explanation, 1 + shots),
      (row.answer, 1 + shots),
      (row.question, 1 + shots),
  ):
    assert sum(s.startswith(word + row.colon) for s in lines) == times
  assert lines[-5:] == [f'{"ABCDE"[i]}. thing {i}' for i in range(5)]
  assert text.startswith(row.wording.instruction.partition('{')[0])


def test_options_stay_on_their_line_and_stems_keep_theirs():
  options = (
      records.Option('A', ' one\n two '),
      records.Option('B', 'x\u2028y'),
  )
  text = render(question(stem=' First.\nSecond? ', options=options))
  assert text.endswith('Question: First.\nSecond?\nA. one two\nB. x y')


@pytest.mark.parametrize('lang', languages.LANGUAGES)
@pytest.mark.parametrize('count', [2, 3, 4, 5, 8])
def test_worked_examples_are_read_back(lang, count):
  row = languages.get(lang)
  _, *examples, _ = render(question(lang, count), shots=3).split('\n\n')
  letters = []
  for example in examples:
    asked, _, said = example.partition(f'\n{row.explanation}')
    _, *lines = asked.split('\n')
    options = tuple(
        records.Option(line[0], line.removeprefix(f'{line[0]}. '))
        for line in lines
    )
    assert [o.key for o in options] == list('ABCDE'[: min(count, 5)])
    assert len({o.text for o in options}) == len(options)
    parsed = answers.parse(
        row.explanation + said, question(lang, options=options)
    )
    assert parsed.reason == 'header'
    gold = next(o.text for o in options if o.key == parsed.answer)
    assert gold in GOLD[lang]
    assert said.endswith(f' {gold}')
    letters.append(parsed.answer)
  assert len(set(letters)) == min(count, 3)


GOLD = {
    'en': ('refrigerator', 'train', 'piano'),
    'zh': ('冰箱', '火车', '钢琴'),
    'fr': ('réfrigérateur', 'train', 'piano'),
    'it': ('frigorifero', 'treno', 'pianoforte'),
    'de': ('Kühlschrank', 'Zug', 'Klavier'),
    'ja': ('冷蔵庫', '電車', 'ピアノ'),
    'es': ('frigorífico', 'tren', 'piano'),
}


def test_completion_and_header():
  said = prompts.completion(' Il roule. ', 'B', 'train', 'fr')
  assert said == 'Explication : Il roule.\nRéponse : B. train'
  said = prompts.completion('会叫。', 'A', '狗', 'zh')
  assert said == '解释：会叫。\n答案：A. 狗'
  for lang in languages.LANGUAGES:
    header = prompts.answer_header(lang)
    assert header == header.strip()
    assert f'\n{header}' in prompts.completion('x', 'A', 'y', lang)


def test_translation_names_both_languages_and_keeps_the_text():
  text = prompts.translation(' Un.\n\nDeux. ', 'fr', 'de')
  assert 'from French into German' in text
  assert text.endswith('\n\n Un.\n\nDeux. ')


def test_errors_name_the_value_and_the_remedy():
  with pytest.raises(ValueError, match=r"'papper' is not one of"):
    render(question(), style='papper')
  with pytest.raises(ValueError, match=r"'q7' \(en\) has 1 options"):
    render(question(count=1))
  with pytest.raises(ValueError, match='shots=4 is not between 0 and 3'):
    render(question(), shots=4)
  with pytest.raises(ValueError, match=r"no wording for 'es'.*style=default"):
    render(question('es'), style='paper')
  with pytest.raises(ValueError, match='set shots to 0, not 2'):
    render(question(), style='paper', shots=2)
  with pytest.raises(ValueError, match=r"unknown language 'cn'.*'zh'"):
    render(question('cn'))


# Stem and options of an input of theirs, whatever stands around them.
INPUT = re.compile(
    r'(?:(?:Frage|Domanda|質問): )?(.*)\nA\. (.*)\nB\. (.*)\nC\. (.*)\nD\. (.*)'
    r'\nE\. (.*?)(?:\n(?:Answer|Antwort|Risposta|答え):)*',
    re.DOTALL,
)


@pytest.mark.parametrize('lang', ['en', 'zh', 'fr', 'it', 'de', 'ja'])
def test_paper_prompts_are_the_authors(real_data, lang):
  code = 'cn' if lang == 'zh' else lang
  folder = real_data / 'calm_authors' / 'xcsqa' / 'samples'
  path = folder / f'x_csqa_{code}_train_sampled.json'
  rows = json.loads(path.read_text(encoding='utf-8'))
  assert len(rows) == 899
  for row in rows:
    stem, *texts = INPUT.fullmatch(row['input']).groups()
    options = tuple(map(records.Option, 'ABCDE', texts))
    asked = question(lang, stem=stem, options=options)
    expected = f'{row["instruction"]}\n{row["input"]}'
    assert render(asked, style='paper') == expected


PASSAGES = [
    records.Passage('a@0', 'a', 'First\n one.'),
    records.Passage('b@7', 'b', 'Second: one?'),
]


@pytest.mark.parametrize('lang', languages.LANGUAGES)
@pytest.mark.parametrize('shots', [0, 2])
def test_passages_stand_before_the_question(lang, shots):
  plain = render(question(lang), shots=shots)
  text = prompts.render(
      question(lang), style='default', shots=shots, passages=PASSAGES
  )
  *before, asked = plain.split('\n\n')
  block = f'{languages.get(lang).wording.passages}\n[1] First one.\n'
  parts = [*before, f'{block}[2] Second: one?', asked]
  assert text.split('\n\n') == parts


def test_passages_in_the_authors_prompt():
  plain = render(question(), style='paper')
  text = prompts.render(
      question(), style='paper', shots=0, passages=PASSAGES[:1]
  )
  head, _, tail = plain.partition('Which one?')
  block = f'{languages.get("en").wording.passages}\n[1] First one.\n'
  assert text == f'{head}{block}Which one?{tail}'
