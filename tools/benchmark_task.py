"""Our side of a benchmark from its settings: model, work and loop."""

from __future__ import annotations

import math
import pathlib
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from calm_jax.lm import hub, sharding
from tools import benchmark_model, benchmark_ours
from tools import benchmark_work as work


class Task(NamedTuple):
  """All that another process needs to do the same."""

  settings: ConfigDict
  job: str
  shape: str | None  # of random weights; None: the settings name a model
  lengths: str
  requests: int
  pairs: int
  row_shapes: int = 6  # of rows to train on: a long run's


def load(task: Task) -> benchmark_model.Model:
  """The model of a task, on its mesh.

  Raises:
    ValueError: there is no such model, or the mesh does not fit the devices.
  """
  cfg = task.settings
  found = mesh(cfg)
  if task.shape is not None:
    return benchmark_model.random_model(task.shape, cfg.dtype, cfg.seed, found)
  return benchmark_model.load_model(folder(cfg), cfg.dtype, found)


def items(task: Task, model: benchmark_model.Model) -> list[Any]:
  """The questions, or the pairs, that both sides work on."""
  cfg, lengths = task.settings, work.LENGTHS[task.lengths]
  if task.job == 'training':
    return work.pairs(model.corpus, lengths, count=task.pairs, seed=cfg.seed)
  return work.questions(
      model.corpus,
      lengths,
      requests=task.requests,
      samples=cfg.sample.m,
      max_new_tokens=cfg.sample.max_new_tokens,
      seed=cfg.seed,
  )


def side(
    task: Task, model: benchmark_model.Model, found: list[Any]
) -> benchmark_ours.Sampling | benchmark_ours.Training:
  """Our side, before it warms up."""
  if task.job == 'training':
    return benchmark_ours.Training(
        model, found, task.settings, row_shapes=task.row_shapes
    )
  ours = _sampling(task, model, found)
  ours.settle(task.settings.sample.slots)
  return ours


def sampling(task: Task) -> benchmark_ours.Sampling:
  """Our side of a sampling task, by itself in a process."""
  model = load(task)
  return _sampling(task, model, items(task, model))


def draws(cfg: ConfigDict) -> work.Draws:
  """How both sides draw."""
  return work.Draws(cfg.sample.temperature, cfg.sample.top_k, cfg.sample.top_p)


def folder(cfg: ConfigDict) -> pathlib.Path:
  """Where the model is, downloaded if it has to be."""
  return hub.resolve(cfg.model, cfg.revision)


def mesh(cfg: ConfigDict) -> Mesh:
  """The devices of a run; those that it does not ask for are left alone."""
  sizes = (cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor)
  count = None if -1 in sizes else math.prod(sizes)
  return sharding.make_mesh(*sizes, devices=jax.devices()[:count])


def _sampling(task: Task, model: benchmark_model.Model, found: list[Any]):
  cfg = task.settings
  return benchmark_ours.Sampling(
      model,
      found,
      max_new_tokens=cfg.sample.max_new_tokens,
      seed=cfg.seed,
      draws=draws(cfg),
      two_stage=cfg.sample.answer == 'two_stage',
  )
