"""Downloads from a server that breaks off, lies and refuses."""

import hashlib
import socket

import pytest

from tools import download

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()
# Of b'hello\n', as `git hash-object` gives it.
GIT_HELLO = 'ce013625030ba8dba906f756967f9e9ca394464a'


@pytest.fixture
def remote(site):
  site.files['/data'] = BODY
  return download.Remote(url=f'{site.url}/data', name='data', sha256=SHA256)


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'new' / 'data'


def names(path):
  return sorted(p.name for p in path.parent.iterdir())


def ranges(site):
  return [asked for _, asked in site.log]


def test_a_sound_download(remote, path):
  came = []
  digest = download.download(remote, path, advance=came.append)
  assert path.read_bytes() == BODY
  assert digest == SHA256
  assert sum(came) == len(BODY)
  assert names(path) == ['data']


def test_what_is_there_is_checked_and_not_downloaded(site, remote, path):
  path.parent.mkdir()
  path.write_bytes(BODY)
  assert download.download(remote, path) == SHA256
  assert site.log == []


def test_a_broken_connection_is_resumed(site, remote, path):
  site.script = ['cut', 'cut', 'sound']
  download.download(remote, path)
  assert path.read_bytes() == BODY
  half = len(BODY) // 2
  assert ranges(site) == [None, f'bytes={half}-', f'bytes={half + half // 2}-']


def test_a_later_call_resumes(site, remote, path):
  site.script = ['cut', 503]
  with pytest.raises(download.DownloadError, match=r'503 .* 2 times.*again'):
    download.download(remote, path, attempts=2)
  assert names(path) == ['.data.part', '.data.part.json']
  came = []
  download.download(remote, path, advance=came.append)
  assert path.read_bytes() == BODY
  assert ranges(site)[-1] == f'bytes={len(BODY) // 2}-'
  assert sum(came) == len(BODY)


@pytest.mark.parametrize('step', ['whole', 'shifted'])
def test_a_server_that_sends_another_part(site, remote, path, step):
  site.script = ['cut', step]
  download.download(remote, path)
  assert path.read_bytes() == BODY


def test_a_file_that_changed_meanwhile_starts_anew(site, remote, path):
  site.script = ['cut', 500]
  with pytest.raises(download.DownloadError):
    download.download(remote, path, attempts=2)
  site.files['/data'] = BODY[::-1]
  changed = download.Remote(url=remote.url, name='data')
  download.download(changed, path)
  assert path.read_bytes() == BODY[::-1]


def test_nothing_is_resumed_that_cannot_be_known_to_fit(site, remote, path):
  site.validators = False
  site.script = ['cut', 'sound']
  download.download(remote, path)
  assert ranges(site) == [None, None]
  assert path.read_bytes() == BODY


def test_a_part_that_is_whole(site, remote, path):
  site.script = ['cut', 500]
  with pytest.raises(download.DownloadError):
    download.download(remote, path, attempts=2)
  # As if the power failed between the last byte and the check.
  (path.parent / '.data.part').write_bytes(BODY)
  download.download(remote, path)
  assert path.read_bytes() == BODY
  (path.parent / 'data').unlink()


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'sha256': '0' * 64}, f'has the sha256 {SHA256}, not 0000'),
        ({'size': 7}, f'has {len(BODY)} bytes, not 7'),
        (
            {'sha256': '', 'git': GIT_HELLO},
            f'has the git id .* not {GIT_HELLO}',
        ),
    ],
)
@pytest.mark.parametrize('there', [True, False])
def test_another_file_is_removed_and_refused(
    remote, path, changes, words, there
):
  fields = {'url': remote.url, 'name': 'data', 'sha256': SHA256} | changes
  if there:
    path.parent.mkdir()
    path.write_bytes(BODY)
  with pytest.raises(download.DownloadError, match=words):
    download.download(download.Remote(**fields), path)
  assert 'data' not in names(path)
  assert '.data.part' not in names(path)


def test_what_git_calls_a_file(site, path):
  site.files['/hello'] = b'hello\n'
  url = f'{site.url}/hello'
  download.download(download.Remote(url, 'hello', git=GIT_HELLO), path)


def test_a_checksum_in_capitals(remote, path):
  fields = {'url': remote.url, 'name': 'data', 'sha256': SHA256.upper()}
  download.download(download.Remote(**fields), path)


@pytest.mark.parametrize('status', [429, 500, 502, 503])
def test_a_passing_fault_is_tried_again(site, remote, path, status):
  site.script = [status, status]
  download.download(remote, path)
  assert len(site.log) == 3


def test_the_server_says_how_long_to_wait(site, remote, path, monkeypatch):
  waits = []
  monkeypatch.setattr('time.sleep', waits.append)
  site.script = [503, 503, 503]
  site.headers = {'Retry-After': '7'}
  download.download(remote, path, pause=5.0)
  assert waits == [7.0, 10.0, 20.0]


@pytest.mark.parametrize(
    ('step', 'words'),
    [
        (404, 'not there any more .404'),
        (410, 'not there any more'),
        (403, 'needs a login'),
        (401, 'needs a login'),
        (400, 'cannot be downloaded .400'),
        ('page', 'a web page came'),
        ('http://example.org/data', 'only https'),
    ],
)
def test_a_lasting_fault_is_not(site, remote, path, step, words):
  site.script = [step]
  with pytest.raises(download.DownloadError, match=words):
    download.download(remote, path)
  assert len(site.log) == 1


def test_a_redirect_is_followed(site, remote, path):
  site.script = [f'{site.url}/data']
  assert download.download(remote, path) == SHA256


def test_only_https(path):
  for url in ('http://example.org/a', 'ftp://example.org/a', 'file:///etc/a'):
    with pytest.raises(download.DownloadError, match='only https'):
      download.download(download.Remote(url, 'a'), path)


def test_offline(path, monkeypatch):
  def nowhere(*args, **kwargs):
    raise socket.gaierror(-2, 'Name or service not known')

  monkeypatch.setattr('socket.getaddrinfo', nowhere)
  with pytest.raises(
      download.DownloadError, match=r'no address of example\.org .*offline'
  ):
    download.download(download.Remote('https://example.org/a', 'a'), path)


def test_nobody_answers(site, path):
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    url = f'http://127.0.0.1:{s.getsockname()[1]}/a'
  with pytest.raises(
      download.DownloadError, match=r'cannot be reached.*5 times'
  ):
    download.download(download.Remote(url, 'a'), path)
