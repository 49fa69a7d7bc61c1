"""The first stage: raw data to the questions of a run."""

import json
import subprocess
import sys

from ml_collections import ConfigDict
import msgspec
import pytest

from calm_jax import read, records


def config(**changes):
  """What the stage looks at; `changes` replace fields by name."""
  cfg = ConfigDict(
      {
          'languages': ('en', 'ja'),
          'limit': 0,
          'data': {
              'name': 'demo',
              'path': '',
              'train_split': 'train',
              'test_split': 'test',
              'train_limit': 0,
              'test_limit': 0,
          },
      }
  )
  cfg.update_from_flattened_dict(changes)
  return cfg


def question(name, lang='en', gold='A'):
  return records.Question(
      id=name,
      dataset='toy',
      split='train',
      lang=lang,
      stem='Which?',
      options=(records.Option('A', 'left'), records.Option('B', 'right')),
      gold=gold,
  )


def row(name, lang='en', gold='A'):
  choices = [{'label': 'A', 'text': 'x'}, {'label': 'B', 'text': 'y'}]
  return json.dumps(
      {
          'id': name,
          'lang': lang,
          'question': {'stem': 'Which?', 'choices': choices},
          'answerKey': gold,
      }
  )


def write(path, *rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(rows) + '\n', encoding='utf-8')


def test_the_bundled_questions(tmp_path):
  counts = read.run(config(), tmp_path)
  assert counts == {
      'train_questions': 24,
      'train_rows': 48,
      'test_questions': 12,
      'test_rows': 24,
  }
  for part, count in (('train', 48), ('test', 24)):
    path = tmp_path / 'read' / f'{part}.jsonl'
    questions = list(records.read_jsonl(path, records.Question))
    assert [q.lang for q in questions] == ['en', 'ja'] * (count // 2)
    assert {q.split for q in questions} == {part}


def test_the_limit_keeps_the_first_questions_whole(tmp_path):
  counts = read.run(config(limit=2), tmp_path)
  assert (counts['train_questions'], counts['train_rows']) == (2, 4)
  path = tmp_path / 'read' / 'test.jsonl'
  questions = list(records.read_jsonl(path, records.Question))
  assert [(q.id, q.lang) for q in questions] == [
      ('demo-test-01', 'en'),
      ('demo-test-01', 'ja'),
      ('demo-test-02', 'en'),
      ('demo-test-02', 'ja'),
  ]


@pytest.mark.parametrize(
    ('limit', 'train_limit', 'test_limit', 'train', 'test'),
    [
        (0, 0, 0, 24, 12),
        (0, 5, 0, 5, 12),
        (0, 0, 7, 24, 7),
        (3, 5, 7, 3, 3),
        (5, 3, 2, 3, 2),
        (0, 99, 99, 24, 12),
    ],
)
def test_the_smaller_limit_holds_for_each_split(
    tmp_path, limit, train_limit, test_limit, train, test
):
  changes = {
      'limit': limit,
      'data.train_limit': train_limit,
      'data.test_limit': test_limit,
  }
  counts = read.run(config(**changes), tmp_path)
  assert (counts['train_questions'], counts['test_questions']) == (train, test)


def test_first():
  questions = [question('b'), question('b', 'fr'), question('a'), question('c')]
  assert read.first(questions, 2) == questions[:3]
  assert read.first(questions, 0) == questions
  assert read.first(questions, 9) == questions


def test_what_was_left_out_or_has_no_label_is_counted(tmp_path):
  data = tmp_path / 'data'
  write(data / 'en' / 'train.jsonl', row('q1'), row('q2'), row('q3'))
  write(data / 'fr' / 'train.jsonl', row('q1', 'fr'), row('q2', 'fr', 'B'))
  write(data / 'en' / 'dev.jsonl', row('q4', gold=''), row('q5'))
  write(data / 'fr' / 'dev.jsonl', row('q4', 'fr', gold=''), row('q5', 'fr'))
  changes = {
      'languages': ('en', 'fr'),
      'data.name': 'xcsqa',
      'data.path': str(data),
      'data.test_split': 'dev',
  }
  assert read.run(config(**changes), tmp_path) == {
      'train_questions': 1,
      'train_rows': 2,
      'train_order_checked_fr': 1,
      'train_order_differs_fr': 0,
      'dropped_train_gold_differs': 1,
      'dropped_train_missing_language': 1,
      'test_questions': 2,
      'test_rows': 4,
      'test_without_gold': 1,
      'test_order_checked_fr': 2,
      'test_order_differs_fr': 0,
      'test_questions_trained_on': 2,  # the rows differ in their ids alone
  }


def test_a_question_of_both_splits_is_found_whatever_its_id():
  one = question('a')
  options = tuple(reversed(one.options))
  again = msgspec.structs.replace(one, id='b', stem=' which? ', options=options)
  other = msgspec.structs.replace(one, id='c', stem='When?')
  assert read.trained_on([one], [again, other]) == 1
  assert read.trained_on([one], [other]) == 0


def test_a_relative_path_is_below_the_current_folder(tmp_path, monkeypatch):
  write(tmp_path / 'mine' / 'en' / 'train.jsonl', row('q1'))
  monkeypatch.chdir(tmp_path)
  changes = {
      'languages': ('en',),
      'data.name': 'xcsqa',
      'data.path': 'mine',
      'data.test_split': 'train',
  }
  assert read.run(config(**changes), tmp_path)['train_questions'] == 1


def test_no_question_at_all_is_an_error(tmp_path):
  write(tmp_path / 'data' / 'en' / 'train.jsonl', row('q1'))
  write(tmp_path / 'data' / 'fr' / 'train.jsonl', row('q2', 'fr'))
  changes = {
      'languages': ('en', 'fr'),
      'data.name': 'xcsqa',
      'data.path': str(tmp_path / 'data'),
  }
  with pytest.raises(
      ValueError, match=r"train_split: 'train' .* \{'missing_language': 2\}"
  ):
    read.run(config(**changes), tmp_path)


@pytest.mark.parametrize('limit', [0, 1])
def test_a_test_split_without_labels_is_refused(tmp_path, limit):
  data = tmp_path / 'data' / 'en'
  keys = [''] * 3 if limit == 0 else ['', 'A', 'A']
  rows = [row(f'q{i}', gold=key) for i, key in enumerate(keys)]
  write(data / 'dev.jsonl', row('q9'))
  write(data / 'test.jsonl', *rows)
  changes = {
      'languages': ('en',),
      'limit': limit,
      'data.name': 'xcsqa',
      'data.path': str(data.parent),
  }
  with pytest.raises(ValueError, match=r"test_split: 'test' .* no answer keys"):
    read.run(config(**changes, **{'data.train_split': 'dev'}), tmp_path)
  # It may be sampled and trained on all the same.
  changes |= {'data.train_split': 'test', 'data.test_split': 'dev'}
  assert 'train_without_gold' in read.run(config(**changes), tmp_path)


def test_imports_no_jax():
  code = 'import sys, calm_jax.read; sys.exit("jax" in sys.modules)'
  subprocess.run([sys.executable, '-c', code], check=True)
