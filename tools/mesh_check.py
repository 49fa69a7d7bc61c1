"""Whether one model gives the same numbers however its devices are arranged.

python -m tools.mesh_check --json=mesh.json

On 8 simulated CPU devices, in float32, with a small random model: losses,
gradients, factors, reference log-probabilities and samples of meshes
(data, fsdp, tensor) against those of one device, and training that goes on from
a checkpoint on another mesh. Prints a table; its numbers are the largest
differences, relative to the largest number of their kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import importlib.metadata
import json
import math
import os
import pathlib
import tempfile
from typing import Any

from calm_jax import console, records

DEVICES = 8
ONE = (1, 1, 1)
MESHES = ((8, 1, 1), (2, 4, 1), (2, 2, 2))
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


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m tools.mesh_check', description=(__doc__ or '').strip()
  )
  parser.add_argument('--json', type=pathlib.Path, help='file to write')
  args = parser.parse_args(argv)
  # Before jax is imported.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  flags = (
      f'--xla_force_host_platform_device_count={DEVICES}',
      # Most of the time is compilation.
      '--xla_backend_optimization_level=0',
      '--xla_llvm_disable_expensive_passes=true',
  )
  os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *flags])
  found = measure()
  for line in table(found):
    console.say(line)
  if args.json:
    records.write_text(args.json, json.dumps(found, indent=2) + '\n')


def measure() -> dict[str, Any]:
  """Differences by mesh, and of goings-on by where they go on."""
  bench = _Bench()
  one = bench.run(ONE)
  meshes = {str(m): _differences(bench.run(m), one) for m in MESHES}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name) / 'checkpoints'
    losses, saved = bench.save(folder, MESHES[0])
    resumed = {
        str(mesh): bench.resume(folder, mesh, losses, saved)
        for mesh in (ONE, MESHES[2])
    }
  return {
      'jax': importlib.metadata.version('jax'),
      'losses': one.losses,
      'drawn': len(one.logprobs),
      'meshes': meshes,
      'resumed': resumed,
  }


def table(found: Mapping[str, Any]) -> list[str]:
  """Markdown."""
  columns = list(next(iter(found['meshes'].values())))
  lines = [
      f'| mesh | {" | ".join(columns)} |',
      '|---' * (len(columns) + 1) + '|',
  ]
  for mesh, row in found['meshes'].items():
    lines.append(f'| {mesh} | {" | ".join(_cell(row[c]) for c in columns)} |')
  lines += ['', '| saved on (8, 1, 1), goes on on | factors | losses |']
  lines.append('|---|---|---|')
  for mesh, row in found['resumed'].items():
    same = 'equal bits' if row['equal_bits'] else 'DIFFER'
    lines.append(f'| {mesh} | {same} | {_cell(row["losses"])} |')
  return lines


class _Bench:
  """A small model, its pairs and its questions; everything from seeds."""

  def __init__(self):
    # Late: the number of devices is in the environment.
    import jax
    import numpy as np

    from calm_jax.lm import batches, decoder, lora

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
    self.lora_cfg = lora.LoraConfig(
        4, 8.0, ('q_proj', 'v_proj', 'o_proj', 'gate_proj', 'down_proj')
    )
    shape = jax.eval_shape(
        lambda: lora.init(self.cfg, self.lora_cfg, jax.random.key(0))
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
    import jax
    import numpy as np

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
    from calm_jax.lm import checkpoint, sharding

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
    import jax

    from calm_jax.lm import checkpoint, sharding

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
    import jax
    import jax.numpy as jnp

    from calm_jax.lm import sharding, training

    if sizes not in self._programs:
      self._programs[sizes] = self._compiled(sizes)
    mesh, adam, step, reference = self._programs[sizes]
    lora = jax.tree.map(jnp.array, self.lora)
    state = training.TrainState(jnp.int32(0), lora, adam.init(lora))
    params = sharding.place_tree(mesh, self.params)
    known = self._reference(mesh, reference, params)
    return mesh, params, known, step, sharding.place_tree(mesh, state)

  def _compiled(self, sizes: tuple[int, int, int]):
    import jax

    from calm_jax.lm import optimizer, sharding, training

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
    import numpy as np

    from calm_jax.lm import batches, sharding

    built = batches.build(
        self.rows, np.array(index), batches.Shape(64, 40), reference
    )
    return sharding.place_batch(mesh, built, axis=np.ndim(index) - 1)

  def _reference(self, mesh, program, params):
    import numpy as np

    halves = (range(_ROWS), range(_ROWS, 2 * _ROWS))
    return np.concatenate(
        [
            np.asarray(program(None, params, self._batch(mesh, list(half))))
            for half in halves
        ]
    )

  def _step(self, mesh, step, state, params, reference, number: int):
    from calm_jax.lm import training

    order = [(i * 5 + number) % (2 * _ROWS) for i in range(2 * _ROWS)]
    batch = self._batch(mesh, [order[:_ROWS], order[_ROWS:]], reference)
    state, means = step(state, params, batch)
    return state, training.merge_means([means])['loss']

  def _sample(self, mesh, params):
    from calm_jax.lm import lora, sampler, sampling, sharding, slots, steps

    requests = [
        sampler.Request(
            prompt,
            tuple(sampling.sample_digest(str(i), 'en', j) for j in range(3)),
        )
        for i, prompt in enumerate(self.prompts)
    ]
    scaled = lora.scaled(self.lora, self.lora_cfg.scale)
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
  import jax

  leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return [x for path, x in leaves if '/mu/' in name(path)]


def _differences(result: Result, one: Result) -> dict[str, Any]:
  pairs = zip(result.samples, one.samples, strict=True)
  return {
      'losses': _relative([result.losses], [one.losses]),
      'gradients': _relative(result.gradient, one.gradient),
      'factors': _relative(result.factors, one.factors),
      'reference': _relative([result.reference], [one.reference]),
      'sample log-probabilities': _relative([result.logprobs], [one.logprobs]),
      'other samples': sum(a != b for a, b in pairs),
  }


def _relative(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
  """The largest difference, as a part of the largest number."""
  import numpy as np

  pairs = [
      (np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)
  ]
  worst = max(float(np.abs(a - b).max()) for a, b in pairs)
  return worst / max(float(np.abs(b).max()) for _, b in pairs)


def _cell(value: float) -> str:
  return str(value) if isinstance(value, int) else f'{value:.1e}'


if __name__ == '__main__':
  main()
