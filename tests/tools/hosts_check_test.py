"""What counts as the same results; processes_test runs real processes."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from safetensors import numpy as safetensors

from tools import hosts_check


@pytest.mark.parametrize(
    ('one', 'other', 'expected'),
    [
        ({'text': 'a', 'n': 1}, {'text': 'a', 'n': 1}, 0.0),
        ({'text': 'a'}, {'text': 'b'}, math.inf),
        ({'winner': None}, {'winner': 'A'}, math.inf),
        ({'tokens': 3}, {'tokens': 4}, math.inf),
        ({'a': 1.0}, {'a': 1.0, 'b': 1.0}, math.inf),
        ({'a': [1.0, 2.0]}, {'a': [1.0]}, math.inf),
        ({'a': [1.0, 0.25]}, {'a': [1.0, 0.5]}, 0.25),
        ({'logprob': -99.0}, {'logprob': -100.0}, 0.01),
        ({'loss': math.nan}, {'loss': 1.0}, math.inf),
    ],
)
def test_what_differs(one, other, expected):
  assert hosts_check.difference(one, other) == expected


def write(folder, name, rows):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def sample(index, logprob):
  return {'index': index, 'logprob': logprob}


def rows(one, other):
  return {row.what: row for row in hosts_check.compare(one, other)}


def test_records_are_found_in_whatever_file_they_are(tmp_path):
  one, other = tmp_path / 'one', tmp_path / 'other'
  near = -2.0 - 1e-6
  write(one, 'sample/00000.jsonl', [sample(0, -1.0), sample(1, -2.0)])
  write(other, 'sample/00000.jsonl', [sample(1, near)])
  write(other, 'sample/00001.jsonl', [sample(0, -1.0)])
  row = rows(one, other)['sample/*.jsonl']
  assert (row.records, row.same) == (2, 1)
  assert row.difference == pytest.approx(5e-7)
  assert row.sound


def test_a_record_that_is_not_there_is_told(tmp_path):
  one, other = tmp_path / 'one', tmp_path / 'other'
  write(one, 'vote/votes.jsonl', [{'winner': 'A'}])
  row = rows(one, other)['vote/votes.jsonl']
  assert not row.sound
  (line,) = hosts_check.table([row])[2:]
  assert line == '| vote/votes.jsonl | 1 | 0 | inf DIFFERS |'


def test_times_may_differ_and_factors_hardly(tmp_path):
  for name, speed, factor in (('one', 7.0, 1.0), ('other', 9.0, 1.001)):
    step = {'step': 1, 'loss': 0.5, 'tokens_per_second': speed}
    write(tmp_path / name, 'align/metrics.jsonl', [step])
    path = tmp_path / name / 'align' / 'adapter' / 'adapter_model.safetensors'
    path.parent.mkdir()
    safetensors.save_file({'a': np.full((2, 2), factor, np.float32)}, path)
  found = rows(tmp_path / 'one', tmp_path / 'other')
  assert found['align/metrics.jsonl'].same == 1
  adapter = found['align/adapter/adapter_model.safetensors']
  assert adapter.difference == pytest.approx(1e-3, rel=0.1)
  assert not adapter.sound


def test_processes_that_end_otherwise_are_told_with_what_they_said(monkeypatch):
  # In place of Python: ends at once, and says so.
  monkeypatch.setattr(sys, 'executable', '/bin/echo')
  said = hosts_check.start(['x'], 'folder', processes=2, devices=1)
  with pytest.raises(RuntimeError, match=r'status \[0, 0\] in place of 1'):
    hosts_check.finish(said, status=1)


def test_every_process_is_told_of_the_others(monkeypatch):
  monkeypatch.setattr(sys, 'executable', '/bin/echo')
  started = hosts_check.start(['--x'], 'folder', processes=2, devices=1)
  said = [out for out, _ in hosts_check.finish(started)]
  for index, line in enumerate(said):
    assert line.startswith('-m calm_jax.main --x --workdir=folder --coordin')
    assert line.endswith(f'--num_processes=2 --process_id={index}\n')
  (alone,) = hosts_check.finish(
      hosts_check.start([], 'folder', processes=1, devices=2)
  )
  assert alone[0] == '-m calm_jax.main --workdir=folder\n'
