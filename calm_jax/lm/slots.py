"""The device side of the sampler: one row per slot, jitted steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from calm_jax.lm import sampling

# A JAX array, or the NumPy array that becomes one.
Array = Any

# Phases of a slot. IDLE also says that the answer in it is complete.
IDLE, DRAWING, ENDING = range(3)


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to draw and in which shapes; all static under jit."""

  slots: int
  max_new_tokens: int
  stop_ids: tuple[int, ...]
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  chunk: int = 16  # decode steps between two looks of the host
  # Tokens whose log-probabilities are kept at every drawn step, a few at most.
  watch_ids: tuple[int, ...] = ()


class Steps(NamedTuple):
  """A model as the sampler sees it: pure functions.

  `lay` spreads a state over devices; then `parts` is what the rows of prompts
  are split into, and should divide the number of slots.
  """

  empty: Callable[[int, int], Any]  # rows, length -> cache, rows first
  prefill: Callable[..., Any]  # weights, tokens_PT -> entries
  insert: Callable[..., Any]  # cache, entries, row_R, source_R -> cache
  decode: Callable[..., Any]  # weights, cache, token_B, position_B
  # -> logits_BV, cache
  cut: Callable[[Any, int], Any]  # cache, length -> its first positions
  lay: Callable[[State], State] = lambda state: state
  parts: int = 1


class Job(NamedTuple):
  """What the answer in each slot is to be; fixed while it is drawn."""

  digest_B: Array
  limit_B: Array  # of tokens drawn
  suffix_BJ: Array
  suffix_length_B: Array
  choice_BO: Array  # -1 is no choice


class State(NamedTuple):
  """One row per slot; `token` is fed next, at `position` of the row."""

  cache: Any
  job: Job
  phase_B: Array
  token_B: Array
  position_B: Array
  drawn_B: Array
  fed_B: Array  # tokens of the suffix that were queued
  stopped_B: Array
  choice_B: Array
  logprob_B: Array
  out_BT: Array
  watched_BTW: Array | None  # None where nothing is watched


def empty_state(steps, settings, length, suffix, choices) -> State:
  b = settings.slots
  zeros = lambda *shape: jnp.zeros((b, *shape), jnp.int32)
  job = Job(
      digest_B=jnp.zeros(b, jnp.uint32),
      limit_B=zeros(),
      suffix_BJ=zeros(suffix),
      suffix_length_B=zeros(),
      choice_BO=zeros(choices) - 1,
  )
  state = State(
      cache=steps.empty(b, length),
      job=job,
      phase_B=zeros() + IDLE,
      token_B=zeros(),
      position_B=zeros(),
      drawn_B=zeros(),
      fed_B=zeros(),
      stopped_B=jnp.zeros(b, bool),
      choice_B=zeros() - 1,
      logprob_B=jnp.zeros(b, jnp.float32),
      out_BT=zeros(settings.max_new_tokens),
      watched_BTW=_unseen(settings) if settings.watch_ids else None,
  )
  return steps.lay(state)


def _unseen(settings: Settings) -> Array:
  shape = settings.slots, settings.max_new_tokens, len(settings.watch_ids)
  return jnp.zeros(shape, jnp.float32)


def keep(
    state: State, owners: Mapping[int, Any], count: int
) -> tuple[State, dict[int, Any]]:
  """As many slots, all that have owners among them; the others are freed."""
  slots = range(state.phase_B.shape[0])
  kept = sorted(slots, key=lambda b: b not in owners)[:count]
  rows = np.array(kept)

  rest = take(state._replace(cache=None), rows)
  cache = replaced(state.cache, lambda x: take(x, rows))
  owned = {i: owners[b] for i, b in enumerate(kept) if b in owners}
  return rest._replace(cache=cache), owned


def replaced(cache, part: Callable[[jax.Array], jax.Array]):
  """A part of every array, which is freed at once.

  A second cache may not fit beside the first.
  """

  def replace(x):
    taken = part(x)
    x.delete()
    return taken

  return jax.tree.map(replace, cache)


