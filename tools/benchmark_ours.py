"""Our side of a benchmark: the sampler and the training loop, as they ship."""

from __future__ import annotations

from collections.abc import Sequence
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from calm_jax.lm import (
    batches,
    checkpoint,
    journal,
    loop,
    roofline,
    sampler,
    sampling,
    sharding,
    slots,
    steps,
    training,
)
from calm_jax.lm import lora as lora_lib
from calm_jax.lm import optimizer as optimizers
from tools import benchmark_model
from tools import benchmark_work as work

LORA = lora_lib.LoraConfig(8, 16.0, ('q_proj', 'v_proj'))
LEARNING_RATE = 5e-6
_SHAPES = 6


class Sampling:
  """All answers to some questions, drawn by continuous batching."""

  def __init__(
      self,
      model: benchmark_model.Model,
      questions: Sequence[work.Question],
      *,
      slot_count: int,
      max_new_tokens: int,
      seed: int,
  ):
    self._model, self._questions, self._seed = model, questions, seed
    self._settings = slots.Settings(
        slots=slot_count,
        max_new_tokens=max_new_tokens,
        stop_ids=(),
        temperature=1.0,
        top_p=0.9,
    )

  def warm_up(self) -> None:
    """Compiles: every prompt is read, few tokens are drawn.

    Some answers take a second look, so that the run ends in fewer slots.
    """
    self._run(short=True)

  def run(self) -> work.Run:
    return self._run(short=False)

  def floor(self, device: roofline.Device) -> float:
    """Seconds that the device needs at least."""
    questions = [
        roofline.Question(len(q.prompt), q.answers) for q in self._questions
    ]
    return roofline.sampling(
        self._model.cfg, device, questions, slots=self._settings.slots
    )

  def _run(self, *, short: bool) -> work.Run:
    few = self._settings.chunk + 1
    requests = [
        sampler.Request(
            q.prompt,
            tuple(
                sampling.sample_digest(str(i), '', j)
                for j in range(len(q.answers))
            ),
            limits=(few, *[1] * (len(q.answers) - 1)) if short else q.answers,
        )
        for i, q in enumerate(self._questions)
    ]
    model = self._model
    start, cpu = time.monotonic(), time.process_time()
    _, stats = sampler.run(
        steps.decoder_steps(model.cfg, model.dtype),
        (model.params, None),
        requests,
        self._settings,
        seed=self._seed,
    )
    return work.Run(
        time.monotonic() - start,
        time.process_time() - cpu,
        stats.drawn_tokens,
        {
            'slot_utilisation': stats.drawn_tokens / stats.slot_steps,
            'padding': 1 - stats.prompt_tokens / stats.padded_prompt_tokens,
            'prompt_tokens': stats.prompt_tokens,
            'slot_steps': stats.slot_steps,
        },
    )


class Training:
  """One epoch of DPO; the reference is given (as zeros: it costs the same)."""

  def __init__(
      self,
      model: benchmark_model.Model,
      pairs: Sequence[work.Pair],
      *,
      batch: int,
      seed: int,
  ):
    self._model, self._pairs, self._seed = model, pairs, seed
    self._mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
    rows = [batches.Row(p.prompt, (p.chosen, p.rejected)) for p in pairs]
    plan = batches.Plan(len(rows), batch, accumulation=1, epochs=1, seed=seed)
    schedule = optimizers.make_schedule(
        'cosine', peak=LEARNING_RATE, warmup_ratio=0.1, steps=plan.steps
    )
    self._optimizer = optimizers.adamw(
        schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip_norm=1.0
    )
    objective = training.Objective('dpo', LORA.scale)
    step = training.make_step(model.cfg, objective, self._optimizer, self._mesh)
    self._tokens = 0

    def counted(state, params, batch: batches.Batch):
      self._tokens += batch.tokens_BT.size
      return step(state, params, batch)

    self._job = loop.Job(
        mesh=self._mesh,
        params=model.params,
        plan=plan,
        train=loop.Data(rows, np.zeros((len(rows), 2), np.float32)),
        val=loop.Data([]),
        step=counted,
        evaluate=training.make_evaluation(model.cfg, objective, self._mesh),
        schedule=schedule,
        eval_batch=batch,
        eval_every=plan.steps,
        # As in a long run: the few steps here stand for many.
        shapes=_SHAPES,
    )

  def warm_up(self) -> None:
    """Compiles: an epoch meets every shape."""
    self.run()

  def run(self) -> work.Run:
    """From the first step to the last, the checkpoint after it not counted."""
    lora = lora_lib.init(self._model.cfg, LORA, jax.random.key(self._seed))
    state = training.TrainState(jnp.int32(0), lora, self._optimizer.init(lora))
    state = sharding.replicate(self._mesh, state)
    marks = []

    def mark(count: int, note: str) -> None:
      del count, note
      marks.append((time.monotonic(), time.process_time()))

    self._tokens = 0
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      with (
          journal.Journal(folder, step=0) as log,
          checkpoint.Checkpoints(
              folder / 'checkpoints', keep=1, fingerprint='benchmark'
          ) as kept,
      ):
        loop.run(self._job, state, journal=log, checkpoints=kept, advance=mark)
    tokens = sum(len(p.prompt + p.chosen + p.rejected) for p in self._pairs)
    seconds, cpu_seconds = (
        b - a for a, b in zip(marks[0], marks[-1], strict=True)
    )
    details = {
        'padding': 1 - tokens / self._tokens,
        'tokens': tokens,
        'steps': self._job.plan.steps,
    }
    return work.Run(seconds, cpu_seconds, len(self._pairs), details)

  def floor(self, device: roofline.Device) -> float:
    """Seconds that the device needs at least."""
    pairs = [
        roofline.Pair(len(p.prompt), len(p.chosen), len(p.rejected))
        for p in self._pairs
    ]
    return roofline.dpo(self._model.cfg, device, pairs)
