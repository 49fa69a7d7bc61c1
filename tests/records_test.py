"""Records survive the disk, and a file that is wrong says where."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from calm_jax import records

QUESTION = records.Question(
    id='q1',
    dataset='demo',
    split='train',
    lang='zh',
    stem='哪种动物会\u2028“喵”叫？',
    options=(records.Option('A', '猫'), records.Option('B', '狗')),
    gold='A',
)
VOTE = records.Vote('q1', 'A', 2 / 3, {'zh': {'A': 2, 'B': 1}}, {'zh': 0})
SCORE = records.Score('base', 'demo', 'all', 'accuracy', 50.0, 12, 25.0, 75.0)


@pytest.mark.parametrize('record', [QUESTION, VOTE, SCORE])
def test_a_record_comes_back_as_it_went(tmp_path, record):
  path = tmp_path / 'x.jsonl'
  assert records.write_jsonl(path, [record, record]) == 2
  assert list(records.read_jsonl(path, type(record))) == [record, record]
  assert len(path.read_bytes().split(b'\n')) == 3


def test_a_question_of_before_the_flag_is_read(tmp_path):
  old = msgspec.to_builtins(QUESTION)
  del old['changed']
  records.write_jsonl(tmp_path / 'x.jsonl', [old])
  assert [*records.read_jsonl(tmp_path / 'x.jsonl', records.Question)] == [
      QUESTION
  ]


def test_text_is_written_readably(tmp_path):
  path = tmp_path / 'x.jsonl'
  records.write_jsonl(path, [QUESTION])
  assert '喵' in path.read_text(encoding='utf-8')


def test_a_whole_number_is_a_float_too(tmp_path):
  row = msgspec.structs.asdict(SCORE) | {'value': 50}
  path = tmp_path / 'x.jsonl'
  path.write_text(json.dumps(row) + '\n')
  (score,) = records.read_jsonl(path, records.Score)
  assert isinstance(score.value, float)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'lnag': 'zh'}, 'contains unknown field `lnag`'),
        (
            {'options': [{'key': 'A', 'text': 'cat', 'txet': 'dog'}]},
            r'unknown field `txet` - at `\$.options\[0\]`',
        ),
        ({'id': 3}, r'Expected `str`, got `int` - at `\$.id`'),
        (
            {'options': [{'key': 'A'}]},
            r'missing required field `text` - at `\$.options\[0\]`',
        ),
        ({'gold': True}, r'Expected `str \| null`, got `bool` - at `\$.gold`'),
        ({'options': 'AB'}, r'Expected `array`, got `str` - at `\$.options`'),
    ],
)
def test_a_wrong_line_is_named(tmp_path, change, message):
  good = json.loads(records.to_json(QUESTION))
  path = tmp_path / 'train.zh.jsonl'
  path.write_text(f'{json.dumps(good)}\n{json.dumps(good | change)}\n')
  with pytest.raises(ValueError, match=message) as e:
    list(records.read_jsonl(path, records.Question))
  assert 'train.zh.jsonl:2: not a Question' in str(e.value)


def test_a_number_is_not_a_truth_value(tmp_path):
  row = msgspec.structs.asdict(SCORE) | {'n': True}
  path = tmp_path / 'x.jsonl'
  path.write_text(json.dumps(row))
  with pytest.raises(ValueError, match=r'got `bool` - at `\$.n`'):
    list(records.read_jsonl(path, records.Score))


def test_a_missing_field_and_half_a_line_are_named(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text('{"key": "A"}\n')
  with pytest.raises(ValueError, match='missing required field `text`'):
    list(records.read_jsonl(path, records.Option))
  path.write_text('{"key": "A", "te')
  with pytest.raises(ValueError, match=r'x\.jsonl:1: not a Option'):
    list(records.read_jsonl(path, records.Option))


def test_nan_never_reaches_a_file():
  with pytest.raises(ValueError, match='not JSON compliant'):
    records.to_json(msgspec.structs.replace(SCORE, value=math.nan))


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'x.jsonl'
  records.write_jsonl(path, [VOTE])

  def broken():
    yield VOTE
    raise RuntimeError('stop')

  with pytest.raises(RuntimeError):
    records.write_jsonl(path, broken())
  assert list(records.read_jsonl(path, records.Vote)) == [VOTE]


def test_read_all_joins_files_in_name_order(tmp_path):
  for name, key in (('00001', 'B'), ('00000', 'A')):
    path = tmp_path / f'{name}.jsonl'
    records.write_jsonl(path, [records.Option(key, '')])
  options = records.read_all(tmp_path, '*.jsonl', records.Option)
  assert [o.key for o in options] == ['A', 'B']
  with pytest.raises(FileNotFoundError, match=r'no file matches \*\.json$'):
    records.read_all(tmp_path, '*.json', records.Option)
