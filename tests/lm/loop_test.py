"""The loop around the programs, which here are one line each."""

from __future__ import annotations

import dataclasses
import signal
import types

import jax
import numpy as np
import pytest

from calm_jax.lm import (
    batches,
    hosts,
    layouts,
    loop,
    plans,
    sharding,
    training,
)

ROWS = [batches.Row((1,) * (1 + 9 * i), ((2, 3), (4,))) for i in range(10)]


class Recorder:
  """A journal, checkpoints and progress that only take notes."""

  def __init__(self):
    self.lines, self.saved, self.advanced = [], {}, []

  def write(self, step, split, metrics):
    self.lines.append((step, split, metrics))

  def save(self, step, state, *, score):
    self.saved[step] = score

  def advance(self, count, note):
    self.advanced.append((count, note))


def _next(state, mean):
  return state._replace(step=state.step + 1), {'loss': mean, 'grad_norm': mean}


def _job(*, step=None, val=3, eval_every=4, epochs=3):
  shapes = []

  def train(state, params, batch):
    shapes.append(batch.tokens_BET.shape)
    mean = training.Mean(np.float32(batch.weight_BP.sum()), np.float32(2))
    return _next(state, mean)

  def evaluate(lora, params, batch):
    weight = np.float32(batch.weight_BP.sum())
    return {'loss': training.Mean(3 * weight, weight)}

  return shapes, loop.Job(
      mesh=sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1]),
      params={},
      plan=plans.Plan(len(ROWS), 2, 2, epochs, seed=0),
      train=loop.Data(ROWS),
      val=loop.Data(ROWS[:val]),
      step=step or train,
      evaluate=evaluate,
      schedule=lambda step: step / 10,
      eval_batch=2,
      eval_every=eval_every,
  )


def _run(job, start=0):
  notes = Recorder()
  state = training.TrainState(start, {}, ())
  state = loop.run(
      job, state, journal=notes, checkpoints=notes, advance=notes.advance
  )
  return state, notes


def test_steps_validations_and_checkpoints():
  shapes, job = _job()
  state, notes = _run(job)
  assert state.step == job.plan.steps == 9
  assert [s for s, split, _ in notes.lines if split == 'train'] == list(
      range(1, 10)
  )
  assert [s for s, split, _ in notes.lines if split == 'val'] == [4, 8, 9]
  assert notes.saved == {4: 3.0, 8: 3.0, 9: 3.0}
  assert sum(count for count, _ in notes.advanced) == 9
  assert notes.advanced[1][1].startswith('loss 2.000 ')
  # A short run is worth one compilation only.
  assert len(set(shapes)) == 1


def test_a_layout_has_each_row_once_in_the_shapes_of_the_run():
  """Of a long run, with several shapes, whose first epoch is 3 steps."""
  shapes, job = _job(epochs=100, eval_every=1000)
  job = dataclasses.replace(job, plan=dataclasses.replace(job.plan, seed=1))
  layout = layouts.train(job.plan, ROWS)
  seen = np.concatenate([part.index_BP.ravel() for part in layout])
  assert sorted(seen[seen >= 0]) == list(range(len(ROWS)))
  _run(dataclasses.replace(job, val=loop.Data([])))
  assert len({part.shape for part in layout}) > 1
  # Steps of two micro-batches of two rows; the last step has one of them.
  assert [part.shape.length for part in layout] == [
      shapes[0][3],
      shapes[0][3],
      shapes[1][3],
      shapes[1][3],
      shapes[2][3],
  ]


def test_validation_rows_have_the_layout_of_validation():
  _, job = _job(val=10)
  lengths = []

  def evaluate(lora, params, batch):
    lengths.append(batch.tokens_BET.shape[2])
    return {'loss': training.Mean(np.float32(1), np.float32(1))}

  loop.validate(dataclasses.replace(job, evaluate=evaluate), {})
  layout = layouts.val(ROWS, 2)
  assert lengths == [part.shape.length for part in layout]
  assert len(set(lengths)) == 2


def test_a_step_reports_its_own_rate_and_epoch():
  _, notes = _run(_job()[1])
  step, _, metrics = notes.lines[2]
  assert step == 3
  assert metrics['learning_rate'] == pytest.approx(0.2)
  assert metrics['epoch'] == 1.0
  assert metrics['tokens_per_second'] > 0


def test_input_is_prepared_while_the_device_computes(monkeypatch):
  """Before the loop waits for what the step has to say."""
  _, job = _job(val=0, epochs=1)
  order = []

  def noted(name, function):
    def call(*args, **kwargs):
      order.append(name)
      return function(*args, **kwargs)

    return call

  for module, name in ((sharding, 'place_batch'), (jax, 'device_get')):
    monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
  _run(dataclasses.replace(job, step=noted('step', job.step)))
  again = ['step', 'place_batch', 'device_get']
  assert order == ['place_batch', *again, *again, 'step', 'device_get']


