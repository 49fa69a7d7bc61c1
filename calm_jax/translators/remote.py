"""What any paid service needs: groups, patience with limits, a budget.

A request is tried a few times, then its texts are counted failures. When
several fail in a row nothing more is sent in this run. A text that the service
rejects fails alone, unless it has taken none so far.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent import futures
import html
import random
import re
import threading
import time

from calm_jax import console
from calm_jax.translators import budget, translator

# texts, source and target language -> as many translations
Send = Callable[[list[str], str, str], list[str]]
Sleep = Callable[[float], None]

_TRIES = 6  # of one request
_BILLED_TRIES = 3  # of one whose failures may cost money
_LONGEST_WAIT = 60.0  # seconds between two tries
_DEADLINE = 90.0  # seconds of one request, all in all
_GIVE_UP = 4  # failed requests in a row
_REJECTED = 20  # texts, before any is taken: it is then the request's form
_ENTITY = re.compile(r'&(#\d+|#[xX][0-9a-fA-F]+|\w+);')


class Busy(Exception):
  """No good answer this time; `after` is when to ask again, in seconds.

  `billed` where the service may have done, and will charge for, the work.
  """

  def __init__(self, why: str, *, after: float = 0.0, billed: bool = False):
    super().__init__(why)
    self.after, self.billed = after, billed


class Rejected(Exception):
  """The service will never take this request; a smaller one, perhaps."""


class Remote(translator.Translator):

  def __init__(
      self,
      send: Send,
      ledger: budget.Budget,
      *,
      version: str,
      languages: Collection[str],
      sleep: Sleep = time.sleep,
      deadline: float = _DEADLINE,
      group_texts: int = 100,
      group_characters: int = 5_000,
      text_characters: int = 30_000,
  ):
    self._send, self._ledger, self._sleep = send, ledger, sleep
    self._deadline = deadline
    self._version, self._languages = version, languages
    self._group_texts = group_texts
    self._group_characters = group_characters
    self._text_characters = text_characters
    self._failed_in_a_row = 0
    self._rejected = 0
    self._taken = False  # the service has translated something
    self._stopped = False

  @property
  def version(self) -> str:
    return self._version

  def supports(self, source: str, target: str) -> bool:
    return source != target and {source, target} <= set(self._languages)

  def groups(self, texts: list[str]) -> list[list[str]]:
    groups: list[list[str]] = []
    size = 0
    for text in texts:
      size += len(text)
      full = groups and len(groups[-1]) == self._group_texts
      if not groups or full or size > self._group_characters:
        groups.append([])
        size = len(text)
      groups[-1].append(text)
    return groups

  def begin(self, wanted: Iterable[translator.Wanted]) -> None:
    sizes = [len(text) for text, _, _ in wanted if self._sendable(text)]
    self._ledger.estimate(len(sizes), sum(sizes))

  def end(self) -> dict[str, float]:
    return self._ledger.close()

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    unique = dict.fromkeys(text for text in texts if self._sendable(text))
    done: dict[str, str | None] = {}
    for group in self.groups(list(unique)):
      results = self._group(group, source, target)
      done |= dict(zip(group, results, strict=True))
    return [done.get(text) for text in texts]

  def _sendable(self, text: str) -> bool:
    return bool(text.strip()) and len(text) <= self._text_characters

  def _group(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    if self._stopped:
      return [None] * len(texts)
    try:
      done = self._patiently(texts, source, target)
    except Rejected as e:
      # One bad text must not take the others with it.
      if half := len(texts) // 2:
        parts = texts[:half], texts[half:]
        return [t for p in parts for t in self._group(p, source, target)]
      self._rejected += 1
      self._lost(texts, str(e))
      if self._rejected >= _REJECTED and not self._taken:
        self._stop(f'the first {self._rejected} texts were rejected')
      return [None]
    except Busy as e:
      self._failed_in_a_row += 1
      self._lost(texts, str(e))
      if self._failed_in_a_row >= _GIVE_UP:
        self._stop(f'{_GIVE_UP} requests in a row failed')
      return [None] * len(texts)
    self._failed_in_a_row, self._taken = 0, True
    return [_tidy(a, b) for a, b in zip(texts, done, strict=True)]

  def _patiently(self, texts: list[str], source: str, target: str) -> list[str]:
    """The answer to one request, tried again where that may help."""
    characters = sum(len(text) for text in texts)
    billed = 0
    for attempt in range(1, _TRIES + 1):
      self._ledger.charge(characters)
      try:
        return self._answer(texts, source, target)
      except Rejected:
        self._ledger.refund(characters)
        raise
      except Busy as e:
        billed += e.billed
        if not e.billed:
          self._ledger.refund(characters)
        if attempt == _TRIES or billed == _BILLED_TRIES:
          raise
        # Jitter, so that many clients do not come back at the same moment.
        wait = 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)
        asked = e.after * random.uniform(1.0, 1.25)
        self._sleep(min(max(wait, asked), _LONGEST_WAIT))
    raise AssertionError('the last try returns or raises')

  def _answer(self, texts: list[str], source: str, target: str) -> list[str]:
    ask = lambda: self._send(texts, source, target)
    done = _within(self._deadline, ask)
    if len(done) != len(texts):
      why = f'{len(done)} translations of {len(texts)} texts'
      raise Busy(why, billed=True)
    return done

  def _lost(self, texts: list[str], why: str) -> None:
    line = ' '.join(why.split())[:300]
    console.say(f'  {len(texts)} texts were not translated: {line}')

  def _stop(self, why: str) -> None:
    self._stopped = True
    console.say(
        f'  {why}: nothing more is sent in this run; what is left counts as'
        ' failed. To ask again, delete the folder of this stage and of those'
        ' after it: the cache keeps what was translated'
    )


def _within(seconds: float, ask: Callable[[], list[str]]) -> list[str]:
  """The answer, if it is whole in time.

  A client's own patience is with each read: what drips could last for ever.
  Its thread is left behind, and ends when the service does.
  """
  answer: futures.Future[list[str]] = futures.Future()

  def work() -> None:
    try:
      answer.set_result(ask())
    except BaseException as e:  # raised again below
      answer.set_exception(e)

  # No pool: the interpreter would wait for its threads at exit.
  threading.Thread(target=work, daemon=True).start()
  if not futures.wait([answer], timeout=seconds).done:
    raise Busy(f'no whole answer in {seconds:g} s', billed=True)
  return answer.result()


def _tidy(text: str, translated: str) -> str | None:
  """Undoes HTML escapes that are not the text's own; None if it is empty."""
  if not _ENTITY.search(text):
    translated = html.unescape(translated)
  return translated.strip() or None
