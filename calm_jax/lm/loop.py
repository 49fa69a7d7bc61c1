"""The training loop: steps, validation, checkpoints, and a clean stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import math
import signal
import threading
import time
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
import numpy as np

from calm_jax import console
from calm_jax.lm import (
    batches,
    checkpoint,
    decoder,
    hosts,
    layouts,
    optimizer,
    plans,
    sharding,
    training,
)
from calm_jax.lm import journal as journal_lib


@dataclasses.dataclass(frozen=True)
class Data:
  """Rows, and the reference's log-probabilities where the loss needs them."""

  rows: Sequence[batches.Row]
  ref_N2: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Job:
  """What a run is made of, but for its state.

  `step` and `evaluate` are the programs of `training`; `eval_batch` rows are
  validated at a time, after every `eval_every` steps and the last. What is
  `watched` there decides which step is best.
  """

  mesh: Mesh
  params: decoder.Params
  plan: plans.Plan
  train: Data
  val: Data
  step: Callable[..., Any]
  evaluate: Callable[..., Any]
  schedule: optimizer.Schedule
  eval_batch: int
  eval_every: int
  shapes: int | None = None  # to compile; None: fewer for a short run
  # Measures an adapter in another way, at the same times as validation.
  monitor: Callable[[decoder.Params], dict[str, float]] | None = None
  watched: str = 'loss'  # of validation, or a metric of `monitor`: a gain
  patience: int = 0  # validations without a better one; 0: all steps are done


def run(
    job: Job,
    state: training.TrainState,
    *,
    journal: journal_lib.Journal,
    checkpoints: checkpoint.Checkpoints,
    advance: Callable[[int, str], None],
) -> training.TrainState:
  """Trains from `state` to the plan's last step, with a checkpoint there.

  Or to the step at which patience ends, which a restart finds as well.

  On SIGTERM or Ctrl-C the current step ends, a checkpoint is saved, and the
  signal takes its course. Of several processes all do so, whoever got it.

  Raises:
    FloatingPointError: the loss or its gradient is no longer a number.
  """
  start = int(state.step)
  advance(start, '')
  choices = layouts.train_shapes(job.plan, job.train.rows, job.shapes)
  lengths = ', '.join(str(shape.length) for shape in choices)
  console.say(f'  {job.plan.steps} steps, rows padded to {lengths} tokens')
  with _deferred_signals() as caught:
    inputs = _inputs(job, start, choices)
    done, ready = start, next(inputs, None)
    while ready is not None and not _enough(job, checkpoints):
      done += 1
      state, metrics, ready = _step(job, state, done, ready, inputs)
      journal.write(done, 'train', metrics)
      advance(1, _note(metrics))
      due = done % job.eval_every == 0 or done == job.plan.steps
      stopping = _stopping(caught)
      if due or stopping:
        score = _score(job, state.lora, done, journal) if due else None
        checkpoints.save(done, state, score=score)
      if stopping:
        break
  return state


def validate(job: Job, lora: decoder.Params) -> dict[str, float]:
  """The metrics of all validation rows under an adapter."""
  rows, parts = job.val.rows, []
  for index_BP, shape in layouts.val(rows, job.eval_batch):
    batch = batches.build(rows, index_BP, shape, job.val.ref_N2)
    placed = sharding.place_batch(job.mesh, batch)
    parts.append(jax.device_get(job.evaluate(lora, job.params, placed)))
  return training.merge_means(parts)


def _score(
    job: Job, lora: decoder.Params, done: int, journal: journal_lib.Journal
) -> float | None:
  """Validates and notes it; what is watched, the lower the better."""
  val, found = {}, {}
  if job.val.rows:
    val = validate(job, lora)
    journal.write(done, 'val', val)
  if job.monitor is not None:
    found = job.monitor(lora)
    journal.write(done, 'monitor', found)
  if job.watched == 'loss':
    return val.get('loss')
  return -found[job.watched]


def _enough(job: Job, checkpoints: checkpoint.Checkpoints) -> bool:
  if not job.patience or checkpoints.waited < job.patience:
    return False
  console.say(
      f'  stops: {job.watched} has not improved for {job.patience} validations'
      f' since step {checkpoints.best}'
  )
  return True


class _Input(NamedTuple):
  """What a step trains on, on the devices; and how many tokens it has."""

  placed: Any
  tokens: int


def _inputs(
    job: Job, start: int, choices: tuple[batches.Shape, ...]
) -> Iterator[_Input]:
  """Those of the steps that are left after `start`, in turn."""
  rows, ref_N2 = job.train.rows, job.train.ref_N2
  for number in range(start, job.plan.steps):
    index_ABP = job.plan.index_SABP[number]
    shape = batches.pick(choices, batches.need(rows, index_ABP))
    batch = batches.build(rows, index_ABP, shape, ref_N2)
    placed = sharding.place_batch(job.mesh, batch, axis=1)
    yield _Input(placed, batches.count_tokens(batch))


def _step(
    job: Job,
    state: training.TrainState,
    done: int,
    ready: _Input,
    inputs: Iterator[_Input],
) -> tuple[training.TrainState, dict[str, float], _Input | None]:
  """Step number `done`, counted from 1; its metrics, and the next input."""
  start = time.monotonic()
  state, means = job.step(state, job.params, ready.placed)
  # While the devices compute: nobody has asked for a number of theirs yet.
  following = next(inputs, None)
  metrics = training.merge_means([jax.device_get(means)])
  for name in ('loss', 'grad_norm'):
    if not math.isfinite(metrics[name]):
      raise FloatingPointError(
          f'step {done}: {name} is {metrics[name]}, so training stops; the'
          ' checkpoints are of before. Try a lower learning rate'
      )
  seconds = time.monotonic() - start
  metrics |= {
      'learning_rate': float(job.schedule(done - 1)),
      'epoch': done / job.plan.steps_per_epoch,
      'tokens_per_second': ready.tokens / seconds,
  }
  return state, metrics, following


def _note(metrics: dict[str, float]) -> str:
  parts = [f'loss {metrics["loss"]:.3f}']
  if 'rewards/accuracies' in metrics:
    parts.append(f'acc {metrics["rewards/accuracies"]:.2f}')
  speed = metrics['tokens_per_second']
  parts.append(
      f'{speed / 1000:.1f}k tok/s' if speed > 999 else f'{speed:.0f} tok/s'
  )
  return ' '.join(parts)


def _stopping(caught: list[int]) -> bool:
  """Whether to stop now; a signal to any process becomes one to all."""
  if hosts.process_count() == 1:
    return bool(caught)
  told = hosts.gather('stop', str(caught[0]) if caught else '')
  caught.extend(int(number) for number in told if number)
  # A signal that came after the question waits for the next step.
  return any(told)


@contextlib.contextmanager
def _deferred_signals() -> Iterator[list[int]]:
  """Collects SIGTERM and SIGINT, and raises the first again at the end."""
  caught: list[int] = []
  # Only there Python lets handlers be set, and only there signals arrive.
  if threading.current_thread() is not threading.main_thread():
    yield caught
    return

  def note(old, number, frame):
    del frame
    caught.append(number)
    # Who asks twice does not want to wait for a step to end.
    signal.signal(number, old)

  before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
  # In the background a shell lets its commands ignore Ctrl-C: so do we.
  before = {n: old for n, old in before.items() if old != signal.SIG_IGN}
  for n, old in before.items():
    signal.signal(n, functools.partial(note, old))
  try:
    yield caught
  finally:
    for n, old in before.items():
      signal.signal(n, old)
  if caught:
    signal.raise_signal(caught[0])
    raise SystemExit(128 + caught[0])
