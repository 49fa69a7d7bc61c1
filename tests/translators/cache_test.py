"""The cache survives anything a killed process can leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from calm_jax.translators import cache, translator


class _Counting(translator.Translator):
  """Upper case; a text with a question mark fails."""

  def __init__(self, version='1'):
    self.asked, self._version = [], version

  @property
  def version(self):
    return self._version

  def supports(self, source, target):
    return source == 'en'

  def translate(self, texts, source, target):
    self.asked += texts
    return [None if '?' in text else f'{target}:{text}' for text in texts]


def _cached(path, inner=None, backend='b'):
  return cache.Cached(inner or _Counting(), path, backend=backend)


def test_a_known_text_is_not_asked_again(tmp_path):
  path, inner = tmp_path / 'deep' / 'b.jsonl', _Counting()
  one = _cached(path, inner)
  assert one.translate(['a', 'b', 'a'], 'en', 'fr') == ['fr:a', 'fr:b', 'fr:a']
  assert one.translate(['b', 'c'], 'en', 'fr') == ['fr:b', 'fr:c']
  assert inner.asked == ['a', 'b', 'c']
  later = _Counting()
  two = _cached(path, later)
  assert two.translate(['c\u2028', 'c'], 'en', 'fr') == ['fr:c\u2028', 'fr:c']
  assert later.asked == ['c\u2028']


def test_everything_in_the_key_makes_another_entry(tmp_path):
  path, inner = tmp_path / 'b.jsonl', _Counting()
  _cached(path, inner).translate(['a'], 'en', 'fr')
  _cached(path, inner).translate(['a'], 'en', 'de')
  _cached(path, inner).translate(['a'], 'de', 'fr')
  _cached(path, inner, backend='c').translate(['a'], 'en', 'fr')
  assert len(inner.asked) == 4
  newer = _Counting(version='2')
  _cached(path, newer).translate(['a'], 'en', 'fr')
  assert newer.asked == ['a']


def test_a_failure_is_not_kept(tmp_path):
  path, inner = tmp_path / 'b.jsonl', _Counting()
  for _ in range(2):
    done = _cached(path, inner).translate(['a?', 'b'], 'en', 'fr')
    assert done == [None, 'fr:b']
  assert inner.asked == ['a?', 'b', 'a?']


def test_it_supports_what_the_translator_does(tmp_path):
  one = _cached(tmp_path / 'b.jsonl')
  assert one.supports('en', 'fr')
  assert not one.supports('fr', 'en')


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path):
  path = tmp_path / 'b.jsonl'
  _cached(path).translate(['a', 'ééé'], 'en', 'fr')
  whole = path.read_bytes()
  first = whole.index(b'\n') + 1
  for end in range(first, len(whole)):
    path.write_bytes(whole[:end])
    inner = _Counting()
    one = _cached(path, inner)
    assert one.translate(['a', 'ééé'], 'en', 'fr') == ['fr:a', 'fr:ééé']
    assert inner.asked == ['ééé']
    assert path.read_bytes() == whole


def test_a_wrong_line_in_the_middle_is_named(tmp_path):
  path = tmp_path / 'b.jsonl'
  path.write_text('{"key": "k", "translation": "t"}\n{"key": \n')
  with pytest.raises(ValueError, match=r'b\.jsonl:2: not a line of a transl'):
    _cached(path)


def test_what_was_returned_survives_a_kill(tmp_path):
  path = tmp_path / 'b.jsonl'
  program = textwrap.dedent("""
      import os, pathlib, signal, sys
      from calm_jax.translators import cache, translator

      class Echo(translator.Translator):
        version = '1'
        def supports(self, source, target):
          return True
        def translate(self, texts, source, target):
          if 'last' in texts:
            os.kill(os.getpid(), signal.SIGKILL)
          return [target + ':' + text for text in texts]

      one = cache.Cached(Echo(), pathlib.Path(sys.argv[1]), backend='b')
      one.translate(['a', 'b'], 'en', 'fr')
      one.translate(['last'], 'en', 'fr')
  """)
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  done = subprocess.run(
      [sys.executable, '-c', program, str(path)], cwd=root, check=False
  )
  assert done.returncode == -signal.SIGKILL
  inner = _Counting()
  assert _cached(path, inner).translate(['b', 'a'], 'en', 'fr') == [
      'fr:b',
      'fr:a',
  ]
  assert inner.asked == []
