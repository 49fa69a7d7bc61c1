"""The authors' files: options inside the text, and rows that meet in order."""

import collections
import json

import pytest

from calm_jax import datasets, records
from calm_jax.datasets import alignment, authors, xcsqa

MEDQA = {
    'en': 'all_test_native_en.json',
    'zh': 'all_test_en2cn.json',
    'fr': 'all_test_en2fr.json',
}
TEXTS = ('left', 'right', 'up', 'down')
XCSQA = 'x_csqa_{}_train_sampled.json'


def medqa(stem='Which?', texts=TEXTS, gold='(B) right'):
  options = ''.join(f'\n({k}) {t}' for k, t in zip('ABCD', texts, strict=True))
  return {'instruction': 'Think.', 'input': stem + options, 'output': gold}


def write(path, rows):
  path.write_text(json.dumps(rows, ensure_ascii=False), encoding='utf-8')


def read(path, *languages, name='medqa_authors_us', split='test'):
  return datasets.reader(name)(path, split, languages)


def write_medqa(path, **rows):
  for lang, found in rows.items():
    write(path / MEDQA[lang], found)
  return path


def test_reads_every_field(tmp_path):
  french = medqa('Lequel ?', ('gauche', 'droite', 'haut', 'bas'), '(B) droite')
  write_medqa(tmp_path, en=[medqa()], fr=[french])
  (one, two), dropped = read(tmp_path, 'en', 'fr')
  assert dropped == {}
  assert one == records.Question(
      id='medqa_authors_us-test-0001',
      dataset='medqa_authors_us',
      split='test',
      lang='en',
      stem='Which?',
      options=tuple(map(records.Option, 'ABCD', TEXTS)),
      gold='B',
  )
  assert (two.id, two.lang, two.gold) == (one.id, 'fr', 'B')
  assert (two.stem, two.options[3].text) == ('Lequel ?', 'bas')
  assert (one.translated_from, two.translated_from) == (None, 'en')


@pytest.mark.parametrize(
    'text',
    [
        'Which? (A) left (B) right (C) up (D) down ',
        'Which?\n(A) left\n(B) right\n(C) up\n(D) down',
        'Which?（Ａ） left (B)right ( C) up\u200b(D ) down'.replace('Ａ', 'A'),
    ],
)
def test_options_inside_the_text(tmp_path, text):
  write_medqa(tmp_path, en=[medqa() | {'input': text}])
  (question,), _ = read(tmp_path, 'en')
  assert question.stem == 'Which?'
  letters = [o.text.strip('\u200b') for o in question.options]
  assert letters == list(TEXTS)


def test_letters_that_are_no_options(tmp_path):
  stem = 'Group (A) or (B)?'
  texts = ('V(D)J joining', 'Rh(D)', 'up', 'both (A) and (B)')
  write_medqa(tmp_path, en=[medqa(stem, texts, '(B) Rh(D)')])
  (question,), _ = read(tmp_path, 'en')
  assert question.stem == stem
  assert tuple(o.text for o in question.options) == texts


@pytest.mark.parametrize(
    ('answer', 'expected'),
    [
        ('(B) right', ('B', 'same_text')),
        ('( b)RIGHT.', ('B', 'same_text')),
        ('（B） right', ('B', 'same_text')),
        ('(B)', ('B', 'letter')),
        ('(B) to the right', ('B', 'other_text')),
        ('(B) left', (None, 'gold_conflict')),
        ('(F) right', (None, 'gold_unreadable')),
        ('right', (None, 'gold_unreadable')),
        ('', (None, 'gold_unreadable')),
    ],
)
def test_gold(answer, expected):
  options = [records.Option(k, t) for k, t in zip('ABCD', TEXTS, strict=True)]
  assert authors.read_gold(answer, options) == expected


@pytest.mark.parametrize(
    ('row', 'reason'),
    [
        (
            medqa() | {'input': 'Which? (A) 1 (B) 2 (Cage (D) 4'},
            'options_unreadable',
        ),
        (medqa(gold='right'), 'gold_unreadable'),
        (medqa(gold='(B) left'), 'gold_conflict'),
        (medqa(gold='(C) haut'), 'gold_differs'),
        (medqa(texts=('gauche', '', 'haut', 'bas')), 'blank_text'),
        (
            medqa(texts=('right', 'left', 'up', 'down'), gold='(B)'),
            'options_moved',
        ),
    ],
)
def test_a_translation_that_does_not_fit_is_counted(tmp_path, row, reason):
  good = medqa('Another?')
  write_medqa(tmp_path, en=[medqa(), good], fr=[row, good], zh=[good, good])
  questions, dropped = read(tmp_path, 'en', 'fr')
  assert [q.id for q in questions] == ['medqa_authors_us-test-0002'] * 2
  assert dropped == {reason: 1}
  # The original is what a translation must agree with, asked for or not.
  alone, dropped = read(tmp_path, 'fr')
  assert [q.lang for q in alone] == ['fr']
  assert dropped == {reason: 1}


