"""MedQA: editions and variants, its tables, and what real rows look like."""

import functools
import json
import re

import datasets as hub
import pytest

from calm_jax import datasets
from calm_jax.datasets import medqa

LETTERS = {'A': 'left', 'B': 'right', 'C': 'up', 'D': 'down'}


def row(**changes):
  sound = {
      'question': 'Which?',
      'answer': 'right',
      'options': LETTERS,
      'meta_info': 'step1',
      'answer_idx': 'B',
  }
  return sound | changes


def write(path, *rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
  path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def write_table(path, *rows):
  """As the Hub holds them: options in rows, every column a text."""
  path.parent.mkdir(parents=True, exist_ok=True)
  pairs = [
      r | {'options': [{'key': k, 'value': v} for k, v in r['options'].items()]}
      for r in rows
  ]
  hub.Dataset.from_list(pairs).to_parquet(path)


def read(path, name='medqa_us_4', split='test', languages=('en', 'zh')):
  return datasets.reader(name)(path, split, languages)


def test_reads_every_field(tmp_path):
  write(
      tmp_path / 'US' / 'test.jsonl',
      row(question=' One? '),
      row(question='Two?', options=LETTERS | {'E': ' out '}),
  )
  (one, two), dropped = read(tmp_path, 'medqa_us')
  assert dropped == {}
  assert (one.id, two.id) == ('medqa_us-test-00001', 'medqa_us-test-00002')
  assert (one.dataset, one.split, one.lang) == ('medqa_us', 'test', 'en')
  assert (one.stem, one.gold, one.translated_from) == ('One?', 'B', None)
  assert [(o.key, o.text) for o in one.options] == list(LETTERS.items())
  assert two.options[4].key == 'E'
  assert two.options[4].text == 'out'


@pytest.mark.parametrize('root', ['', 'questions', 'data_clean/questions'])
@pytest.mark.parametrize(
    ('name', 'lang', 'file'),
    [
        ('medqa_us', 'en', 'US/dev.jsonl'),
        (
            'medqa_us',
            'en',
            'US/metamap_extracted_phrases/dev/phrases_dev.jsonl',
        ),
        ('medqa_us_4', 'en', 'US/4_options/phrases_no_exclude_dev.jsonl'),
        ('medqa_us_4', 'en', 'US/4_options/dev.jsonl'),
        ('medqa_us_4', 'en', 'phrases_no_exclude_dev.jsonl'),
        ('medqa_mainland', 'zh', 'Mainland/dev.jsonl'),
        ('medqa_mainland_4', 'zh', 'Mainland/4_options/dev.jsonl'),
        ('medqa_taiwan', 'zh', 'Taiwan/dev.jsonl'),
    ],
)
def test_every_edition_has_its_file(tmp_path, root, name, lang, file):
  editions = [n for n in datasets.READERS if re.fullmatch('medqa_[^a].*', n)]
  assert len(editions) == 5
  write(tmp_path / root / file, row())
  for edition in editions:
    if edition != name:
      with pytest.raises(FileNotFoundError, match=r'dev\.jsonl\. Change'):
        read(tmp_path, edition, 'dev')
  (question,), _ = read(tmp_path, name, 'dev')
  assert (question.lang, question.dataset) == (lang, name)


def test_phrases_make_no_difference(tmp_path):
  folder = tmp_path / 'US' / '4_options'
  write(folder / 'test.jsonl', row(), row(question='Two?'))
  plain = read(tmp_path)
  phrases = {'metamap_phrases': ['which', 'left']}
  (folder / 'test.jsonl').unlink()
  write(
      folder / 'phrases_no_exclude_test.jsonl',
      row(**phrases),
      row(question='Two?', **phrases),
  )
  assert read(tmp_path) == plain


def test_only_the_native_language_is_emitted(tmp_path):
  write(tmp_path / 'US' / '4_options' / 'test.jsonl', row())
  questions, _ = read(tmp_path, languages=('fr', 'en', 'zh'))
  assert [q.lang for q in questions] == ['en']
  with pytest.raises(ValueError, match=r'medqa_us_4 has .* in en only.*add en'):
    read(tmp_path, languages=('fr', 'zh'))


@pytest.mark.parametrize('split', ['dev', 'test'])
@pytest.mark.parametrize(
    'name',
    ['{}/0000.parquet', '{}-00000-of-00001.parquet', 'med_qa-{}.parquet'],
)
def test_tables_and_the_release_give_the_same_records(tmp_path, split, name):
  rows = [
      row(),
      row(question='two\u2028?', options=LETTERS | {'E': 'out'}),
      row(question='three?', answer='elsewhere'),
  ]
  config = tmp_path / 'hub' / 'med_qa_zh_source'
  write(tmp_path / 'release' / 'Mainland' / f'{split}.jsonl', *rows)
  hub_split = {'dev': 'validation'}.get(split, split)
  write_table(config / name.format(hub_split), *rows)
  expected = read(tmp_path / 'release', 'medqa_mainland', split)
  assert read(tmp_path / 'hub', 'medqa_mainland', split) == expected
  questions, dropped = expected
  assert [len(q.options) for q in questions] == [4, 5]
  assert dropped == {'gold_conflict': 1}


def test_a_table_with_a_column_per_letter(tmp_path):
  """What the library makes of rows with four and with five options."""
  file = tmp_path / 'med_qa_en_source' / 'test' / '0000.parquet'
  file.parent.mkdir(parents=True)
  rows = [row(), row(options=LETTERS | {'E': 'out'})]
  hub.Dataset.from_list(rows[::-1]).to_parquet(file)
  (five, four), _ = read(tmp_path, 'medqa_us')
  assert [o.key for o in four.options] == list('ABCD')
  assert [o.key for o in five.options] == list('ABCDE')


@pytest.mark.parametrize(
    ('changes', 'gold'),
    [
        ({}, 'B'),
        ({'answer': ' RIGHT.'}, 'B'),
        ({'answer': ''}, 'B'),
        ({'answer_idx': None}, 'B'),
        ({'answer_idx': '', 'answer': ''}, None),
        ({'answer_idx': None, 'answer': None}, None),
    ],
)
def test_what_names_the_right_option(tmp_path, changes, gold):
  write(tmp_path / 'US' / 'test.jsonl', row(**changes))
  (question,), dropped = read(tmp_path, 'medqa_us')
  assert question.gold == gold
  assert not dropped


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'answer': 'left'}, 'gold_conflict'),
        ({'answer_idx': 'E'}, 'gold_conflict'),
        ({'answer_idx': '', 'answer': 'out'}, 'gold_conflict'),
        (
            {'answer_idx': '', 'options': LETTERS | {'A': 'right'}},
            'gold_conflict',
        ),
        ({'question': ' '}, 'blank_text'),
        ({'options': LETTERS | {'A': ''}}, 'blank_text'),
    ],
)
def test_a_row_that_is_no_question_is_counted(tmp_path, changes, reason):
  write(tmp_path / 'US' / 'test.jsonl', row(**changes), row())
  questions, dropped = read(tmp_path, 'medqa_us')
  # The rows after it keep their names.
  assert [q.id for q in questions] == ['medqa_us-test-00002']
  assert dropped == {reason: 1}


