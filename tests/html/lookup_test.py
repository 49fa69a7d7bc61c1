"""Lines found again, whatever their order, script and file."""

from __future__ import annotations

import operator

import pytest

from calm_jax import records
from calm_jax.html import lookup

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
