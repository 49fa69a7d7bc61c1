"""Downloads a file over HTTPS: resumes, retries, and checks what came."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import time
from typing import Any
import urllib.error
import urllib.parse
import urllib.request

from calm_jax import records

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20
_LOCAL = ('127.0.0.1', 'localhost', '::1')

Advance = Callable[[int], None]


class DownloadError(RuntimeError):
  """What could not be downloaded, why, and what to do about it."""


@dataclasses.dataclass(frozen=True)
class Remote:
  """A file to download, and what is known of it; '' and None: nothing.

  `git` is the id that git gives the content, known of small files on the Hub.
  """

  url: str
  name: str
  sha256: str = ''
  git: str = ''
  size: int | None = None


class _Passing(Exception):
  """A fault that may be gone in a moment; `wait` is the server's wish."""

  def __init__(self, message: str, wait: float = 0.0):
    super().__init__(message)
    self.wait = wait


def download(
    remote: Remote,
    path: pathlib.Path,
    *,
    attempts: int = 5,
    pause: float = 1.0,
    advance: Advance = lambda count: None,
) -> str:
  """Makes `path` the remote file and returns its sha256.

  A file that is there already is checked, not downloaded. What an earlier call
  has downloaded in part is resumed, if the server says that it still fits.

  Raises:
    DownloadError: it could not be downloaded, or is another file.
  """
  if path.exists():
    return check(remote, path)
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.{path.name}.part')
  advance(_resumable(remote, part)[0])
  for attempt in range(1, attempts + 1):
    try:
      _rest(remote, part, advance)
      break
    except _Passing as e:
      if attempt == attempts:
        raise DownloadError(
            f'{remote.url}: {e}, {attempts} times. Run this again to go on'
            f' where it stopped; or download the file elsewhere as {path}'
        ) from e
      time.sleep(max(e.wait, pause * 2 ** (attempt - 1)))
  digest = check(remote, part)
  os.replace(part, path)
  _note(part).unlink()
  return digest


def read_json(url: str, *, attempts: int = 3) -> tuple[Any, str]:
  """A small JSON document and the address of its next page, '' if none."""
  for attempt in range(1, attempts + 1):
    try:
      with _open(url, {}) as response:
        found = json.loads(response.read())
        return found, _next_page(response.headers.get('Link', ''))
    except _Passing as e:
      if attempt == attempts:
        raise DownloadError(f'{url}: {e}') from e
      time.sleep(max(e.wait, 2 ** (attempt - 1)))
    except ValueError as e:
      raise DownloadError(f'{url}: is no JSON: {e}') from e
  raise AssertionError


def check(remote: Remote, path: pathlib.Path) -> str:
  """The file's sha256; a file that is not `remote` is removed and refused."""
  size, digest = path.stat().st_size, sha256(path)
  wrong = []
  if remote.size is not None and size != remote.size:
    wrong.append(f'has {size} bytes, not {remote.size}')
  if remote.sha256 and digest != remote.sha256.lower():
    wrong.append(f'has the sha256 {digest}, not {remote.sha256.lower()}')
  if remote.git and (found := _git_id(path)) != remote.git:
    wrong.append(f'has the git id {found}, not {remote.git}')
  if wrong:
    path.unlink()
    raise DownloadError(
        f'{remote.url}: what came {" and ".join(wrong)}. It was removed: run'
        ' this again, and if that does not help, the source has changed'
    )
  return digest


