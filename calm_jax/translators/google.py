"""Google Cloud Translation: v3 (Advanced) with a project, else v2 (Basic).

Credentials come from the environment only, as Google's library finds them
(GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, a machine's account), or for
v2 from GOOGLE_API_KEY. docs/TRANSLATION.md says how to get them.
"""

from __future__ import annotations

from collections.abc import Mapping
import datetime
import email.utils
import importlib.util
import os
import pathlib
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from calm_jax import guard
from calm_jax.qa import languages
from calm_jax.translators import budget, remote, translator

if TYPE_CHECKING:
  from google.api_core import exceptions as api
  from google.cloud import translate_v2, translate_v3
  import requests

CODES = {code: row.codes.google for code, row in languages.LANGUAGES.items()}

_SECONDS = 60.0  # of patience with each read of an answer
_LATER = (408, 429, 500, 502, 503, 504)
# With status 400, as a bad text has.
_BAD_KEYS = {'API_KEY_INVALID', 'keyInvalid', 'keyExpired'}
# What v2 calls its limits; they come with status 403.
_LIMITS = (
    'rateLimitExceeded',
    'userRateLimitExceeded',
    'dailyLimitExceeded',
    'quotaExceeded',
    'RATE_LIMIT_EXCEEDED',
)
_HELP = (
    'docs/TRANSLATION.md says how to set up credentials, a project and billing'
)


def problem(path: str) -> str | None:
  del path
  if _installed():
    return None
  return "needs Google's library: pip install 'calm_jax[translate]'"


def depends(cfg: ConfigDict) -> dict[str, str]:
  return {'translator': _version(cfg)}


def build(cfg: ConfigDict, folder: pathlib.Path) -> translator.Translator:
  """Asks for the credentials at once: later is after hours of sampling."""
  send = _connect(cfg.translate.project, cfg.translate.location)
  ledger = budget.Budget(
      folder / 'google_ledger.jsonl',
      price=cfg.translate.price,
      max_cost=cfg.translate.max_cost,
  )
  return remote.Remote(send, ledger, version=_version(cfg), languages=CODES)


def send_v2(client: translate_v2.Client) -> remote.Send:
  """Requests of the Basic edition; it waits 60 s for each read."""

  def send(texts: list[str], source: str, target: str) -> list[str]:
    answer = client.translate(
        texts,
        source_language=CODES[source],
        target_language=CODES[target],
        format_='text',  # otherwise ' comes back as &#39;
        model='nmt',
    )
    return [row['translatedText'] for row in answer]

  return _told(send)


def send_v3(
    client: translate_v3.TranslationServiceClient,
    *,
    parent: str,
    seconds: float = _SECONDS,
) -> remote.Send:
  """Requests of the Advanced edition."""

  def send(texts: list[str], source: str, target: str) -> list[str]:
    request = {
        'parent': parent,
        'contents': texts,
        'mime_type': 'text/plain',
        'source_language_code': CODES[source],
        'target_language_code': CODES[target],
    }
    # Its own retries are not counted in the ledger.
    answer = client.translate_text(request, retry=None, timeout=seconds)
    return [row.translated_text for row in answer.translations]

  return _told(send)


def _installed() -> bool:
  # The parents of a name are imported to find it.
  try:
    return importlib.util.find_spec('google.cloud.translate_v3') is not None
  except ModuleNotFoundError:
    return False


def _version(cfg: ConfigDict) -> str:
  where = f'v3 {cfg.translate.location}' if cfg.translate.project else 'v2'
  return f'{where} nmt'


def _connect(project: str, location: str) -> remote.Send:
  """The official client; neither does anything over the network yet."""
  from google.auth import api_key, exceptions
  from google.cloud import translate_v2, translate_v3

  try:
    if project:
      # REST: gRPC's threads do not get along with a process that forks.
      client = translate_v3.TranslationServiceClient(transport='rest')
      parent = f'projects/{project}/locations/{location}'
      return send_v3(client, parent=parent)
    key = os.environ.get('GOOGLE_API_KEY')
    credentials = api_key.Credentials(key) if key else None
    return send_v2(translate_v2.Client(credentials=credentials))
  except exceptions.GoogleAuthError as e:
    raise guard.Refusal(
        f'config.translate.backend = google: no credentials ({e}); {_HELP}'
    ) from e


def _told(send: remote.Send) -> remote.Send:
  """Says of every failure whether it may help to ask again."""
  from google.api_core import exceptions as api
  from google.auth import exceptions as auth
  from google.protobuf import json_format
  import requests

  def told(texts: list[str], source: str, target: str) -> list[str]:
    try:
      return send(texts, source, target)
    except api.GoogleAPICallError as e:
      raise _classified(e) from e
    except requests.RequestException as e:
      # It may have been done, and only the answer got lost.
      raise remote.Busy(f'no answer: {e}', billed=_arrived(e)) from e
    except auth.TransportError as e:
      raise remote.Busy(f'no access token: {e}') from e
    except auth.GoogleAuthError as e:
      raise guard.Refusal(
          f'Google refused the credentials: {e}. {_HELP}'
      ) from e
    except (
        json_format.ParseError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as e:
      # The clients trust an answer to have the form that it should.
      raise remote.Busy(f'a broken answer: {e!r}', billed=True) from e

  return told


def _arrived(error: requests.RequestException) -> bool:
  """Whether the request may have reached the service."""
  import requests
  import urllib3

  if isinstance(error, requests.ConnectTimeout):
    return False
  cause = error.args[0] if error.args else None
  return not (
      isinstance(cause, urllib3.exceptions.MaxRetryError)
      and isinstance(cause.reason, urllib3.exceptions.NewConnectionError)
  )


def _classified(error: api.GoogleAPICallError) -> Exception:
  reasons = {error.reason, *(_reason(e) for e in error.errors)}
  limited = error.code == 403 and reasons & set(_LIMITS)
  if error.code in _LATER or limited:
    headers = {} if error.response is None else error.response.headers
    # Of these two only the answer may have been late.
    late = error.code in (408, 504)
    return remote.Busy(str(error), after=_seconds(headers), billed=late)
  if error.code in (400, 413) and not reasons & _BAD_KEYS:
    return remote.Rejected(str(error))
  return guard.Refusal(
      f'Google Cloud Translation refuses to work: {error}. {_HELP}'
  )


def _reason(error: object) -> object:
  return error.get('reason') if isinstance(error, Mapping) else None


def _seconds(headers: Mapping[str, str]) -> float:
  """Retry-After, which is a number of seconds or a date; 0 without one."""
  value = headers.get('Retry-After', '')
  if value.isdecimal():
    return float(value)
  try:
    when = email.utils.parsedate_to_datetime(value)
  except ValueError:
    return 0.0
  now = datetime.datetime.now(datetime.UTC)
  # A date without a zone is in UTC too.
  return max(0.0, (when.replace(tzinfo=datetime.UTC) - now).total_seconds())