def test_a_row_too_many_is_left_out(tmp_path):
  english = [medqa(f'Of {n + 40}?') for n in range(40)]
  french = [*english[:9], medqa('De 48 ?'), *english[9:]]
  write_medqa(tmp_path, en=english, fr=french)
  questions, dropped = read(tmp_path, 'fr')
  assert dropped == {'extra_row': 1}
  assert [q.stem for q in questions] == [f'Of {n + 40}?' for n in range(40)]


def test_files_of_other_questions_are_refused(tmp_path):
  write_medqa(tmp_path, en=[medqa()] * 40, fr=[medqa()] * 43)
  with pytest.raises(ValueError, match=r'all_test_en2fr\.json: has 43 rows'):
    read(tmp_path, 'en', 'fr')


def test_languages_that_are_not_there_are_for_the_translator(tmp_path):
  write_medqa(tmp_path, en=[medqa()])
  questions, _ = read(tmp_path, 'de', 'en')
  assert [q.lang for q in questions] == ['en']
  with pytest.raises(ValueError, match='medqa_authors_us has only en, zh, fr'):
    read(tmp_path, 'de')


def test_what_is_missing_is_named(tmp_path):
  write_medqa(tmp_path, en=[medqa()])
  with pytest.raises(
      FileNotFoundError,
      match=r'has no all_test_en2fr\.json .*; it has all_test_native_en\.json',
  ):
    read(tmp_path, 'en', 'fr')
  with pytest.raises(ValueError, match="no split 'train', only test"):
    read(tmp_path, 'en', split='train')


@pytest.mark.parametrize(
    ('row', 'words'),
    [
        ('x', "'x' is not an object with the field 'input'"),
        ({'output': '(A)'}, "lacks the field 'input'"),
        (medqa() | {'output': 1}, "field 'output': 1 is not str"),
    ],
)
def test_a_malformed_row_names_file_row_and_field(tmp_path, row, words):
  write_medqa(tmp_path, en=[medqa(), row])
  with pytest.raises(ValueError, match=rf'native_en\.json: row 2: {words}'):
    read(tmp_path, 'en')


def xcsqa_row(before='', after='', gold='C'):
  options = ''.join(f'\n{k}. {k} text' for k in 'ABCDE')
  text = f'{before}Which?{options}{after}'
  return {'instruction': '', 'input': text, 'output': gold, 'pred': ['x']}


@pytest.mark.parametrize(
    ('lang', 'code', 'before', 'after'),
    [
        ('en', 'en', '', ''),
        ('en', 'en', 'Question: ', '\nAnswer:'),
        ('zh', 'cn', '问题:', '\n\n答案:'),
        ('fr', 'fr', 'Question : ', '\nRéponse :'),
        ('de', 'de', 'Frage: ', '\nAnswer:\nAntwort:'),
        ('it', 'it', 'Domanda: ', '\nAnswer:\nRisposta:'),
        ('ja', 'ja', '質問: ', '\n答え:'),
    ],
)
@pytest.mark.parametrize(
    ('split', 'file'),
    [
        ('train', 'x_csqa_{}_train_sampled.json'),
        ('train_mistral', 'x_csqa_{}_train_mistral_sampled.json'),
        ('train', 'data/xcsqa/samples/x_csqa_{}_train_sampled.json'),
        ('test', 'x_csqa_{}_test.json'),
        ('test', 'data/xcsqa/test/x_csqa_{}_test.json'),
    ],
)
def test_x_csqa(tmp_path, lang, code, before, after, split, file):
  path = tmp_path / file.format(code)
  path.parent.mkdir(parents=True, exist_ok=True)
  write(path, [xcsqa_row(before, after)])
  (question,), dropped = read(tmp_path, lang, name='xcsqa_authors', split=split)
  assert dropped == {}
  assert (question.stem, question.gold, question.lang) == ('Which?', 'C', lang)
  assert [o.text for o in question.options] == [f'{k} text' for k in 'ABCDE']
  assert (question.split, question.translated_from) == (split, None)


def test_the_folders_of_the_repository(tmp_path):
  us = tmp_path / 'data/medqa/test/test_sft_en_q_1000'
  mainland = tmp_path / 'data/medqa/test/test_sft_cn_q_1000'
  us.mkdir(parents=True)
  mainland.mkdir(parents=True)
  write(us / 'all_test_en2fr.json', [medqa('fr')])
  write(us / 'all_test_native_en.json', [medqa('en')])
  write(mainland / 'testset_native_cn.json', [medqa('zh')])
  questions, _ = read(tmp_path, 'en', 'fr')
  assert [q.stem for q in questions] == ['en', 'fr']
  (question,), _ = read(tmp_path, 'zh', name='medqa_authors_mainland')
  assert question.stem == 'zh'


