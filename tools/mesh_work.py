"""What every arrangement of devices computes for `mesh_check`, from seeds."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from calm_jax.lm import (
    batches,
    checkpoint,
    decoder,
    optimizer,
    sampler,
    sampling,
    sharding,
    slots,
    steps,
    training,
)
from calm_jax.lm import lora as lora_lib

_STEPS, _ROWS = 4, 8


@dataclasses.dataclass(frozen=True)
class Result:
  """What one arrangement computed, as numpy arrays and plain values."""

  reference: Any
  losses: list[float]
  gradient: list[Any]
  factors: list[Any]
  logprobs: list[float]
  samples: list[Any]


class Bench:
  """A small model, its pairs and its questions; everything from seeds."""

  def __init__(self):
    rng = np.random.default_rng(0)
    self.cfg = decoder.DecoderConfig(
        vocab_size=256,
        num_layers=2,
        model_dim=64,
        ffn_dim=96,
        num_heads=8,
        num_kv_heads=2,
        head_dim=8,
        norm_eps=1e-5,
        rope_theta=1e4,
        max_positions=256,
    )
    fill = lambda x: 0.2 * rng.standard_normal(x.shape).astype(np.float32)
    self.params = jax.tree.map(fill, decoder.abstract(self.cfg, np.float32))
    self.lora_cfg = lora_lib.LoraConfig(
        4, 8.0, ('q_proj', 'v_proj', 'o_proj', 'gate_proj', 'down_proj')
    )
    shape = jax.eval_shape(
        lambda: lora_lib.init(self.cfg, self.lora_cfg, jax.random.key(0))
    )
    self.lora = jax.tree.map(fill, shape)
    ids = lambda low, high: tuple(rng.integers(1, 256, rng.integers(low, high)))
    self.rows = [
        batches.Row(ids(4, 20), (ids(2, 20), ids(2, 20)))
        for _ in range(2 * _ROWS)
    ]
    self.prompts = [ids(4, 30) for _ in range(12)]
    self._programs = {}

  def run(self, sizes: tuple[int, int, int]) -> Result:
    mesh, params, reference, step, state = self._training(sizes)
    losses, gradient = [], []
    for number in range(_STEPS):
      state, loss = self._step(mesh, step, state, params, reference, number)
      losses.append(loss)
      if not number:
        # After one step Adam's first moment is a tenth of the gradient.
        gradient = [10 * np.asarray(x) for x in _moments(state)]
    done = self._sample(mesh, params)
    return Result(
        reference,
        losses,
        gradient,
        [np.asarray(x) for x in jax.tree.leaves(state.lora)],
        [c.logprob for group in done for c in group],
        [c.tokens for group in done for c in group],
    )

  def save(self, folder: pathlib.Path, sizes: tuple[int, int, int]):
    """All losses, and the factors at the checkpoint halfway."""
    mesh, params, reference, step, state = self._training(sizes)
    losses, saved = [], None
    for number in range(_STEPS):
      state, loss = self._step(mesh, step, state, params, reference, number)
      losses.append(loss)
      if number == _STEPS // 2 - 1:
        with checkpoint.Checkpoints(folder, keep=1, fingerprint='x') as kept:
          kept.save(number + 1, state, score=None)
        saved = sharding.fetch(state)
    return losses, saved

  def resume(self, folder: pathlib.Path, sizes, losses, saved):
    mesh, params, reference, step, fresh = self._training(sizes)
    with checkpoint.Checkpoints(folder, keep=1, fingerprint='x') as kept:
      state = kept.restore(fresh)
    same = lambda x, y: x.tobytes() == y.tobytes()
    equal = jax.tree.map(same, sharding.fetch(state), saved)
    worst = 0.0
    for number in range(_STEPS // 2, _STEPS):
      state, loss = self._step(mesh, step, state, params, reference, number)
      worst = max(worst, abs(loss - losses[number]) / max(map(abs, losses)))
    return {'equal_bits': all(jax.tree.leaves(equal)), 'losses': worst}

  def _training(self, sizes: tuple[int, int, int]):
    """A mesh, the parameters on it, the programs, and a fresh state."""
    if sizes not in self._programs:
      self._programs[sizes] = self._compiled(sizes)
    mesh, adam, step, reference = self._programs[sizes]
    lora = jax.tree.map(jnp.array, self.lora)
    state = training.TrainState(jnp.int32(0), lora, adam.init(lora))
    params = sharding.place_tree(mesh, self.params)
    known = self._reference(mesh, reference, params)
    return mesh, params, known, step, sharding.place_tree(mesh, state)

  def _compiled(self, sizes: tuple[int, int, int]):
    devices = jax.devices()[: math.prod(sizes)]
    mesh = sharding.make_mesh(*sizes, devices=devices)
    schedule = optimizer.make_schedule(
        'constant', peak=1e-3, warmup_ratio=0.0, steps=_STEPS
    )
    # Nothing is clipped: the gradient can be read off Adam's state.
    adam = optimizer.adamw(
        schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip_norm=1e9
    )
    objective = training.Objective('dpo', self.lora_cfg.scale, chunk=16)
    step = training.make_step(self.cfg, objective, adam, mesh)
    reference = training.make_reference(self.cfg, objective, mesh)
    return mesh, adam, step, reference

  def _batch(self, mesh, index, reference=None):
    built = batches.build(
        self.rows, np.array(index)[..., None], batches.Shape(64, 40), reference
    )
    return sharding.place_batch(mesh, built, axis=np.ndim(index) - 1)

  def _reference(self, mesh, program, params):
    halves = (range(_ROWS), range(_ROWS, 2 * _ROWS))
    return np.concatenate(
        [
            np.asarray(program(None, params, self._batch(mesh, list(half))))
            for half in halves
        ]
    )

  def _step(self, mesh, step, state, params, reference, number: int):
    order = [(i * 5 + number) % (2 * _ROWS) for i in range(2 * _ROWS)]
    batch = self._batch(mesh, [order[:_ROWS], order[_ROWS:]], reference)
    state, means = step(state, params, batch)
    return state, training.merge_means([means])['loss']

  def _sample(self, mesh, params):
    requests = [
        sampler.Request(
            prompt,
            tuple(sampling.sample_digest(str(i), 'en', j) for j in range(3)),
        )
        for i, prompt in enumerate(self.prompts)
    ]
    scaled = lora_lib.scaled(self.lora, self.lora_cfg.scale)
    done, _ = sampler.run(
        steps.decoder_steps(self.cfg, 'float32', mesh),
        (params, sharding.place_tree(mesh, scaled)),
        requests,
        slots.Settings(24, 16, (0,), top_p=0.9),
        seed=1,
    )
    return done


def _moments(state) -> list[Any]:
  """Adam's first moments, in the order of the factors."""
  leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return [x for path, x in leaves if '/mu/' in name(path)]