def sha256(path: pathlib.Path) -> str:
  with path.open('rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def _git_id(path: pathlib.Path) -> str:
  content = path.read_bytes()
  blob = b'blob %d\0' % len(content) + content
  return hashlib.sha1(blob, usedforsecurity=False).hexdigest()


def _rest(remote: Remote, part: pathlib.Path, advance: Advance) -> None:
  """Downloads what `part` still lacks."""
  have, validator = _resumable(remote, part)
  headers = {}
  if have:
    headers = {'Range': f'bytes={have}-', 'If-Range': validator}
  try:
    response = _open(remote.url, headers)
  except _RangeRefused as e:
    if e.total == have:
      return  # stopped after the last byte, before the check
    part.unlink()
    raise _Passing('the part that was there does not fit') from e
  with response:
    start = _start(response, have)
    if not start:
      note = {'url': remote.url, 'validator': _validator(response)}
      records.write_text(_note(part), json.dumps(note) + '\n')
    _copy(response, part, start, advance)


def _copy(
    response: http.client.HTTPResponse,
    part: pathlib.Path,
    start: int,
    advance: Advance,
) -> None:
  length = response.headers.get('Content-Length')
  came = 0
  try:
    with part.open('ab' if start else 'wb') as f:
      while chunk := response.read(_CHUNK):
        f.write(chunk)
        came += len(chunk)
        advance(len(chunk))
  except (http.client.HTTPException, ConnectionError, TimeoutError) as e:
    raise _Passing(f'the connection broke after {start + came} bytes') from e
  if length is not None and came < int(length):
    end = start + int(length)
    raise _Passing(f'the connection ended after {start + came} of {end} bytes')


def _note(part: pathlib.Path) -> pathlib.Path:
  return part.with_name(f'{part.name}.json')


def _resumable(remote: Remote, part: pathlib.Path) -> tuple[int, str]:
  """How many bytes of `part` may be kept, and what tells that they fit."""
  try:
    note = json.loads(_note(part).read_text(encoding='utf-8'))
    if note['url'] == remote.url and note['validator']:
      return part.stat().st_size, note['validator']
  except (OSError, ValueError, KeyError):
    pass  # nothing there, or nothing that this tool wrote
  return 0, ''


def _validator(response: http.client.HTTPResponse) -> str:
  """What an If-Range header may say; a weak ETag may not stand there."""
  tag = response.headers.get('ETag', '')
  if tag and not tag.startswith('W/'):
    return tag
  return response.headers.get('Last-Modified', '')


def _start(response: http.client.HTTPResponse, have: int) -> int:
  """The offset at which the body begins."""
  if response.status != 206:
    return 0
  found = re.match(r'bytes (\d+)-', response.headers.get('Content-Range', ''))
  if not found or int(found[1]) != have:
    raise _Passing('the server sent another part than the one asked for')
  return have


class _RangeRefused(Exception):

  def __init__(self, total: int | None):
    super().__init__()
    self.total = total


class _Redirects(urllib.request.HTTPRedirectHandler):

  def redirect_request(self, req, fp, code, msg, headers, newurl):
    _check_address(newurl)
    return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str) -> None:
  parts = urllib.parse.urlsplit(url)
  if parts.scheme != 'https' and parts.hostname not in _LOCAL:
    raise DownloadError(f'{url}: only https addresses are downloaded from')


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
  _check_address(url)
  request = urllib.request.Request(url, headers=headers)
  request.add_header('Accept-Encoding', 'identity')
  request.add_header('User-Agent', 'calm_jax')
  opener = urllib.request.build_opener(_Redirects)
  try:
    response = opener.open(request, timeout=_TIMEOUT)
  except urllib.error.HTTPError as e:
    with e:
      raise _refused(url, e) from e
  except (http.client.HTTPException, ConnectionError, TimeoutError) as e:
    raise _Passing(f'no answer ({e!r})') from e
  except urllib.error.URLError as e:
    raise _unreachable(url, e.reason) from e
  if response.headers.get_content_type() == 'text/html':
    response.close()
    raise DownloadError(
        f'{url}: a web page came, not the file. It may need a login or have'
        ' moved; open the address in a browser'
    )
  return response


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
  """The exception for an answer that is an error."""
  status = f'{error.code} {error.reason}'
  if error.code == 416:
    total = error.headers.get('Content-Range', '').rpartition('/')[2]
    return _RangeRefused(int(total) if total.isdecimal() else None)
  if error.code in (408, 425, 429) or error.code >= 500:
    wish = error.headers.get('Retry-After', '')
    wait = min(float(wish), 60.0) if wish.isdecimal() else 0.0
    return _Passing(f'the server answers {status}', wait)
  reasons = {
      401: 'it needs a login',
      403: 'it needs a login or is not for this network',
      404: 'it is not there any more',
      410: 'it is not there any more',
  }
  why = reasons.get(error.code, 'it cannot be downloaded')
  return DownloadError(f'{url}: {why} ({status}); see the home page')


def _unreachable(url: str, reason: Any) -> Exception:
  host = urllib.parse.urlsplit(url).hostname
  if isinstance(reason, ssl.SSLCertVerificationError):
    return DownloadError(
        f'{url}: the certificate of {host} is not trusted here ({reason});'
        ' SSL_CERT_FILE names the certificates that are'
    )
  if isinstance(reason, socket.gaierror):
    return DownloadError(
        f'{url}: no address of {host} ({reason}): is this machine offline?'
        ' Behind a proxy, set https_proxy'
    )
  return _Passing(f'{host} cannot be reached ({reason})')


def _next_page(link: str) -> str:
  found = re.search(r'<([^>]+)>\s*;\s*rel="next"', link)
  return found[1] if found else ''
