"""Tests of meetings with a store in memory, and of two real processes."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from calm_jax.lm import hosts

ROOT = pathlib.Path(__file__).parents[2]


class Store(dict):
  """What of the coordinator's store is used, for threads of one process."""

  def key_value_set(self, key, value):
    assert key not in self
    self[key] = value

  def key_value_delete(self, key):
    del self[key]

  def key_value_dir_get(self, folder):
    return [(k, v) for k, v in list(self.items()) if k.startswith(folder)]


@pytest.fixture
def store():
  return Store()


def in_threads(store, *functions):
  """Each function with the meetings of its own process; their results."""
  results = [None] * len(functions)

  def work(index):
    meetings = hosts.Meetings(store, index=index, count=len(functions))
    try:
      results[index] = functions[index](meetings)
    except hosts.HostsError as e:
      results[index] = e

  threads = [
      threading.Thread(target=work, args=(index,), daemon=True)
      for index in range(len(functions))
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(20)
    assert not thread.is_alive(), 'it waits for ever'
  return results


def test_everyone_gets_every_text_in_order(store):
  def work(meetings):
    told = []
    for number in range(20):
      # In turn, one comes late.
      time.sleep(0.002 * (number % 3 == meetings.index))
      told.append(meetings.gather('x', f'{number} of {meetings.index}'))
    return told

  expected = [[f'{n} of {i}' for i in range(3)] for n in range(20)]
  assert in_threads(store, work, work, work) == [expected] * 3


def test_what_all_have_read_is_forgotten(store):
  def work(meetings):
    for _ in range(30):
      meetings.gather('x', '')

  in_threads(store, work, work)
  assert len(store) <= 4


def test_nobody_goes_on_before_the_last_has_come(store):
  last_is_here = threading.Event()

  def early(meetings):
    meetings.gather('x', '')
    return last_is_here.is_set()

  def late(meetings):
    time.sleep(0.1)
    last_is_here.set()
    meetings.gather('x', '')

  assert in_threads(store, early, early, late) == [True, True, None]


def test_different_calls_are_told(store):
  first, second = in_threads(
      store, lambda m: m.gather('sample', ''), lambda m: m.gather('align', '')
  )
  assert "process 0 is at 'sample' but process 1 at 'align'" in str(first)
  assert "process 1 is at 'align' but process 0 at 'sample'" in str(second)
  assert isinstance(first, hosts.HostsError)


def test_who_waits_for_one_that_left_is_told(store):
  def wait(meetings):
    meetings.gather('x', '')
    meetings.gather('y', '')

  def fail(meetings):
    meetings.gather('x', '')
    meetings.leave()

  found = in_threads(store, wait, fail, wait)
  assert [str(e) for e in found] == [
      'process 1 has stopped: its output says why',
      'None',
      'process 1 has stopped: its output says why',
  ]


def test_who_has_stopped_is_told_without_waiting(store):
  meetings = hosts.Meetings(store, index=0, count=2)
  meetings.check()
  hosts.Meetings(store, index=1, count=2).leave()
  with pytest.raises(hosts.HostsError, match='process 1 has stopped'):
    meetings.check()


def test_what_differs_is_told(store, monkeypatch):
  def agree(meetings, text):
    own.meetings = meetings
    hosts.agree('the rows', text)
    return True

  own = threading.local()
  monkeypatch.setattr(hosts, 'gather', lambda *x: own.meetings.gather(*x))
  agreed = in_threads(store, *[lambda m: agree(m, 'a')] * 2)
  assert agreed == [True, True]
  store.clear()
  first, second = in_threads(
      store, lambda m: agree(m, 'a'), lambda m: agree(m, 'b')
  )
  assert 'process 1 differ in the rows' in str(first)
  assert 'process 0 differ in the rows' in str(second)


def test_to_leave_without_a_coordinator_is_no_error():
  class Gone(Store):

    def key_value_set(self, key, value):
      raise RuntimeError('UNAVAILABLE')

  hosts.Meetings(Gone(), index=0, count=2).leave()


def test_an_error_is_told_and_goes_on(store, monkeypatch):
  meetings = hosts.Meetings(store, index=1, count=2)
  monkeypatch.setattr(hosts, '_meetings', meetings)
  with hosts.together():
    pass
  assert store == {}
  with pytest.raises(SystemExit), hosts.together():
    raise SystemExit(143)
  assert list(store) == ['calm_jax/gone/1']


def test_a_process_alone_leads_and_never_waits():
  hosts.connect(None)
  hosts.connect('host:1', 1, 0)
  assert (hosts.process_index(), hosts.process_count()) == (0, 1)
  assert hosts.is_leader()
  hosts.barrier('x')
  assert hosts.gather('x', 'text') == ['text']
  assert hosts.from_leader('x', 'text') == 'text'
  assert hosts.anywhere('x', True)
  assert not hosts.anywhere('x', False)
  hosts.agree('x', 'text')
  hosts.check()
  with pytest.raises(KeyError), hosts.together():
    raise KeyError


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ((None, 2, 0), 'need --coordinator=HOST:PORT'),
        (('auto', None, 0), 'need --coordinator=HOST:PORT'),
        (('host', 2, 0), '--coordinator=host must be HOST:PORT'),
        (('host:port', 2, 0), 'must be HOST:PORT'),
        (('host:1', 2, None), 'needs --num_processes and --process_id'),
        (('host:1', None, 1), 'needs --num_processes and --process_id'),
        (('host:1', 2, 2), '--process_id=2 must be from 0 to'),
        (('host:1', 2, -1), '--process_id=-1 must be from 0 to'),
        (('host:1', 0, 0), '--process_id=0 must be from 0 to'),
    ],
)
def test_flags_that_do_not_fit_together(arguments, said):
  with pytest.raises(hosts.HostsError, match=said):
    hosts.connect(*arguments)


