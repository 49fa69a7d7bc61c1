"""metrics.jsonl and TensorBoard, also after a kill."""

from __future__ import annotations

import json

from calm_jax.lm import hosts
from calm_jax.lm import journal as journal_lib


def _lines(folder):
  text = (folder / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def _write(folder, *, step, steps):
  with journal_lib.Journal(folder, step=step) as journal:
    for s in steps:
      journal.write(s, 'train', {'loss': s / 10, 'lr': 1.0})
      if s % 2 == 0:
        journal.write(s, 'val', {'loss': s / 5})
  return journal


def test_lines_and_last(tmp_path):
  journal = _write(tmp_path, step=0, steps=[1, 2, 3])
  assert _lines(tmp_path) == [
      {'step': 1, 'split': 'train', 'loss': 0.1, 'lr': 1.0},
      {'step': 2, 'split': 'train', 'loss': 0.2, 'lr': 1.0},
      {'step': 2, 'split': 'val', 'loss': 0.4},
      {'step': 3, 'split': 'train', 'loss': 0.3, 'lr': 1.0},
  ]
  assert journal.last == {
      'train': {'loss': 0.3, 'lr': 1.0},
      'val': {'loss': 0.4},
  }
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'val/loss' in events.read_bytes()


def test_of_several_processes_only_the_leader_writes(tmp_path, monkeypatch):
  meetings = hosts.Meetings(None, index=1, count=2)
  monkeypatch.setattr(hosts, '_meetings', meetings)
  journal = _write(tmp_path, step=0, steps=[1])
  assert journal.last == {'train': {'loss': 0.1, 'lr': 1.0}}
  assert not list(tmp_path.iterdir())


def test_later_steps_are_forgotten(tmp_path):
  _write(tmp_path, step=0, steps=[1, 2, 3, 4])
  path = tmp_path / 'metrics.jsonl'
  path.write_text(path.read_text() + '{"step": 5, "spl')
  with journal_lib.Journal(tmp_path, step=2) as journal:
    assert journal.last['val'] == {'loss': 0.4}
  assert [line['step'] for line in _lines(tmp_path)] == [1, 2, 2]
  _write(tmp_path, step=2, steps=[3])
  assert [line['step'] for line in _lines(tmp_path)] == [1, 2, 2, 3]


def test_a_run_from_the_start_forgets_everything(tmp_path):
  _write(tmp_path, step=0, steps=[1, 2])
  _write(tmp_path, step=0, steps=[])
  assert _lines(tmp_path) == []