def test_samples_need_no_label(tmp_path):
  write(
      tmp_path / XCSQA.format('en'), [xcsqa_row(gold=''), xcsqa_row(gold='F')]
  )
  (question,), dropped = read(
      tmp_path, 'en', name='xcsqa_authors', split='train'
  )
  assert question.gold is None
  assert dropped == {'gold_unreadable': 1}


# ---- the real files -----------------------------------------------------

US = {
    ('en',): (1000, {}),
    ('zh',): (999, {'options_unreadable': 1, 'extra_row': 1}),
    ('fr',): (997, {'options_unreadable': 3}),
    ('en', 'zh', 'fr'): (996, {'options_unreadable': 4, 'extra_row': 1}),
}
MAINLAND = {langs: (1000, {}) for langs in US}
# What the answer's text says of the options: it contradicts none.
TOLD = [
    ('medqa_authors_us', 'en', 'all_test_native_en.json', (1000, 0)),
    ('medqa_authors_us', 'zh', 'all_test_en2cn.json', (991, 8)),
    ('medqa_authors_us', 'fr', 'all_test_en2fr.json', (945, 52)),
    ('medqa_authors_mainland', 'zh', 'testset_native_cn.json', (1000, 0)),
    ('medqa_authors_mainland', 'en', 'testset_cn2en.json', (674, 326)),
    ('medqa_authors_mainland', 'fr', 'all_test_cn2fr.json', (623, 377)),
]


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('medqa_authors_us', US), ('medqa_authors_mainland', MAINLAND)],
)
def test_how_many_of_the_real_tests_align(real_data, name, expected):
  folder = real_data / 'calm_authors' / 'medqa' / 'test'
  for langs, (count, dropped) in expected.items():
    questions, found = read(folder, *langs, name=name)
    assert (len(questions), found) == (count * len(langs), dropped)


@pytest.mark.parametrize(('name', 'lang', 'file', 'expected'), TOLD)
def test_what_the_real_answers_say(real_data, name, lang, file, expected):
  folder = real_data / 'calm_authors' / 'medqa' / 'test'
  questions, _ = read(folder, lang, name=name)
  rows = json.loads((folder / file).read_text('utf-8'))
  if len(rows) == 1001:
    # Question 298 is there twice, in two wordings.
    assert rows[297]['output'] == rows[298]['output']
    del rows[298]
  told = collections.Counter(
      authors.read_gold(rows[int(q.id[-4:]) - 1]['output'], q.options).told
      for q in questions
  )
  assert (told.pop('same_text'), told.pop('other_text', 0)) == expected
  assert not told


def test_the_real_english_test_is_the_release(real_data):
  """So that the rows of every translation are known questions."""
  official, _ = read(real_data / 'medqa_us', 'en', name='medqa_us_4')
  ours, _ = read(real_data / 'calm_authors' / 'medqa' / 'test', 'en')
  assert [(q.stem, q.options, q.gold) for q in ours] == [
      (q.stem, q.options, q.gold) for q in official[:1000]
  ]


@pytest.mark.parametrize(
    ('name', 'prefix', 'expected'),
    [
        ('medqa_authors_us', 'us', 11),
        ('medqa_authors_mainland', 'mainland', 15),
    ],
)
def test_the_real_tests_equal_another_reading_of_them(
    real_data, name, prefix, expected
):
  langs = ('en', 'zh', 'fr')
  folder = real_data / 'calm_authors' / 'medqa' / 'test'
  questions, _ = read(folder, *langs, name=name)
  others = {}
  for lang in langs:
    file = real_data / 'medqa' / f'{prefix}_{lang}.test.jsonl'
    for number, line in enumerate(file.read_text('utf-8').splitlines(), 1):
      others[f'{name}-test-{number:04d}', lang] = json.loads(line)
  differ = []
  for question in questions:
    other = others[question.id, question.lang]
    options = {o.key: o.text for o in question.options}
    if question.gold != other['answer_idx'] or not all(
        alignment.alike(text, other['options'].get(key, ''))
        for key, text in options.items()
    ):
      differ.append(question)
    else:
      assert alignment.alike(question.stem, other['question'])
  # That reading takes V(D)J for an option, and '( D)' and '(d)' for none.
  assert len(differ) == expected


def test_the_real_samples_are_the_questions_of_x_csqa(real_data):
  langs = ('en', 'zh', 'fr', 'it', 'de', 'ja')
  folder = real_data / 'calm_authors' / 'xcsqa' / 'samples'
  ours, dropped = read(folder, *langs, name='xcsqa_authors', split='train')
  release, _ = xcsqa.read(real_data / 'xcsqa', 'train', langs)
  assert (len(ours), dropped) == (899 * 6, {})
  for one, two in zip(ours, release, strict=True):
    assert (one.lang, one.stem, one.gold) == (two.lang, two.stem, two.gold)
    for option, other in zip(one.options, two.options, strict=True):
      # That conversion left the words after the options in the last one.
      assert (option.key, option.text) == (other.key, other.text.split('\n')[0])
