"""Our side of a benchmark: the sampler and the training loop, as they ship."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from calm_jax import training_settings
from calm_jax.lm import (
    batches,
    batching,
    checkpoint,
    journal,
    loop,
    memory,
    roofline,
    sampler,
    sampling,
    shapes,
    sharding,
    slots,
    steps,
    training,
)
from calm_jax.lm import lora as lora_lib
from tools import benchmark_model
from tools import benchmark_work as work

_DRAWS = work.Draws()
_SUFFIX = 4  # tokens of '\nAnswer:' and what is around it
_SIDES = {'dpo': 2, 'sft': 1}  # answers to a prompt


class Sampling:
  """All answers to some questions, drawn by continuous batching."""

  def __init__(
      self,
      model: benchmark_model.Model,
      questions: Sequence[work.Question],
      *,
      max_new_tokens: int,
      seed: int,
      draws: work.Draws = _DRAWS,
      two_stage: bool = False,
  ):
    self._model, self._questions, self._seed = model, questions, seed
    # As long as those of a question in English.
    corpus = model.corpus
    ending = sampler.Ending(tuple(corpus[:_SUFFIX]), tuple(range(2, 7)))
    self._ending = ending if two_stage else None
    self._settings = slots.Settings(
        slots=1,
        max_new_tokens=max_new_tokens,
        stop_ids=(),
        **draws._asdict(),
    )
    self._shapes: shapes.Shapes | None = None

  @property
  def chosen(self) -> dict[str, int]:
    """What was asked for, or was found to fit."""
    return {'slots': self._settings.slots}

  def settle(self, count: int | str) -> None:
    """From now on with so many slots, or 'auto', as in a run.

    Raises:
      ValueError: they do not fit on a device.
    """
    model = self._model
    cut = batching.settle(
        None,
        memory.Model(model.cfg, model.dtype, model.mesh),
        [self._requests(self._questions, short=False)],
        slots=count,
        max_new_tokens=self._settings.max_new_tokens,
    )
    self._shapes = cut.shapes
    self._settings = dataclasses.replace(self._settings, slots=cut.slots)

  def start(self, size: int) -> None:
    """Settles and warms up."""
    self.settle(size)
    self.warm_up()

  def warm_up(self) -> None:
    """Compiles: every prompt is read, few tokens are drawn.

    Some answers take a second look, so that the run ends in fewer slots. Where
    caches are cut, all is drawn: when they are, and so the programs, depends on
    the answers.
    """
    one = self._shapes is not None and len(self._shapes.lengths) == 1
    self._run(self._questions, short=one)

  def run(self, every: int = 1) -> work.Run:
    """A pass over all questions, or every so manieth."""
    return self._run(self._questions[::every], short=False)

  def floor(self, device: roofline.Device) -> float:
    """Seconds that the devices need at least, if all had the same to do."""
    questions = [
        roofline.Question(len(q.prompt), q.answers) for q in self._questions
    ]
    seconds = roofline.sampling(
        self._model.cfg, device, questions, slots=self._settings.slots
    )
    return seconds / self._model.mesh.size

  def _requests(
      self, questions: Sequence[work.Question], *, short: bool
  ) -> list[sampler.Request]:
    few = self._settings.chunk + 1
    return [
        sampler.Request(
            q.prompt,
            tuple(
                sampling.sample_digest(str(i), '', j)
                for j in range(len(q.answers))
            ),
            ending=self._ending,
            limits=(few, *[1] * (len(q.answers) - 1)) if short else q.answers,
        )
        for i, q in enumerate(questions)
    ]

  def _run(
      self, questions: Sequence[work.Question], *, short: bool
  ) -> work.Run:
    requests, model = self._requests(questions, short=short), self._model
    start, cpu = time.monotonic(), time.process_time()
    _, stats = sampler.run(
        steps.decoder_steps(model.cfg, model.dtype, model.mesh),
        (model.params, None),
        requests,
        self._settings,
        seed=self._seed,
        shapes=self._shapes,
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
      cfg: ConfigDict,
      *,
      row_shapes: int,
  ):
    self._model, self._pairs, self._cfg = model, pairs, cfg
    self._mesh, parts = model.mesh, sharding.rows(model.mesh)
    rows = [
        batches.Row(
            p.prompt, (p.chosen, p.rejected)[: _SIDES[cfg.train.method]]
        )
        for p in pairs
    ]
    self._lora = lora_lib.LoraConfig(
        cfg.lora.rank, cfg.lora.alpha, tuple(cfg.lora.targets)
    )
    self._arranged = training_settings.arrange(
        cfg,
        memory.Model(model.cfg, model.dtype, model.mesh),
        {'train': rows},
        self._lora,
        shapes=row_shapes,
    )
    rows, plan = self._arranged.rows['train'], self._arranged.plan
    objective = training_settings.objective(cfg, twice=self._arranged.remat)
    schedule, self._optimizer = training_settings.optimizer(
        cfg, steps=plan.steps
    )
    zeros = np.zeros((len(rows), 2), np.float32)
    step = training.make_step(model.cfg, objective, self._optimizer, self._mesh)
    self._tokens = 0

    def counted(state, params, batch: batches.Batch):
      real = int(np.asarray(batch.mask_BEC).any((1, 2, 3)).sum())
      self._tokens += real * batch.tokens_BET[0].size
      return step(state, params, batch)

    self._job = loop.Job(
        mesh=self._mesh,
        params=model.params,
        plan=plan,
        train=loop.Data(rows, zeros if objective.has_reference else None),
        val=loop.Data([]),
        step=counted,
        evaluate=training.make_evaluation(model.cfg, objective, self._mesh),
        schedule=schedule,
        eval_batch=cfg.train.eval_batch_size * parts,
        eval_every=plan.steps,
        shapes=row_shapes,
    )

  @property
  def chosen(self) -> dict[str, int]:
    """What was asked for, or what memory and lengths ask for."""
    return {
        'remat': int(self._arranged.remat),
        'sequences_per_row': self._job.train.rows[0].sequences,
        'packed_tokens': self._job.plan.capacity,
    }

  def warm_up(self) -> None:
    """Compiles: an epoch meets every shape."""
    self.run()

  def run(self) -> work.Run:
    """From the first step to the last, the checkpoint after it not counted."""
    key = jax.random.key(self._cfg.seed)
    lora = lora_lib.init(self._model.cfg, self._lora, key)
    state = training.TrainState(jnp.int32(0), lora, self._optimizer.init(lora))
    state = sharding.place_tree(self._mesh, state)
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
    tokens = batches.tokens(self._job.train.rows)
    seconds, cpu_seconds = (
        b - a for a, b in zip(marks[0], marks[-1], strict=True)
    )
    details = {
        'padding': 1 - tokens / self._tokens,
        'tokens': tokens,
        'steps': self._job.plan.steps,
        'trained_parameters': sum(x.size for x in jax.tree.leaves(lora)),
    }
    return work.Run(seconds, cpu_seconds, len(self._pairs), details)

  def floor(self, device: roofline.Device) -> float:
    """Seconds that the devices need at least, each layer computed once."""
    two = _SIDES[self._cfg.train.method] == 2
    pairs = [
        roofline.Pair(len(p.prompt), len(p.chosen), two * len(p.rejected))
        for p in self._pairs
    ]
    return roofline.dpo(self._model.cfg, device, pairs) / self._mesh.size
