"""Files that processes share; the processes are threads with a store."""

from __future__ import annotations

import threading
import time

import pytest

from calm_jax.lm import hosts, shares


class Store(dict):
  """What of the coordinator's store is used."""

  def key_value_set(self, key, value):
    self[key] = value

  def key_value_delete(self, key):
    del self[key]

  def key_value_dir_get(self, folder):
    return [(k, v) for k, v in list(self.items()) if k.startswith(folder)]


class PerThread(threading.local):
  """The meetings of the process that a thread plays."""

  index, count, meetings = 0, 1, None

  def gather(self, name, text):
    return self.meetings.gather(name, text)

  def check(self):
    self.meetings.check()


@pytest.fixture
def processes(monkeypatch):
  """Runs a function in so many processes; what it returned in each."""
  own = PerThread()
  monkeypatch.setattr(hosts, '_meetings', own)

  def run(count, function):
    store, results = Store(), [None] * count

    def work(index):
      own.index, own.count = index, count
      own.meetings = hosts.Meetings(store, index=index, count=count)
      try:
        results[index] = function()
      except hosts.HostsError as e:
        results[index] = e
        own.meetings.leave()

    threads = [
        threading.Thread(target=work, args=(i,), daemon=True)
        for i in range(count)
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join(20)
      assert not thread.is_alive(), 'it waits for ever'
    return results

  return run


@pytest.fixture
def paths(tmp_path):
  """Seven files, of which 1 and 4 are there."""
  found = [tmp_path / f'{number}.jsonl' for number in range(7)]
  for number in (1, 4):
    found[number].write_text('before')
  return found


def make_all(paths):
  made = []

  def make(number, on_done):
    made.append(number)
    paths[number].write_text(f'by {hosts.process_index()}')
    on_done(2, 10 * number)

  sizes = [2] * len(paths)
  return made, shares.make_all('test', paths, sizes, make)


@pytest.mark.parametrize('count', [1, 2, 3, 6])
def test_every_file_is_made_once_by_someone(processes, paths, count):
  results = processes(count, lambda: make_all(paths))
  made = [number for numbers, _ in results for number in numbers]
  assert sorted(made) == [0, 2, 3, 5, 6]
  # Nobody has two more than another.
  shares_of = [len(numbers) for numbers, _ in results]
  assert max(shares_of) - min(shares_of) <= 1
  assert [path.read_text() == 'before' for path in paths].count(True) == 2
  for _, counts in results:
    assert counts['processes'] == count
    assert counts['tokens_drawn_now'] == 10 * (0 + 2 + 3 + 5 + 6)


def test_what_is_missing_is_the_leaders_word(processes, paths):
  """Others may see a file late, or not yet see that it is gone."""

  def look():
    mine = paths if hosts.is_leader() else paths[1:2] * 7
    return shares.missing('look', mine)

  assert processes(2, look) == [[0, 2, 3, 5, 6]] * 2


def test_a_file_that_is_seen_late_is_waited_for(processes, paths):
  timer = threading.Timer(0.3, lambda: [p.write_text('') for p in paths])
  timer.start()
  results = processes(2, lambda: shares.finish('end', paths, {'n': 1}))
  assert results == [{'n': 2}] * 2
  assert all(path.exists() for path in paths)


def test_a_folder_that_is_not_shared_is_told(processes, paths):
  leader, other = processes(
      2, lambda: shares.finish('end', paths, {'n': 1}, patience=0)
  )
  assert '0.jsonl was written by another process' in str(leader)
  assert '(5 such files): --workdir must be' in str(leader)
  assert other == {'n': 2}


def _check_for_ever():
  while True:
    hosts.check()
    time.sleep(0.01)


def test_nobody_begins_a_file_once_another_has_stopped(processes, paths):
  begun, leader_is_at_work = [], threading.Event()

  def make(number, on_done):
    if not hosts.is_leader():
      leader_is_at_work.wait(10)
      raise hosts.HostsError('a failure')
    begun.append(number)
    leader_is_at_work.set()
    with pytest.raises(hosts.HostsError, match='process 1 has stopped'):
      _check_for_ever()

  sizes = [1] * len(paths)
  leader, other = processes(
      2, lambda: shares.make_all('test', paths, sizes, make)
  )
  assert begun == [0]
  assert str(leader) == 'process 1 has stopped: its output says why'
  assert str(other) == 'a failure'


def test_idle_processes_are_told_of_the_remedy(processes, paths, capsys):
  processes(2, lambda: make_all(paths))
  assert '5 shards for 2 processes\n' in capsys.readouterr().out
  for path in paths[1:]:
    path.unlink()
  processes(9, lambda: make_all(paths))
  said = capsys.readouterr().out
  assert '6 shards for 9 processes; 3 idle: a smaller config.sample' in said