@pytest.mark.parametrize(
    ('bad', 'words'),
    [
        ('{"question"', 'Expecting'),
        ('[]', "not an object with the field 'options'"),
        (row(question=None), "field 'question': None is not str"),
        (row(options='A'), "field 'options': 'A' is not dict or list"),
        (row(options={'A': 1, 'B': 'x'}), "field 'A': 1 is not str"),
        (row(options={'A': 'x'}), r"field 'options': .* not \['A'\]"),
        (row(options={'A': 'x', 'A ': 'y'}), r"not \['A', 'A'\]"),
        (row(options=[{'value': 'x'}]), "lacks the field 'key'"),
        (row(answer_idx=1), "field 'answer_idx': 1 is not str"),
    ],
)
def test_a_malformed_row_names_file_line_and_field(tmp_path, bad, words):
  write(tmp_path / 'US' / 'test.jsonl', row(), bad)
  with pytest.raises(ValueError, match=rf'US.test\.jsonl:2: .*{words}'):
    read(tmp_path, 'medqa_us')


def test_a_missing_file_says_what_is_there(tmp_path):
  write(tmp_path / 'questions' / 'Taiwan' / 'test.jsonl', row())
  with pytest.raises(
      FileNotFoundError,
      match=r'no test split of medqa_us: neither US/test\.jsonl .*'
      r'med_qa_en_source/. It has questions/Taiwan/test\.jsonl\. Change',
  ):
    read(tmp_path, 'medqa_us')