@jax.jit
def take(tree, rows):
  """Some rows of every array."""
  return jax.tree.map(lambda x: x[rows], tree)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def admit(steps: Steps, weights, state: State, tokens_PT, rows, job: Job):
  """Prefills prompts and gives each of their samples a slot.

  The last prompt token goes through the model once more, as the first decode
  step of each sample; so there is one place that draws.
  """
  row_R, source_R, token_R, position_R = rows
  entries = steps.prefill(weights, tokens_PT)
  put = lambda old, new: old.at[row_R].set(new, mode='drop')
  state = state._replace(
      cache=steps.insert(state.cache, entries, row_R, source_R),
      job=jax.tree.map(put, state.job, job),
      phase_B=put(state.phase_B, DRAWING),
      token_B=put(state.token_B, token_R),
      position_B=put(state.position_B, position_R),
      drawn_B=put(state.drawn_B, 0),
      fed_B=put(state.fed_B, 0),
      stopped_B=put(state.stopped_B, False),
      choice_B=put(state.choice_B, -1),
      logprob_B=put(state.logprob_B, 0.0),
  )
  return steps.lay(state)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def decode_chunk(steps: Steps, settings: Settings, weights, state, seed):
  """Up to `settings.chunk` steps, fewer when every slot is idle."""

  def unfinished(carry):
    step, state = carry
    return (step < settings.chunk) & jnp.any(state.phase_B != IDLE)

  def body(carry):
    step, state = carry
    logits_BV, cache = steps.decode(
        weights, state.cache, state.token_B, state.position_B
    )
    state = _advance(settings, state._replace(cache=cache), logits_BV, seed)
    return step + 1, steps.lay(state)

  step, state = jax.lax.while_loop(unfinished, body, (0, state))
  # Once more: the compiler may lay out a loop's results as it likes, and other
  # layouts of the next chunk's arguments would be another program.
  return steps.lay(state), step


def _advance(settings: Settings, state: State, logits_BV, seed) -> State:
  """Draws from the logits and decides what each row feeds next."""
  job, rows_B = state.job, jnp.arange(settings.slots)
  uniform_B = sampling.uniforms(seed, job.digest_B, state.drawn_B)
  token_B = sampling.pick(
      logits_BV,
      uniform_B,
      temperature=settings.temperature,
      top_k=settings.top_k,
      top_p=settings.top_p,
  ).astype(jnp.int32)
  choice_B = sampling.pick_choice(
      logits_BV, job.choice_BO, uniform_B, temperature=settings.temperature
  ).astype(jnp.int32)

  drawing_B = state.phase_B == DRAWING
  ending_B = state.phase_B == ENDING
  drawn_B = state.drawn_B + drawing_B
  stopped_B = drawing_B & jnp.isin(token_B, jnp.array(settings.stop_ids))
  ended_B = stopped_B | (drawing_B & (drawn_B >= job.limit_B))
  choosing_B = ending_B & (state.fed_B == job.suffix_length_B)
  has_ending_B = job.suffix_length_B > 0

  # A stop token is not fed: the suffix takes its place. The last token of an
  # answer that was cut is fed first.
  feeds_suffix_B = (stopped_B & has_ending_B) | (ending_B & ~choosing_B)
  suffix_B = job.suffix_BJ[
      rows_B, jnp.minimum(state.fed_B, job.suffix_BJ.shape[1] - 1)
  ]
  picked_B = jnp.where(
      choosing_B, jnp.maximum(job.choice_BO[rows_B, choice_B], 0), token_B
  )
  gained_B = sampling.logprob(logits_BV, picked_B)
  column_B = jnp.where(drawing_B, state.drawn_B, settings.max_new_tokens)
  phase_B = jnp.where(ended_B & has_ending_B, ENDING, state.phase_B)
  phase_B = jnp.where((ended_B & ~has_ending_B) | choosing_B, IDLE, phase_B)
  watched_BTW = state.watched_BTW
  if watched_BTW is not None:
    seen_BW = sampling.logprobs(logits_BV, jnp.array(settings.watch_ids))
    watched_BTW = watched_BTW.at[rows_B, column_B].set(seen_BW, mode='drop')
  return state._replace(
      phase_B=phase_B,
      token_B=jnp.where(feeds_suffix_B, suffix_B, token_B),
      position_B=state.position_B + (phase_B != IDLE),
      drawn_B=drawn_B,
      fed_B=state.fed_B + feeds_suffix_B,
      stopped_B=state.stopped_B | stopped_B,
      choice_B=jnp.where(choosing_B, choice_B, state.choice_B),
      logprob_B=state.logprob_B
      + jnp.where(drawing_B | choosing_B, gained_B, 0.0),
      out_BT=state.out_BT.at[rows_B, column_B].set(token_B, mode='drop'),
      watched_BTW=watched_BTW,
  )
