"""Google's own clients against a server on this machine that misbehaves."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import email.utils
import http.server
import json
import pathlib
import socket
import struct
import threading
import time
from typing import Any

from ml_collections import ConfigDict
import pytest

from calm_jax import guard, translators
from calm_jax.translators import budget, google, remote

pytest.importorskip(
    'google.cloud.translate_v3', reason='needs the extra translate'
)

from google.auth import credentials as google_credentials
from google.auth import exceptions as google_exceptions
from google.auth.transport import requests as google_requests
from google.cloud import translate_v2, translate_v3

ANONYMOUS = google_credentials.AnonymousCredentials()
SECONDS = 0.3  # that a client waits for an answer here


@dataclasses.dataclass
class Reply:
  status: int = 200
  body: bytes = b''
  headers: dict[str, str] = dataclasses.field(default_factory=dict)
  hang: float = 0.0
  reset: bool = False  # the connection is cut and nothing is answered
  drip: float = 0.0  # seconds before each byte of the body


class Server(http.server.ThreadingHTTPServer):
  """Gives the replies of a script in turn, then good ones."""

  daemon_threads = True

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.script: list[Reply | Callable[[dict], Reply]] = []
    self.asked: list[tuple[str, dict]] = []
    self.asked_keys: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
  server: Server

  def do_POST(self):
    size = int(self.headers['Content-Length'])
    request = json.loads(self.rfile.read(size))
    self.server.asked.append((self.path, request))
    self.server.asked_keys.append(self.headers['x-goog-api-key'])
    reply = self.server.script.pop(0) if self.server.script else good
    reply = reply if isinstance(reply, Reply) else reply(request)
    time.sleep(reply.hang)
    if reply.reset:
      # Closing with this set sends a reset.
      linger = struct.pack('ii', 1, 0)
      self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
      self.close_connection = True
      self.rfile.close()
      self.connection.close()
      return
    try:
      self.send_response(reply.status)
      for name, value in reply.headers.items():
        self.send_header(name, value)
      self.send_header('Content-Type', 'application/json')
      self.end_headers()
      step = 1 if reply.drip else len(reply.body)
      for start in range(0, len(reply.body), step):
        time.sleep(reply.drip)
        self.wfile.write(reply.body[start : start + step])
    except OSError:
      pass  # the client has gone

  def log_message(self, format, *args):
    pass


def texts_of(request: dict) -> list[str]:
  return request.get('contents') or request['q']


def answer(texts: list[str]) -> Reply:
  """An answer that both versions can read, each in its own part."""
  rows = [{'translatedText': text} for text in texts]
  value = {'translations': rows, 'data': {'translations': rows}}
  return Reply(body=json.dumps(value).encode())


def good(request: dict) -> Reply:
  return answer([f'fr:{text}' for text in texts_of(request)])


def wrong(status: int, reason: str = '', **headers: str) -> Reply:
  error: dict[str, Any] = {'code': status, 'message': f'told {status}'}
  if reason:
    error['errors'] = [{'reason': reason, 'message': 'm'}]
  named = {name.replace('_', '-'): value for name, value in headers.items()}
  return Reply(status, json.dumps({'error': error}).encode(), named)


class Hasty(google_requests.AuthorizedSession):
  """v2 waits 60 s for an answer and offers no setting: here it does not."""

  def request(self, *args, **kwargs):
    return super().request(*args, **kwargs | {'timeout': SECONDS})


@pytest.fixture
def server():
  with Server() as served:
    thread = threading.Thread(
        target=served.serve_forever, kwargs={'poll_interval': 0.01}
    )
    thread.start()
    yield served
    served.shutdown()
    thread.join()


@pytest.fixture(params=['v2', 'v3'])
def send(request, server):
  options = {'api_endpoint': f'http://127.0.0.1:{server.server_port}'}
  if request.param == 'v2':
    with Hasty(ANONYMOUS) as session:
      client = translate_v2.Client(
          credentials=ANONYMOUS, _http=session, client_options=options
      )
      yield google.send_v2(client)
  else:
    client = translate_v3.TranslationServiceClient(
        credentials=ANONYMOUS, transport='rest', client_options=options
    )
    parent = 'projects/p/locations/global'
    with client:
      yield google.send_v3(client, parent=parent, seconds=SECONDS)


@dataclasses.dataclass
class Case:
  """A translator on the server, with what it waited and spent."""

  translator: remote.Remote
  slept: list[float]
  path: pathlib.Path

  def spent(self) -> int:
    rows = map(json.loads, self.path.read_text().splitlines())
    return sum(r['characters'] for r in rows if r['event'] != 'estimate')


@pytest.fixture
def case(send, tmp_path):
  slept: list[float] = []
  path = tmp_path / 'ledger.jsonl'
  ledger = budget.Budget(path, price=20.0, max_cost=0.0)
  translator = remote.Remote(
      send, ledger, version='1', languages=google.CODES, sleep=slept.append
  )
  return Case(translator, slept, path)


def test_what_is_asked(case, server):
  done = case.translator.translate(['cat', '5 < 6'], 'zh', 'fr')
  assert done == ['fr:cat', 'fr:5 < 6']
  ((path, request),) = server.asked
  if 'v3' in path:
    assert path.startswith('/v3/projects/p/locations/global:translateText')
    assert request == {
        'contents': ['cat', '5 < 6'],
        'mimeType': 'text/plain',
        'sourceLanguageCode': 'zh-CN',
        'targetLanguageCode': 'fr',
    }
  else:
    assert path.startswith('/language/translate/v2')
    assert request['format'] == 'text'
    assert (request['source'], request['target']) == ('zh-CN', 'fr')
  assert case.spent() == 8


@pytest.mark.parametrize(
    'reply',
    [
        wrong(429),
        wrong(403, 'rateLimitExceeded'),
        wrong(403, 'userRateLimitExceeded'),
        wrong(500),
        wrong(503),
        Reply(502, b'<html>Bad gateway</html>'),
        Reply(503),
    ],
)
def test_what_passes_is_waited_for_and_costs_nothing(case, server, reply):
  server.script = [reply, reply]
  assert case.translator.translate(['cat'], 'en', 'fr') == ['fr:cat']
  assert len(server.asked) == 3
  first, second = case.slept
  assert 0.5 <= first <= 1.5
  assert 1.0 <= second <= 3.0
  assert case.spent() == 3


def test_an_answer_that_drips_is_given_up(send, server, tmp_path):
  slept: list[float] = []
  path = tmp_path / 'ledger.jsonl'
  translator = remote.Remote(
      send,
      budget.Budget(path, price=20.0, max_cost=0.0),
      version='1',
      languages=google.CODES,
      sleep=slept.append,
      deadline=0.6,
  )
  # Each byte is in time for the client, all of them would take 4 s.
  slow = dataclasses.replace(answer(['fr:cat']), drip=0.04)
  server.script = [slow]
  began = time.monotonic()
  assert translator.translate(['cat'], 'en', 'fr') == ['fr:cat']
  assert 0.6 <= time.monotonic() - began < 1.8
  assert len(server.asked) == 2
  assert len(slept) == 1
  # It may have been done, so that both tries count.
  assert Case(translator, slept, path).spent() == 2 * len('cat')


@pytest.mark.parametrize('code', [408, 504])
def test_what_may_have_been_done_counts_as_charged(case, server, code):
  server.script = [wrong(code)]
  assert case.translator.translate(['cat'], 'en', 'fr') == ['fr:cat']
  assert len(server.asked) == 2
  assert case.spent() == 2 * len('cat')


@pytest.mark.parametrize(
    'reply',
    [
        Reply(body=b'{"data": {"translations": [{"translatedTe'),
        Reply(body=b''),
        Reply(body=b'[]'),
        Reply(body=b'{"data": {"translations": [{}]}, "translations": 3}'),
        answer([]),
        answer(['one', 'two']),
        Reply(hang=2 * SECONDS),
        Reply(reset=True),
    ],
)
def test_a_broken_answer_is_asked_again_but_may_have_cost(case, server, reply):
  server.script = [reply]
  assert case.translator.translate(['cat'], 'en', 'fr') == ['fr:cat']
  assert len(case.slept) == 1
  assert case.spent() == 6


@pytest.mark.parametrize(
    ('reply', 'times'),
    [(wrong(429), 6), (wrong(403, 'quotaExceeded'), 6), (answer([]), 3)],
)
def test_nothing_is_asked_for_ever(case, server, reply, times):
  server.script = [reply] * 100
  assert case.translator.translate(['cat'], 'en', 'fr') == [None]
  assert len(server.asked) == times
  assert len(case.slept) == times - 1


def test_after_some_failures_in_a_row_nothing_more_is_sent(case, server):
  server.script = [wrong(503)] * 1000
  texts = ['x' * 4000 + str(i) for i in range(10)]
  assert case.translator.translate(texts, 'en', 'fr') == [None] * 10
  assert len(server.asked) == 4 * 6
  assert case.spent() == 0


def test_retry_after_is_kept_to_and_bounded(case, server):
  soon = email.utils.formatdate(time.time() + 20, usegmt=True)
  server.script = [
      wrong(429, Retry_After='7'),
      wrong(429, Retry_After=soon),
      wrong(503, Retry_After='86400'),
      wrong(503, Retry_After='soon'),
  ]
  assert case.translator.translate(['cat'], 'en', 'fr') == ['fr:cat']
  first, second, third, fourth = case.slept
  assert 7 <= first <= 7 * 1.25
  assert 17 < second < 21 * 1.25
  assert third == 60
  assert 4 <= fourth <= 12


@pytest.mark.parametrize(
    'reply',
    [
        wrong(400, 'API_KEY_INVALID'),
        wrong(403, 'accessNotConfigured'),
        wrong(403),
        wrong(404),
    ],
)
def test_what_never_passes_stops_the_run_and_says_why(case, server, reply):
  server.script = [reply] * 10
  with pytest.raises(guard.Refusal, match=r'told \d+.*docs/TRANSLATION'):
    case.translator.translate(['cat'], 'en', 'fr')
  assert not case.slept


def test_refused_credentials_stop_the_run(case, server):
  server.script = [wrong(401)] * 10
  with pytest.raises(guard.Refusal, match='refused the credentials'):
    case.translator.translate(['cat'], 'en', 'fr')
  assert not case.slept


def test_a_bad_text_does_not_take_the_others_with_it(case, server):
  def reply(request):
    return wrong(400) if 'bad' in texts_of(request) else good(request)

  server.script = [reply] * 100
  texts = ['a', 'b', 'bad', 'c', 'd']
  done = case.translator.translate(texts, 'en', 'fr')
  assert done == ['fr:a', 'fr:b', None, 'fr:c', 'fr:d']
  assert not case.slept
  assert case.spent() == 4


def test_many_bad_texts_fail_alone(case, server):
  def reply(request):
    bad = any('bad' in text for text in texts_of(request))
    return wrong(400) if bad else good(request)

  server.script = [reply] * 200
  texts = [f'bad{i}' for i in range(1, 10)] + ['good1', 'good2']
  done = case.translator.translate(texts, 'en', 'fr')
  assert done == [None] * 9 + ['fr:good1', 'fr:good2']
  texts = [f'bad{i}' for i in range(10, 40)] + ['good3']
  done = case.translator.translate(texts, 'en', 'fr')
  assert done == [None] * 30 + ['fr:good3']


def test_a_service_that_takes_no_text_at_all_is_left_alone(case, server):
  server.script = [wrong(400)] * 300
  texts = [f'text {i}' for i in range(90)]
  assert case.translator.translate(texts, 'en', 'fr') == [None] * 90
  asked = len(server.asked)
  assert sum(len(texts_of(r)) == 1 for _, r in server.asked) == 20
  assert case.translator.translate(['good'], 'en', 'fr') == [None]
  assert len(server.asked) == asked


def test_escapes_are_undone_unless_the_text_has_some(case, server):
  server.script = [
      answer(['l&#39;eau &lt; 5 &amp; &quot;x&quot;', 'Écrivez &amp;amp;', ' '])
  ]
  texts = ["water < 5 & 'x'", 'Write &amp;', 'gone']
  done = case.translator.translate(texts, 'en', 'fr')
  assert done == ['l\'eau < 5 & "x"', 'Écrivez &amp;amp;', None]


def test_requests_stay_within_the_services_limits(case, server):
  texts = [f'{i} ' * 3 for i in range(150)] + ['y' * 4999, 'z' * 2, 'w' * 20000]
  texts += ['', ' ', 'v' * 30001]
  done = case.translator.translate(texts, 'en', 'fr')
  assert done[-3:] == [None, None, None]
  assert all(done[:-3])
  sizes = [
      (len(texts_of(request)), sum(map(len, texts_of(request))))
      for _, request in server.asked
  ]
  assert all(n <= 100 for n, _ in sizes)
  assert all(size <= 5000 or n == 1 for n, size in sizes)
  assert sum(n for n, _ in sizes) == 153


def test_a_server_that_is_not_there_costs_nothing(case, server):
  server.shutdown()
  server.server_close()
  assert case.translator.translate(['cat'], 'en', 'fr') == [None]
  assert len(case.slept) == 5
  assert case.spent() == 0


def _config(**fields):
  settings = {
      'backend': 'google',
      'path': '',
      'max_cost': 0.0,
      'price': 20.0,
      'project': '',
      'location': 'global',
  }
  return ConfigDict({'translate': settings | fields})


def test_the_version_tells_the_editions_apart():
  versions = [
      google.depends(_config(**fields))['translator']
      for fields in ({}, {'project': 'p'}, {'project': 'q'}, {'location': 'x'})
  ]
  assert versions[0] == versions[3] != versions[1] == versions[2]


@pytest.mark.parametrize('project', ['', 'p'])
def test_no_credentials_are_told_at_once(tmp_path, monkeypatch, project):
  def default(*args, **kwargs):
    raise google_exceptions.DefaultCredentialsError('none found')

  monkeypatch.delenv('GOOGLE_API_KEY', raising=False)
  monkeypatch.setattr('google.auth.default', default)
  with pytest.raises(guard.Refusal, match=r'no credentials.*none found'):
    translators.build(_config(project=project), tmp_path)


def test_the_key_comes_from_the_environment(monkeypatch, server, tmp_path):
  monkeypatch.setenv('GOOGLE_API_KEY', 'secret')
  endpoint = f'http://127.0.0.1:{server.server_port}'
  monkeypatch.setattr(
      translate_v2.Client,
      '__init__',
      _pointed(translate_v2.Client.__init__, endpoint),
  )
  translator = translators.build(_config(), tmp_path)
  assert translator.translate(['cat'], 'en', 'fr') == ['fr:cat']
  assert server.asked_keys == ['secret']
  for path in (tmp_path / 'translations').iterdir():
    assert 'secret' not in path.read_text()


def _pointed(init, endpoint):
  options = {'api_endpoint': endpoint}
  return lambda self, **kwargs: init(self, client_options=options, **kwargs)