def test_a_resumed_run_does_the_rest():
  shapes, job = _job()
  _, notes = _run(job, start=7)
  assert len(shapes) == 2
  assert [s for s, split, _ in notes.lines if split == 'train'] == [8, 9]
  assert notes.advanced[0] == (7, '')


def test_no_validation_rows():
  _, notes = _run(_job(val=0)[1])
  assert notes.saved == {4: None, 8: None, 9: None}
  assert {split for _, split, _ in notes.lines} == {'train'}


def test_validation_is_a_mean_over_rows():
  _, job = _job()
  weights = []

  def evaluate(lora, params, batch):
    weights.append(float(batch.weight_BP.sum()))
    total = np.float32(weights[-1] * len(weights))
    return {'loss': training.Mean(total, np.float32(weights[-1]))}

  job = types.SimpleNamespace(**vars(job) | {'evaluate': evaluate})
  # Two rows cost 1 each, and the third, whose batch is filled up, costs 2.
  assert loop.validate(job, {}) == {'loss': pytest.approx(4 / 3)}
  assert weights == [2, 1]


def test_long_runs_get_more_shapes_but_few():
  shapes, job = _job(epochs=100, eval_every=1000)
  _run(job)
  assert 1 < len(set(shapes)) <= 4


def test_a_loss_that_is_no_number_ends_the_run():
  def step(state, params, batch):
    value = np.float32(np.nan if state.step == 4 else 1)
    return _next(state, training.Mean(value, np.float32(1)))

  _, job = _job(step=step)
  notes = Recorder()
  with pytest.raises(FloatingPointError, match='step 5: loss is nan'):
    loop.run(
        job,
        training.TrainState(0, {}, ()),
        journal=notes,
        checkpoints=notes,
        advance=notes.advance,
    )
  assert notes.saved == {4: 3.0}


def test_a_signal_ends_the_run_after_its_step():
  def step(state, params, batch):
    signal.raise_signal(signal.SIGTERM)
    mean = training.Mean(np.float32(1), np.float32(1))
    return _next(state, mean)

  _, job = _job(step=step)
  notes, raised = Recorder(), []
  state = training.TrainState(0, {}, ())
  before = signal.signal(signal.SIGTERM, lambda *_: raised.append(notes.saved))
  try:
    with pytest.raises(SystemExit) as e:
      loop.run(
          job, state, journal=notes, checkpoints=notes, advance=notes.advance
      )
  finally:
    signal.signal(signal.SIGTERM, before)
  assert e.value.code == 128 + signal.SIGTERM
  # Its handler ran after the checkpoint was there.
  assert raised == [{1: None}]


class Meetings:
  """Two processes: the other one has caught a signal when it is step 3."""

  index, count, asked = 0, 2, 0

  def __init__(self, other):
    self._other = other

  def gather(self, name, text):
    assert name == 'stop'
    self.asked += 1
    return [text, self._other(self.asked)]


def _stopped(job, monkeypatch, meetings):
  """How a run of two processes ends that is told to stop; what it saved."""
  monkeypatch.setattr(hosts, '_meetings', meetings)
  notes = Recorder()
  before = signal.signal(signal.SIGTERM, lambda *_: None)
  try:
    with pytest.raises(SystemExit) as e:
      loop.run(
          job,
          training.TrainState(0, {}, ()),
          journal=notes,
          checkpoints=notes,
          advance=notes.advance,
      )
  finally:
    signal.signal(signal.SIGTERM, before)
  return e.value.code, notes.saved


def test_a_signal_to_another_process_is_one_to_this(monkeypatch):
  number = str(int(signal.SIGTERM))
  meetings = Meetings(lambda asked: number if asked == 3 else '')
  ended = _stopped(_job(eval_every=100)[1], monkeypatch, meetings)
  assert ended == (128 + signal.SIGTERM, {3: None})


def test_a_signal_that_the_others_did_not_hear_of_waits(monkeypatch):
  """It comes during the meeting of step 2: none may stop before step 3."""

  def other(asked):
    if asked == 2:
      signal.raise_signal(signal.SIGTERM)
    return ''

  job = _job(eval_every=100)[1]
  ended = _stopped(job, monkeypatch, Meetings(other))
  assert ended == (128 + signal.SIGTERM, {3: None})


def test_an_ignored_signal_stays_ignored():
  def step(state, params, batch):
    signal.raise_signal(signal.SIGINT)
    mean = training.Mean(np.float32(1), np.float32(1))
    return _next(state, mean)

  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    state, _ = _run(_job(step=step)[1])
  finally:
    signal.signal(signal.SIGINT, before)
  assert state.step == 9
