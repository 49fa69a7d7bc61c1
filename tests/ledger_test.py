"""Tests of fingerprints and of the identity of files."""

from __future__ import annotations

from ml_collections import ConfigDict
import pytest

from calm_jax import ledger


def stage(*fields):
  return ledger.Stage('verb', 'does it', needs=(), fields=fields)


def planned(cfg, tmp_path, *fields):
  (item,) = ledger.plan(ConfigDict(cfg), tmp_path, (stage(*fields),))
  return item


def test_a_name_declares_a_field_or_a_group_and_nothing_that_begins_so(
    tmp_path,
):
  cfg = {'a': {'b': 1, 'c': {'d': (2, 3)}}, 'ab': 4, 'e': 5}
  assert planned(cfg, tmp_path, 'a').config == {'a.b': 1, 'a.c.d': [2, 3]}
  assert planned(cfg, tmp_path, 'a.b', 'e').config == {'a.b': 1, 'e': 5}


def test_a_fingerprint_is_of_values_and_not_of_their_order(tmp_path):
  one = planned({'a': 1, 'b': 2}, tmp_path, 'a', 'b')
  other = planned({'b': 2, 'a': 1}, tmp_path, 'b', 'a')
  assert one.fingerprint == other.fingerprint
  swapped = planned({'a': 2, 'b': 1}, tmp_path, 'a', 'b')
  assert one.fingerprint != swapped.fingerprint


def test_a_fingerprint_is_the_same_in_every_version(tmp_path):
  # A change of this value makes every user's finished work out of date. It is
  # sha256sum's, of [{"a": "\u00e4", "b": 0.1}, {}, {}].
  item = planned({'a': 'ä', 'b': 0.1}, tmp_path, 'a', 'b')
  assert item.fingerprint == (
      '5eff0e55288c80f7fe38efe634f0c5bf3cdb4c427165d3557eb875a4468f609b'
  )


def test_nan_has_no_fingerprint(tmp_path):
  with pytest.raises(ValueError, match='JSON'):
    _ = planned({'a': float('nan')}, tmp_path, 'a').fingerprint


@pytest.fixture
def data(tmp_path):
  (tmp_path / 'de').mkdir()
  (tmp_path / 'de' / 'train.jsonl').write_text('1\n')
  (tmp_path / 'train.jsonl').write_text('2\n')
  return tmp_path


def test_a_digest_sees_contents_and_names(data):
  before = ledger.digest(data)
  assert ledger.digest(data) == before
  (data / 'train.jsonl').write_text('3\n')
  assert ledger.digest(data) != before
  (data / 'train.jsonl').write_text('2\n')
  assert ledger.digest(data) == before
  (data / 'train.jsonl').rename(data / 'test.jsonl')
  assert ledger.digest(data) != before


def test_a_digest_does_not_see_where_the_folder_is(data):
  before = ledger.digest(data / 'de')
  (data / 'de').rename(data / 'zh')
  assert ledger.digest(data / 'zh') == before


def test_a_digest_passes_over_code_and_hidden_files(data):
  before = ledger.digest(data)
  (data / '.DS_Store').write_text('x')
  (data / 'reader.py').write_text('x')
  assert ledger.digest(data) == before


def test_a_digest_of_one_file(data):
  assert ledger.digest(data / 'train.jsonl').startswith('sha256:')
  assert ledger.digest(data / 'train.jsonl') != ledger.digest(data / 'de')
