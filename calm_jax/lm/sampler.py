"""Continuous batching: a fixed number of slots, refilled as answers end.

A prompt is prefilled once for all of its samples. Decoding runs in jitted
chunks of steps; between chunks the host collects finished rows and fills their
slots. What a sample says depends on (seed, its digest, its prompt) alone; in
bfloat16 also on the shapes it was computed in, so a list of requests is the
unit that a restart repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import time
from typing import Any

import jax
import numpy as np

from calm_jax.lm import slots as slots_lib

# Prompts are padded to one of these lengths, beyond them to multiples of 512:
# each length is one compilation.
_BUCKETS = (32, 64, 96, 128, 192, 256, 320, 384, 512, 768, 1024)


@dataclasses.dataclass(frozen=True)
class Ending:
  """What follows an answer: `suffix` is appended, one of `choices` drawn.

  Both are token ids, one token per choice.
  """

  suffix: tuple[int, ...]
  choices: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Request:
  """A prompt, and a digest for each sample wanted of it.

  Digests are 32-bit numbers that name the samples (`sampling.sample_digest`).
  `limits` caps the tokens of each sample below the settings' max_new_tokens.
  """

  prompt: tuple[int, ...]
  digests: tuple[int, ...]
  ending: Ending | None = None
  limits: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Completion:
  """`tokens` as drawn, without the stop token; `choice` indexes the ending's.

  `logprob` sums the log-probabilities of all that was drawn, stop token and
  choice included; `stop_reason` is 'stop' or 'length'. `watched_TW` holds the
  log-probabilities of the settings' watch_ids at each step that drew a token,
  the stop token's too; None where nothing is watched.
  """

  tokens: tuple[int, ...]
  choice: int | None
  logprob: float
  stop_reason: str
  watched_TW: np.ndarray | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass
class Stats:
  """What a run did: `slot_steps` counts decode steps times slots."""

  prompt_tokens: int = 0
  padded_prompt_tokens: int = 0
  drawn_tokens: int = 0
  slot_steps: int = 0
  seconds: float = 0.0


def run(
    steps: slots_lib.Steps,
    weights: Any,
    requests: Sequence[Request],
    settings: slots_lib.Settings,
    *,
    seed: int,
    on_done: Callable[[int, int], None] = lambda requests, tokens: None,
) -> tuple[list[list[Completion]], Stats]:
  """Draws every sample of every request, in their order.

  `on_done` hears, chunk by chunk, how many answers ended and how many tokens
  were drawn.

  Raises:
    ValueError: a request wants more samples than there are slots.
  """
  if not requests:
    return [], Stats()
  samples = max(len(r.digests) for r in requests)
  if samples > settings.slots:
    raise ValueError(
        f'{samples} samples of one prompt need at least as many slots, not '
        f'{settings.slots}: raise sample.slots'
    )
  start = time.monotonic()
  stats = Stats()
  slots = _Slots(steps, weights, requests, settings, samples, seed)
  # Longest first: the answers that end the run are then the cheap ones.
  waiting = sorted(range(len(requests)), key=lambda i: -len(requests[i].prompt))
  done: list[list[Any]] = [[None] * len(r.digests) for r in requests]
  while waiting or slots.owners:
    slots.admit(waiting, stats)
    stats.slot_steps += slots.decode() * settings.slots
    finished = slots.collect()
    for (request, index), completion in finished:
      done[request][index] = completion
    new_tokens = slots.drawn - stats.drawn_tokens
    stats.drawn_tokens = slots.drawn
    on_done(len(finished), new_tokens)
  stats.seconds = time.monotonic() - start
  return done, stats


class _Slots:
  """The device's state, and which sample each of its rows works on."""

  def __init__(self, steps, weights, requests, settings, samples, seed):
    self._steps, self._weights, self._settings = steps, weights, settings
    self._requests, self._samples, self._seed = requests, samples, seed
    # Prompts that are prefilled together, and their number with padding.
    self._prompts = max(1, settings.slots // (4 * samples))
    self._prompts += -self._prompts % steps.parts
    self._most = min(self._prompts, settings.slots // samples)
    endings = [r.ending for r in requests if r.ending]
    self._suffix = max([len(e.suffix) for e in endings], default=1)
    self._choices = max([len(e.choices) for e in endings], default=1)
    longest = max(len(r.prompt) for r in requests)
    room = settings.max_new_tokens + self._suffix + 1
    length = -(-max(bucket(longest), longest + room) // 64) * 64
    shape = (steps, settings, length, self._suffix, self._choices)
    # Under jit no device ever holds more than its own part.
    build = jax.jit(slots_lib.empty_state, static_argnums=range(len(shape)))
    self.state = build(*shape)
    self.owners: dict[int, tuple[int, int]] = {}
    self.drawn = self._drawn_before = 0  # tokens, stop tokens included

  def admit(self, waiting: list[int], stats: Stats) -> None:
    """Fills free slots, a few prompts at a time."""
    while waiting:
      count = min(self._most, len(waiting))
      free = [b for b in range(self._settings.slots) if b not in self.owners]
      if len(free) < count * self._samples and self.owners:
        return
      count = min(count, len(free) // self._samples)
      group = [waiting.pop(0) for _ in range(count)]
      self._prefill(group, free, stats)

  def decode(self) -> int:
    """Runs a chunk; returns how many steps it took."""
    self.state, steps_run = slots_lib.decode_chunk(
        self._steps, self._settings, self._weights, self.state, self._seed
    )
    return int(steps_run)

  def collect(self) -> list[tuple[tuple[int, int], Completion]]:
    """The answers that ended, with (request, sample) of each."""
    phase_B, drawn_B = jax.device_get((self.state.phase_B, self.state.drawn_B))
    self.drawn = self._drawn_before + sum(int(drawn_B[b]) for b in self.owners)
    rows = [b for b in self.owners if phase_B[b] == slots_lib.IDLE]
    if not rows:
      return []
    self._drawn_before += sum(int(drawn_B[b]) for b in rows)
    s = jax.device_get(self.state._replace(cache=(), job=()))
    finished = []
    for b in rows:
      request, index = self.owners.pop(b)
      drawn, stopped = int(s.drawn_B[b]), bool(s.stopped_B[b])
      completion = Completion(
          tokens=tuple(s.out_BT[b, : drawn - stopped].tolist()),
          choice=int(s.choice_B[b]) if self._requests[request].ending else None,
          logprob=float(s.logprob_B[b]),
          stop_reason='stop' if stopped else 'length',
          watched_TW=None
          if s.watched_BTW is None
          else s.watched_BTW[b, :drawn],
      )
      finished.append(((request, index), completion))
    return finished

  def _prefill(self, group: list[int], free: list[int], stats: Stats) -> None:
    requests = [self._requests[i] for i in group]
    width = bucket(max(len(r.prompt) for r in requests))
    tokens_PT = np.zeros((self._prompts, width), np.int32)
    rows = self._prompts * self._samples
    # A row index past the last slot is dropped by the scatter: padding.
    row_R = np.full(rows, self._settings.slots, np.int32)
    source_R = np.zeros(rows, np.int32)
    token_R, position_R, length_R = (np.zeros(rows, np.int32) for _ in 'tpl')
    digest_R = np.zeros(rows, np.uint32)
    limit_R = np.full(rows, self._settings.max_new_tokens, np.int32)
    suffix_RJ = np.zeros((rows, self._suffix), np.int32)
    choice_RO = np.full((rows, self._choices), -1, np.int32)
    used = 0
    for p, (i, request) in enumerate(zip(group, requests, strict=True)):
      length = len(request.prompt)
      tokens_PT[p, :length] = request.prompt
      stats.prompt_tokens += length
      for index, digest in enumerate(request.digests):
        row_R[used], source_R[used] = free[used], p
        token_R[used], position_R[used] = request.prompt[-1], length - 1
        digest_R[used] = digest
        if request.limits:
          limit_R[used] = min(limit_R[used], request.limits[index])
        if request.ending:
          suffix, choices = request.ending.suffix, request.ending.choices
          suffix_RJ[used, : len(suffix)] = suffix
          choice_RO[used, : len(choices)] = choices
          length_R[used] = len(suffix)
        self.owners[free[used]] = (i, index)
        used += 1
    stats.padded_prompt_tokens += tokens_PT.size
    job = slots_lib.Job(digest_R, limit_R, suffix_RJ, length_R, choice_RO)
    self.state = slots_lib.admit(
        self._steps,
        self._weights,
        self.state,
        tokens_PT,
        (row_R, source_R, token_R, position_R),
        job,
    )


def bucket(length: int) -> int:
  """The padded length that a prompt is prefilled at."""
  for size in _BUCKETS:
    if length <= size:
      return size
  return -(-length // 512) * 512
