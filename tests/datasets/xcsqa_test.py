"""X-CSQA's layout: what is read, what is refused, what is left out."""

import json

import datasets as hub
import pytest

from calm_jax import datasets
from calm_jax.datasets import xcsqa


def row(**changes):
  """A sound row; `changes` replace its fields, and `stem` or `choices`."""
  question = {
      'stem': changes.pop('stem', 'Which one?'),
      'choices': changes.pop('choices', options(A='left', B='right')),
  }
  sound = {'id': 'q1', 'lang': 'en', 'question': question, 'answerKey': 'A'}
  return sound | changes


def options(**texts):
  return [{'label': label, 'text': text} for label, text in texts.items()]


def write(path, *rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
  path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def test_reads_every_field(tmp_path):
  write(
      tmp_path / 'en' / 'dev.jsonl',
      row(stem=' Which one? ', choices=options(A=' left', B='right ')),
  )
  (question,), dropped = xcsqa.read(tmp_path, 'dev', ['en'])
  assert question.id == 'q1'
  assert (question.dataset, question.split) == ('xcsqa', 'dev')
  assert (question.lang, question.stem) == ('en', 'Which one?')
  assert [(o.key, o.text) for o in question.options] == [
      ('A', 'left'),
      ('B', 'right'),
  ]
  assert question.gold == 'A'
  assert not dropped


def test_orders_by_question_then_language(tmp_path):
  write(tmp_path / 'en' / 'dev.jsonl', row(id='x'), row(id='a'))
  write(
      tmp_path / 'fr' / 'dev.jsonl',
      row(id='a', lang='fr'),
      row(id='x', lang='fr'),
  )
  questions, _ = xcsqa.read(tmp_path, 'dev', ['fr', 'en'])
  assert [(q.id, q.lang) for q in questions] == [
      ('a', 'fr'),
      ('a', 'en'),
      ('x', 'fr'),
      ('x', 'en'),
  ]


def test_options_are_matched_by_label_not_by_place(tmp_path):
  write(tmp_path / 'en' / 'dev.jsonl', row())
  write(
      tmp_path / 'fr' / 'dev.jsonl',
      row(lang='fr', choices=options(B='droite', A='gauche')),
  )
  (english, french), dropped = xcsqa.read(tmp_path, 'dev', ['en', 'fr'])
  assert not dropped
  assert [o.key for o in english.options] == ['A', 'B']
  assert [o.text for o in french.options] == ['droite', 'gauche']


@pytest.mark.parametrize('top', ['', 'X-CSQA'])
@pytest.mark.parametrize(
    ('lang', 'folder'),
    [('ja', 'ja'), ('ja', 'jap'), ('zh', 'zh'), ('zh', 'cn')],
)
def test_knows_the_names_of_folders(tmp_path, top, lang, folder):
  write(tmp_path / top / folder / 'test.jsonl', row(lang=folder))
  (question,), _ = xcsqa.read(tmp_path, 'test', [lang])
  assert question.lang == lang


@pytest.mark.parametrize('key', [None, ''])
def test_a_hidden_key_is_no_gold(tmp_path, key):
  write(tmp_path / 'en' / 'test.jsonl', row(answerKey=key))
  assert xcsqa.read(tmp_path, 'test', ['en'])[0][0].gold is None


def test_a_lacking_key_is_no_gold(tmp_path):
  unlabelled = row()
  del unlabelled['answerKey']
  write(tmp_path / 'en' / 'test.jsonl', unlabelled)
  assert xcsqa.read(tmp_path, 'test', ['en'])[0][0].gold is None


def test_reads_the_columns_of_the_hub(tmp_path):
  columns = {'label': ['A', 'B'], 'text': ['left', 'right']}
  write(tmp_path / 'en' / 'dev.jsonl', row(choices=columns))
  (question,), _ = xcsqa.read(tmp_path, 'dev', ['en'])
  assert [(o.key, o.text) for o in question.options] == [
      ('A', 'left'),
      ('B', 'right'),
  ]


def test_only_newlines_end_rows(tmp_path):
  stem = 'one\u2028two\x85three\x0bfour'
  text = json.dumps(row(stem=stem), ensure_ascii=False)
  file = tmp_path / 'en' / 'dev.jsonl'
  file.parent.mkdir()
  file.write_bytes(b'\xef\xbb\xbf' + text.encode() + b'\r\n\r\n')
  (question,), _ = xcsqa.read(tmp_path, 'dev', ['en'])
  assert question.stem == stem


@pytest.mark.parametrize(
    ('french', 'reason'),
    [
        (row(id='q2', lang='fr'), 'missing_language'),
        (row(lang='fr', stem=' '), 'blank_text'),
        (row(lang='fr', choices=options(A='', B='droite')), 'blank_text'),
        (
            row(lang='fr', choices=options(A='gauche', B='droite', C='haut')),
            'labels_differ',
        ),
        (row(lang='fr', answerKey='B'), 'gold_differs'),
        (row(lang='fr', answerKey=''), 'gold_differs'),
    ],
)
def test_what_does_not_align_is_left_out_and_counted(tmp_path, french, reason):
  good = row(id='good')
  write(tmp_path / 'en' / 'dev.jsonl', good, row())
  write(tmp_path / 'fr' / 'dev.jsonl', french, good | {'lang': 'fr'})
  questions, dropped = xcsqa.read(tmp_path, 'dev', ['en', 'fr'])
  assert [(q.id, q.lang) for q in questions] == [('good', 'en'), ('good', 'fr')]
  # An id that only one language has, either way round.
  assert dropped == {reason: 2 if reason == 'missing_language' else 1}


@pytest.mark.parametrize(
    ('bad', 'words'),
    [
        ('{"id": "q2"', 'Expecting'),
        ('[]', "not an object with the field 'id'"),
        ('{"id": "q2"}', "lacks the field 'lang'"),
        (row(id=2), "field 'id': 2 is not str"),
        (row(id=' '), "field 'id': is empty"),
        (row(), "field 'id': 'q1' was there before"),
        (row(id='q2', lang='fr'), "field 'lang': 'fr' in a file of 'en'"),
        (row(id='q2', question='Why?'), "field 'question': 'Why.' is not dict"),
        (row(id='q2', stem=None), "field 'stem': None is not str"),
        (row(id='q2', choices='AB'), "field 'choices': 'AB' is not list"),
        (row(id='q2', choices=options(A='left')), '1 given, 2 are needed'),
        (
            row(id='q2', choices=options(A='l', B='r') + options(A='up')),
            'twice among',
        ),
        (row(id='q2', choices=options(A='l') + options(**{' ': 'r'})), 'empty'),
        (row(id='q2', choices=[{'label': 'A'}, {}]), "lacks the field 'text'"),
        (
            row(id='q2', choices={'label': ['A', 'B'], 'text': ['left']}),
            '2 labels, 1 texts',
        ),
        (row(id='q2', answerKey='C'), "field 'answerKey': 'C' is not one of"),
        (row(id='q2', answerKey=0), "field 'answerKey': 0 is not str"),
    ],
)
def test_a_malformed_row_names_file_line_and_field(tmp_path, bad, words):
  write(tmp_path / 'en' / 'dev.jsonl', row(), bad)
  with pytest.raises(ValueError, match=rf'en.dev\.jsonl:2: .*{words}'):
    xcsqa.read(tmp_path, 'dev', ['en'])


def test_bytes_that_are_no_text_name_their_line(tmp_path):
  write(tmp_path / 'en' / 'dev.jsonl', row())
  with (tmp_path / 'en' / 'dev.jsonl').open('ab') as f:
    f.write(b'{"id": "\xff"}\n')
  with pytest.raises(ValueError, match=r'dev\.jsonl:2: .*utf-8'):
    xcsqa.read(tmp_path, 'dev', ['en'])


def test_a_missing_file_says_what_is_there(tmp_path):
  write(tmp_path / 'X-CSQA' / 'en' / 'train.jsonl', row())
  write(tmp_path / 'X-CSQA' / 'en' / 'dev.jsonl', row())
  write(tmp_path / 'X-CSQA' / 'jap' / 'dev.jsonl', row(lang='jap'))
  with pytest.raises(
      FileNotFoundError,
      match='Languages with a train file: en; splits in ja: dev',
  ):
    xcsqa.read(tmp_path, 'train', ['en', 'ja'])


def as_columns(question):
  """A row of the release as the Hub's tables hold it."""
  choices = question['question']['choices']
  columns = {k: [c[k] for c in choices] for k in ('label', 'text')}
  stem = question['question']['stem']
  return question | {'question': {'stem': stem, 'choices': columns}}


def write_table(path, *questions):
  path.parent.mkdir(parents=True, exist_ok=True)
  hub.Dataset.from_list([as_columns(q) for q in questions]).to_parquet(path)


@pytest.mark.parametrize(
    'names',
    [
        ('X-CSQA-{}/{}/0000.parquet', 'X-CSQA-{}/{}/0001.parquet'),
        (
            'X-CSQA-{}/{}-00000-of-00002.parquet',
            'X-CSQA-{}/{}-00001-of-00002.parquet',
        ),
    ],
)
def test_tables_and_the_release_give_the_same_records(tmp_path, names):
  codes = {'en': 'en', 'ja': 'jap'}
  for lang, code in codes.items():
    questions = [
        row(id='q1', lang=code, stem=f'{lang} 1', answerKey='B'),
        row(id='q2', lang=code, stem=f'{lang}\u20282'),
        row(id='q3', lang=code, choices=options(A='', B='x')),
    ]
    write(tmp_path / 'release' / code / 'dev.jsonl', *questions)
    hidden = [q | {'answerKey': ''} for q in questions]
    write(tmp_path / 'release' / code / 'test.jsonl', *hidden)
    hub_names = {'validation': questions, 'test': hidden}
    for split, rows in hub_names.items():
      first, second = (tmp_path / 'hub' / n.format(code, split) for n in names)
      write_table(first, rows[0])
      write_table(second, *rows[1:])
  for split in ('dev', 'test'):
    expected = xcsqa.read(tmp_path / 'release', split, list(codes))
    assert xcsqa.read(tmp_path / 'hub', split, list(codes)) == expected
    questions, dropped = expected
    assert [q.gold for q in questions] == (
        ['B', 'B', 'A', 'A'] if split == 'dev' else [None] * 4
    )
    assert dropped == {'blank_text': 1}


def test_a_table_that_is_missing_says_what_is_there(tmp_path):
  write_table(tmp_path / 'X-CSQA-jap' / 'test' / '0000.parquet', row())
  with pytest.raises(
      FileNotFoundError,
      match='Languages with a dev file: none; splits in ja: test',
  ):
    xcsqa.read(tmp_path, 'dev', ['ja'])


def test_the_real_questions_are_the_same_in_tables(tmp_path, real_data):
  languages = ['en', 'ja', 'zh']
  for lang in languages:
    lines = (real_data / 'xcsqa' / lang / 'train.jsonl').read_text('utf-8')
    questions = [json.loads(line) for line in lines.split('\n') if line]
    file = tmp_path / f'X-CSQA-{lang}' / 'train' / '0000.parquet'
    write_table(file, *questions)
  expected = xcsqa.read(real_data / 'xcsqa', 'train', languages)
  assert xcsqa.read(tmp_path, 'train', languages) == expected


def test_an_unknown_reader_names_the_nearest():
  assert datasets.reader('xcsqa') is xcsqa.read
  with pytest.raises(ValueError, match="'xcqa', did you mean 'xcsqa'"):
    datasets.reader('xcqa')


def test_the_real_questions_all_align(real_data):
  languages = ['en', 'zh', 'fr', 'de', 'it', 'ja']
  questions, dropped = xcsqa.read(real_data / 'xcsqa', 'train', languages)
  assert not dropped
  assert len(questions) == 899 * 6
  assert [q.lang for q in questions] == languages * 899
  assert len({q.id for q in questions}) == 899
  assert all(len(q.options) == 5 and q.gold for q in questions)
