"""The other side of a benchmark: llama.cpp's server, asked over HTTP.

Its slots are refilled as answers end, as ours are. A slot keeps to a question
while that has answers left: its prompt is then read once, and the other
answers start from the slot's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import concurrent.futures
import contextlib
import threading
import time

import numpy as np

from tools import benchmark_llama_server as servers
from tools import benchmark_work as work

# A slot's last token needs a place too.
_SPARE = 16


class Generate:
  """Answers of one length each by llama.cpp, with any number of slots."""

  def __init__(
      self,
      program: str,
      gguf: str,
      peer: work.Peer,
      questions: Sequence[work.Question],
      *,
      draws: work.Draws,
  ):
    self._program, self._gguf = program, gguf
    self.peer, self._questions, self._draws = peer, questions, draws
    self._stack = contextlib.ExitStack()
    self._server: servers.Server | None = None
    self.version = ''

  def close(self) -> None:
    self._stack.close()
    self._server = None

  def start(self, size: int) -> None:
    """A server with so many slots, in place of the one before."""
    self.close()
    context = _SPARE + max(
        len(q.prompt) + max(q.answers) for q in self._questions
    )
    self._server = self._stack.enter_context(
        servers.serve(
            self._program,
            self._gguf,
            slots=size,
            context=context,
            threads=self.peer.threads,
        )
    )
    self.version = self._server.check(self.peer)
    # Reads the file: the first pass is not the one to pay for it.
    short = [q._replace(answers=(1,)) for q in self._questions[:size]]
    self._run(short)

  def run(self, every: int = 1) -> work.Run:
    """A pass over all questions, or every so manieth."""
    return self._run(self._questions[::every])

  def peak_memory(self) -> int:
    return work.peak_resident(self.started().pid)

  def started(self) -> servers.Server:
    """The server that answers now."""
    if self._server is None:
      raise RuntimeError('start() comes first')
    return self._server

  def _run(self, questions: Sequence[work.Question]) -> work.Run:
    """Draws all answers, each slot one after another."""
    server = self.started()
    left = Answers(questions)
    start, cpu = time.monotonic(), servers.cpu_seconds(server.pid)
    with concurrent.futures.ThreadPoolExecutor(server.slots) as pool:
      jobs = [
          pool.submit(self._keep_busy, slot, left)
          for slot in range(server.slots)
      ]
      found = np.sum([job.result() for job in jobs], axis=0)
    seconds = time.monotonic() - start
    drawn, read, busy = found.tolist()
    return work.Run(
        seconds,
        servers.cpu_seconds(server.pid) - cpu,
        round(drawn),
        {
            'slot_utilisation': busy / (seconds * server.slots),
            'prompt_tokens': round(read),
            'batch': server.slots,
        },
    )

  def _keep_busy(self, slot: int, left: Answers) -> tuple[int, int, float]:
    """Tokens drawn, those of prompts read, and the seconds it took."""
    start, drawn, read = time.monotonic(), 0, 0
    last = None
    while (taken := left.take(last)) is not None:
      index, prompt, length = taken
      timings = self._draw(slot, prompt, length, cached=index == last)
      drawn += timings['predicted_n']
      read += timings['prompt_n']
      last = index
    return drawn, read, time.monotonic() - start

  def _draw(
      self, slot: int, prompt: Sequence[int], length: int, *, cached: bool
  ) -> Mapping[str, int]:
    found = self.started().ask(
        'POST',
        '/completion',
        {
            'prompt': prompt,
            'n_predict': length,
            'ignore_eos': True,
            'id_slot': slot,
            # Else the next turn would find the prompts of this one.
            'cache_prompt': cached,
            # As transformers and we do.
            'samplers': ['temperature', 'top_k', 'top_p'],
            **self._draws._asdict(),
            'n_probs': 0,
        },
    )
    told = (found['tokens_evaluated'], found['tokens_predicted'])
    if told != (len(prompt), length):
      raise ValueError(
          f'llama.cpp read and drew {told} tokens, not {(len(prompt), length)}'
      )
    return found['timings']


class Answers:
  """Those still to be drawn, handed out to the slots."""

  def __init__(self, questions: Sequence[work.Question]):
    self._prompts = [q.prompt for q in questions]
    self._left = [list(q.answers) for q in questions]
    self._lock = threading.Lock()

  def take(self, last: int | None) -> tuple[int, Sequence[int], int] | None:
    """A question, its prompt and the length of an answer; None at the end.

    Of the question `last` if it has some; else of one nobody began, or of that
    with the most answers left.
    """
    with self._lock:
      index = last
      if index is None or not self._left[index]:
        counts = [len(lengths) for lengths in self._left]
        index = counts.index(max(counts))
      if not self._left[index]:
        return None
      return index, self._prompts[index], self._left[index].pop(0)