def five_options(row):
  """The 5-option test, whose text ends with the options, as the release's."""
  return {
      'question': row['question'].split('\nA)')[0],
      'options': row['options'],
      'answer': row['answer_text'],
      'answer_idx': row['answer'],
  }


def test_the_real_tests_of_the_us(tmp_path, real_data):
  folder = real_data / 'medqa_us'
  four, dropped = read(folder)
  assert len(four) == 1273
  assert dropped == {}
  lines = (folder / 'us_5opt_test_textual.jsonl').read_text('utf-8')
  rows = [json.loads(line) for line in lines.split('\n') if line]
  write(tmp_path / 'US' / 'test.jsonl', *map(five_options, rows))
  five, dropped = read(tmp_path, 'medqa_us')
  assert (len(five), dropped) == (1273, {})
  moved = 0
  for one, two in zip(four, five, strict=True):
    texts = {o.key: o.text for o in one.options}
    others = {o.key: o.text for o in two.options}
    assert one.stem == two.stem
    assert (len(texts), len(others)) == (4, 5)
    assert set(texts.values()) < set(others.values())
    assert texts[one.gold] == others[two.gold]
    moved += one.gold != two.gold
  # Letters are no identity: leaving out one option moves those after it.
  assert moved == 600


def test_the_real_questions_are_the_same_in_tables(tmp_path, real_data):
  lines = (real_data / 'medqa_us' / 'phrases_no_exclude_test.jsonl').read_text(
      'utf-8'
  )
  rows = [json.loads(line) for line in lines.split('\n') if line]
  write_table(
      tmp_path / 'med_qa_en_4options_source' / 'test' / '0000.parquet', *rows
  )
  assert read(tmp_path) == read(real_data / 'medqa_us')


@pytest.mark.parametrize(
    ('file', 'name', 'kept'),
    [('us_en', 'medqa_us_4', 1000), ('mainland_zh', 'medqa_mainland_4', 1000)],
)
def test_the_real_rows_without_answer_texts(
    tmp_path, real_data, file, name, kept
):
  text = (real_data / 'medqa' / f'{file}.test.jsonl').read_text('utf-8')
  folder = {'medqa_us_4': 'US', 'medqa_mainland_4': 'Mainland'}[name]
  write(tmp_path / folder / '4_options' / 'test.jsonl', *text.split('\n'))
  questions, dropped = read(tmp_path, name)
  assert (len(questions), dropped) == (kept, {})
  assert {q.gold for q in questions} == set('ABCD')


def test_both_countries_are_read_in_turns(tmp_path):
  us, mainland = tmp_path / 'US/4_options', tmp_path / 'Mainland/4_options'
  sound = [row(question=f'{n}?') for n in range(3)]
  write(us / 'test.jsonl', *sound, row(answer='neither'))
  write(mainland / 'test.jsonl', row(question='一?'), row(answer='neither'))
  questions, dropped = read(tmp_path, 'medqa')
  assert [(q.lang, q.stem) for q in questions] == [
      ('en', '0?'),
      ('zh', '一?'),
      ('en', '1?'),
      ('en', '2?'),
  ]
  assert {q.dataset for q in questions} == {'medqa_us_4', 'medqa_mainland_4'}
  assert dropped == {'gold_conflict': 2}
  found = datasets.finder('medqa')(tmp_path, 'test', ('zh', 'en', 'fr'))
  assert found == {
      'en': [us / 'test.jsonl'],
      'zh': [mainland / 'test.jsonl'],
  }
  with pytest.raises(ValueError, match='add zh'):
    datasets.finder('medqa')(tmp_path, 'test', ('en', 'fr'))


def test_the_readers_are_those_of_the_module():
  assert datasets.reader('medqa_taiwan') is medqa.read_taiwan
  assert datasets.finder('medqa_taiwan') is medqa.find_taiwan


@pytest.mark.parametrize('name', [n for n in datasets.READERS if 'medqa_' in n])
def test_what_is_found_is_what_is_read(name):
  reader, finder = datasets.reader(name), datasets.finder(name)
  assert isinstance(reader, functools.partial)
  assert isinstance(finder, functools.partial)
  assert reader.args == finder.args
  assert reader.args[0].name == name
