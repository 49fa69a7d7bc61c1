"""Continuous batching: a fixed number of slots, refilled as answers end.

A prompt is prefilled once for all of its samples. Decoding runs in jitted
chunks of steps; between chunks the host collects finished rows, fills their
slots, and cuts the cache to what is left to do. What a sample says depends on
(seed, its digest, its prompt) alone; in bfloat16 also on the shapes it was
computed in, so a list of requests is the unit that a restart repeats.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
import dataclasses
import time
from typing import Any

import jax
import numpy as np

from calm_jax.lm import shapes as shapes_lib
from calm_jax.lm import slots as slots_lib


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
  """What a run did: `slot_steps` counts decode steps times slots then."""

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
    shapes: shapes_lib.Shapes | None = None,
) -> tuple[list[list[Completion]], Stats]:
  """Draws every sample of every request, in their order.

  `on_done` hears, chunk by chunk, how many answers ended and how many tokens
  were drawn. `shapes` are those of all the runs of which this is one (`plan`).

  Raises:
    ValueError: a request wants more samples than there are slots.
  """
  if not requests:
    return [], Stats()
  shapes = shapes or plan([requests], settings.max_new_tokens)
  samples = shapes.samples
  if samples * steps.parts > settings.slots:
    raise ValueError(
        f'{samples} samples of one prompt need at least as many slots on each'
        f' of {steps.parts} parts, not {settings.slots}: raise sample.slots'
    )
  start, stats = time.monotonic(), Stats()
  slots = _Slots(steps, weights, requests, settings, shapes, seed)
  # Longest first: the answers that end the run are then the cheap ones.
  waiting = sorted(range(len(requests)), key=lambda i: -len(requests[i].prompt))
  done: list[list[Any]] = [[None] * len(r.digests) for r in requests]
  while waiting or slots.owners:
    slots.shorten(waiting)
    slots.admit(waiting, stats)
    if not waiting and shapes.halves(settings.slots, steps.parts):
      slots.halve()
    stats.slot_steps += slots.decode()
    finished = slots.collect()
    for (request, index), completion in finished:
      done[request][index] = completion
    on_done(len(finished), slots.drawn - stats.drawn_tokens)
    stats.drawn_tokens = slots.drawn
  stats.seconds = time.monotonic() - start
  return done, stats


def plan(
    parts: Sequence[Sequence[Request]],
    max_new_tokens: int,
    *,
    multiple: int = 64,
) -> shapes_lib.Shapes:
  """Shapes for several runs, so that they compile the same programs.

  They do not depend on the runs' order, nor on which of them are left to do.
  Caches have a `multiple` of positions.
  """
  requests = [r for part in parts for r in part]
  endings = [r.ending for r in requests if r.ending]
  suffix = max([len(e.suffix) for e in endings], default=1)
  room = max_new_tokens + suffix + 1
  widths = shapes_lib.widths([len(r.prompt) for r in requests])
  needs, on_cpu = collections.Counter(), jax.default_backend() == 'cpu'
  for r in requests:
    needs[shapes_lib.need(len(r.prompt), widths, room)] += len(r.digests)
  return shapes_lib.Shapes(
      widths=widths,
      lengths=shapes_lib.lengths(needs, on_cpu=on_cpu, multiple=multiple),
      room=room,
      samples=max(len(r.digests) for r in requests),
      suffix=suffix,
      choices=max([len(e.choices) for e in endings], default=1),
      halved=on_cpu,
  )


class _Slots:
  """The device's state, and which sample each of its rows works on."""

  def __init__(self, steps, weights, requests, settings, shapes, seed):
    self._steps, self._weights, self._settings = steps, weights, settings
    self._requests, self._shapes, self._seed = requests, shapes, seed
    self._samples, self._half = shapes.samples, settings.slots // 2
    self._prompts = shapes_lib.prompts_at_once(
        settings.slots, shapes.samples, steps.parts
    )
    self._most = min(self._prompts, settings.slots // shapes.samples)
    self._prompt_lengths = [len(r.prompt) for r in requests]
    self._length = shapes.length(max(self._prompt_lengths))
    shape = (steps, settings, self._length, shapes.suffix, shapes.choices)
    # Under jit no device ever holds more than its own part.
    build = jax.jit(slots_lib.empty_state, static_argnums=range(len(shape)))
    self.state = build(*shape)
    self.owners: dict[int, tuple[int, int]] = {}
    self.drawn = self._drawn_before = 0  # tokens, stop tokens included

  def shorten(self, waiting: Sequence[int]) -> None:
    """Cuts the cache to what all that is left needs: all of it is read."""
    left = [*waiting[:1], *(request for request, _ in self.owners.values())]
    length = self._shapes.length(max(self._prompt_lengths[i] for i in left))
    if length < self._length:
      self._length = length
      cache = self._steps.cut(self.state.cache, length)
      self.state = self.state._replace(cache=cache)

  def admit(self, waiting: list[int], stats: Stats) -> None:
    """Fills free slots, a few prompts of one width at a time."""
    while waiting:
      alike = self._alike(waiting)
      free = self._settings.slots - len(self.owners)
      if free < alike * self._samples and self.owners:
        return
      seats = self._seats()[:alike]
      if not seats:
        return
      group = {seat: waiting.pop(0) for seat in seats}
      self._prefill(group, stats)

  def halve(self) -> None:
    """Leaves out half of the slots, once all that is left fits in the rest."""
    if len(self.owners) > self._half or self._settings.slots == self._half:
      return
    kept = slots_lib.keep(self.state, self.owners, self._half)
    self.state, self.owners = kept
    self._settings = dataclasses.replace(self._settings, slots=self._half)

  def _alike(self, waiting: list[int]) -> int:
    """How many of the first that wait are padded to the same width."""
    lengths = (self._prompt_lengths[i] for i in waiting[: self._most])
    widths = [self._shapes.width(length) for length in lengths]
    return widths.count(widths[0])

  def _seats(self) -> list[tuple[int, tuple[int, ...]]]:
    """Rows for prompts, each with free slots of the same part beside it."""
    parts, samples = self._steps.parts, self._samples
    size, rows = self._settings.slots // parts, self._prompts // parts
    free = [
        [b for b in range(q * size, (q + 1) * size) if b not in self.owners]
        for q in range(parts)
    ]
    return [
        (q * rows + k, tuple(free[q][k * samples : (k + 1) * samples]))
        for k in range(rows)
        for q in range(parts)
        if len(free[q]) >= (k + 1) * samples
    ]

  def decode(self) -> int:
    """Runs a chunk; returns its steps times slots."""
    self.state, steps_run = slots_lib.decode_chunk(
        self._steps, self._settings, self._weights, self.state, self._seed
    )
    return int(steps_run) * self._settings.slots

  def collect(self) -> list[tuple[tuple[int, int], Completion]]:
    """The answers that ended, with (request, sample) of each."""
    phase_B, drawn_B = jax.device_get((self.state.phase_B, self.state.drawn_B))
    self.drawn = self._drawn_before + sum(int(drawn_B[b]) for b in self.owners)
    rows = [b for b in self.owners if phase_B[b] == slots_lib.IDLE]
    if not rows:
      return []
    self._drawn_before += sum(int(drawn_B[b]) for b in rows)
    s = jax.device_get(self.state._replace(cache=(), job=()))
    seen_BTW = s.watched_BTW
    finished = []
    for b in rows:
      request, index = self.owners.pop(b)
      drawn, stopped = int(s.drawn_B[b]), bool(s.stopped_B[b])
      completion = Completion(
          tokens=tuple(s.out_BT[b, : drawn - stopped].tolist()),
          choice=int(s.choice_B[b]) if self._requests[request].ending else None,
          logprob=float(s.logprob_B[b]),
          stop_reason='stop' if stopped else 'length',
          watched_TW=None if seen_BTW is None else seen_BTW[b, :drawn],
      )
      finished.append(((request, index), completion))
    return finished

  def _prefill(
      self, group: dict[tuple[int, tuple[int, ...]], int], stats: Stats
  ) -> None:
    """Reads prompts; `group` says at which row, and into which slots."""
    longest = max(self._prompt_lengths[i] for i in group.values())
    width = self._shapes.width(longest)
    tokens_PT = np.zeros((self._prompts, width), np.int32)
    rows = self._prompts * self._samples
    # A row index past the last slot is dropped by the scatter: padding.
    row_R = np.full(rows, self._settings.slots, np.int32)
    source_R = np.arange(rows, dtype=np.int32) // self._samples
    token_R, position_R, length_R = (np.zeros(rows, np.int32) for _ in 'tpl')
    digest_R = np.zeros(rows, np.uint32)
    limit_R = np.full(rows, self._settings.max_new_tokens, np.int32)
    suffix_RJ = np.zeros((rows, self._shapes.suffix), np.int32)
    choice_RO = np.full((rows, self._shapes.choices), -1, np.int32)
    for (p, places), i in group.items():
      request, length = self._requests[i], self._prompt_lengths[i]
      tokens_PT[p, :length] = request.prompt
      stats.prompt_tokens += length
      for index, digest in enumerate(request.digests):
        used = p * self._samples + index
        row_R[used] = places[index]
        token_R[used], position_R[used] = request.prompt[-1], length - 1
        digest_R[used] = digest
        if request.limits:
          limit_R[used] = min(limit_R[used], request.limits[index])
        if request.ending:
          suffix, choices = request.ending.suffix, request.ending.choices
          suffix_RJ[used, : len(suffix)] = suffix
          choice_RO[used, : len(choices)] = choices
          length_R[used] = len(suffix)
        self.owners[places[index]] = (i, index)
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