SCRIPT = """
import json, sys
from calm_jax.lm import hosts
hosts.connect(sys.argv[1], 2, int(sys.argv[2]))
import jax
from jax.sharding import PartitionSpec as P
index = hosts.process_index()
if index == 0:
  # Needs nobody else, although the other has not yet asked for a device.
  own = jax.local_devices()[0].process_index
hosts.barrier('own')
mesh = jax.make_mesh((jax.device_count(),), ('data',))
total = jax.shard_map(
    lambda x: jax.lax.psum(x, 'data'),
    mesh=mesh, in_specs=P('data'), out_specs=P(),
)
values = jax.make_array_from_callback(
    (jax.device_count(),),
    jax.sharding.NamedSharding(mesh, P('data')),
    lambda at: jax.numpy.arange(1.0, 1 + jax.device_count())[at],
)
hosts.barrier('ready')
result = {
    'index': index,
    'count': hosts.process_count(),
    'leads': hosts.is_leader(),
    'local': jax.local_device_count(),
    'sum': float(jax.jit(total)(values)[0]),
    'texts': hosts.gather('texts', f'of {index}'),
    'told': hosts.from_leader('told', f'by {index}'),
    'any': hosts.anywhere('any', index == 1),
    'none': hosts.anywhere('none', False),
}
print(json.dumps(result), file=sys.stderr)
"""


@pytest.mark.slow
def test_two_processes_are_one_run():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    address = f'localhost:{s.getsockname()[1]}'
  two_devices = '--xla_force_host_platform_device_count=2'
  processes = [
      subprocess.Popen(
          [sys.executable, '-c', SCRIPT, address, str(index)],
          cwd=ROOT,
          env=os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': two_devices},
          stdout=subprocess.DEVNULL,
          stderr=subprocess.PIPE,
          text=True,
      )
      for index in range(2)
  ]
  try:
    said = [process.communicate(timeout=120)[1] for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert [process.returncode for process in processes] == [0, 0], said
  for index, text in enumerate(said):
    assert json.loads(text.splitlines()[-1]) == {
        'index': index,
        'count': 2,
        'leads': index == 0,
        'local': 2,
        'sum': 1.0 + 2 + 3 + 4,
        'texts': ['of 0', 'of 1'],
        'told': 'by 0',
        'any': True,
        'none': False,
    }
