"""Rows of the three kinds of files, and where their errors are."""

import datasets as hub
import pytest

from calm_jax.datasets import rows


def write(path, text):
  path.write_text(text, encoding='utf-8')
  return path


def test_every_kind_of_file_gives_the_same_rows(tmp_path):
  sound = [{'a': 'x\u2028y', 'b': [1]}, {'a': 'é', 'b': []}]
  lines = write(
      tmp_path / 'a.jsonl',
      '\ufeff{"a": "x\u2028y", "b": [1]}\r\n\n{"a": "é", "b": []}',
  )
  array = write(
      tmp_path / 'a.json',
      '\ufeff[{"a": "x\u2028y", "b": [1]}, {"a": "é", "b": []}]',
  )
  table = tmp_path / 'a.parquet'
  hub.Dataset.from_list(sound).to_parquet(table)
  places = {lines: (':1', ':3')}
  for file in (lines, array, table):
    where = [f'{file}{w}' for w in places.get(file, (': row 1', ': row 2'))]
    assert list(rows.read(file)) == list(zip(where, sound, strict=True))


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('a.csv', 'a,b', r'is none of \.jsonl, \.json, \.parquet'),
        ('a.jsonl', '{}\n{"a"', r'a\.jsonl:2: Expecting'),
        ('a.json', '[{}', r'a\.json: Expecting'),
        ('a.json', '{}', r'a\.json: must be one JSON array'),
        ('a.parquet', 'no table', r'a\.parquet: Parquet'),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, text, words):
  with pytest.raises(ValueError, match=words):
    list(rows.read(write(tmp_path / name, text)))


def test_parquet_leaves_nothing_behind(tmp_path, monkeypatch):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'tmp'))
  (tmp_path / 'tmp').mkdir()
  hub.Dataset.from_list([{'a': 1}]).to_parquet(tmp_path / 'a.parquet')
  assert [row for _, row in rows.read(tmp_path / 'a.parquet')] == [{'a': 1}]
  assert list((tmp_path / 'tmp').iterdir()) == []


def test_field():
  assert rows.field({'a': 1}, 'a', (int, str)) == 1
  for row, words in (
      ([], r"\[\] is not an object with the field 'a'"),
      ({'b': 1}, r"lacks the field 'a'; it has \['b'\]"),
      ({'a': 1}, "field 'a': 1 is not str or list"),
  ):
    with pytest.raises(ValueError, match=words):
      rows.field(row, 'a', (str, list))


def test_optional():
  assert rows.optional({'a': ' x '}, 'a') == 'x'
  for row in ({}, {'a': None}, {'a': ' '}):
    assert rows.optional(row, 'a') == ''
  with pytest.raises(ValueError, match="field 'a': 0 is not str"):
    rows.optional({'a': 0}, 'a')
