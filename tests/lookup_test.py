"""Lines found again, whatever their order, script and file."""

from __future__ import annotations

import json
import operator

import msgspec
import pytest

from calm_jax import lookup, records

KEY = operator.attrgetter('question_id')


def target(question_id, text):
  return records.Target(question_id, 'ja', 'p', text, 0.5)


def test_lines_are_found_again(tmp_path):
  rows = [
      target('b', '答え：B\u2028\n'),
      target('a', 'é'),
      target('b', ''),
      target('c', 'x' * 9000),
      target('a', '終'),
  ]
  paths = [tmp_path / '0.jsonl', tmp_path / 'none.jsonl', tmp_path / '1.jsonl']
  for path, part in zip(paths, (rows[:3], [], rows[3:]), strict=True):
    records.write_jsonl(path, part)
  shelf = lookup.Lookup(paths)
  assert list(shelf.scan(records.Target, KEY)) == rows
  found = shelf.gather(['c', 'a', 'b', 'unknown'])
  texts = {i: [row['completion'] for row in own] for i, own in found.items()}
  assert texts == {
      'c': ['x' * 9000],
      'a': ['é', '終'],
      'b': ['答え：B\u2028\n', ''],
      'unknown': [],
  }


def test_a_second_scan_does_not_double(tmp_path):
  path = tmp_path / '0.jsonl'
  records.write_jsonl(path, [target('a', '')])
  shelf = lookup.Lookup([path])
  for _ in range(2):
    assert len(list(shelf.scan(records.Target, KEY))) == 1
  assert len(shelf.gather(['a'])['a']) == 1


def test_a_bad_line_is_named(tmp_path):
  path = tmp_path / '0.jsonl'
  path.write_text('{"question_id": "a"}\n')
  with pytest.raises(ValueError, match=r'0\.jsonl:1: not a Target'):
    list(lookup.Lookup([path]).scan(records.Target, KEY))


def test_lines_are_indexed_without_reading_them(tmp_path):
  rows = [target('b', '1'), target('b', '2'), target('é', ''), target('b', '3')]
  path = tmp_path / '0.jsonl'
  records.write_jsonl(path, rows)
  # Other programs escape letters and put fields in another order.
  odd = {**msgspec.structs.asdict(target('"\\é', 'x')), 'question_id': '"\\é'}
  with path.open('a') as f:
    f.write(json.dumps(dict(sorted(odd.items()))))
  shelf = lookup.Lookup([path])
  shelf.index(records.Target, 'question_id')
  assert list(shelf.ids) == ['b', 'é', '"\\é']
  found = shelf.records(records.Target, ['"\\é', 'b'])
  assert [row.completion for row in found] == ['1', '2', '3', 'x']


@pytest.mark.parametrize('wrong', ['{"question_id": "a", "lang": 3}', '{"que'])
def test_a_bad_line_among_indexed_ones_is_named(tmp_path, wrong):
  path = tmp_path / '0.jsonl'
  records.write_jsonl(path, [target('b', ''), target('a', '')])
  with path.open('a') as f:
    f.write(wrong + '\n')
  shelf = lookup.Lookup([path])

  def look():
    shelf.index(records.Target, 'question_id')
    shelf.records(records.Target, ['b', 'a'])

  with pytest.raises(ValueError, match=r'0\.jsonl:3: not a Target'):
    look()
