"""One optimiser step over micro-batches: DPO or SFT of LoRA factors."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from calm_jax.lm import batches, decoder, labels, losses, sharding
from calm_jax.lm import lora as lora_lib

Batch = batches.Batch


# Which order XLA's CPU compiler chooses.
_LEAN = {
    'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED',
    'xla_disable_hlo_passes': 'cse_barrier_expander',
}


class TrainState(NamedTuple):
  """What changes from step to step."""

  step: jax.Array
  lora: decoder.Params
  opt_state: optax.OptState


class Mean(NamedTuple):
  """A mean before its division: add the fields to merge two of them."""

  total: jax.Array
  count: jax.Array


class Completions(NamedTuple):
  """Sums over the tokens of the chosen (0) and the rejected (1) completion."""

  logp_B2: jax.Array
  logit_B2: jax.Array  # of each token's mean over the vocabulary
  tokens_B2: jax.Array


@dataclasses.dataclass(frozen=True)
class Objective:
  """What is minimised, and at what price in memory."""

  method: str  # dpo or sft
  scale: float  # of the adapter: alpha / rank
  beta: float = 0.1
  label_smoothing: float = 0.0
  loss: str = 'sigmoid'  # of pairs; or ipo, hinge, simpo, robust
  sft_weight: float = 0.0  # of the chosen answer's loss per token
  simpo_gamma: float = 0.5
  remat: bool = False  # recompute each layer in the backward pass
  chunk: int = 256  # completion positions whose logits exist at once

  @property
  def has_reference(self) -> bool:
    return self.method == 'dpo' and self.loss != 'simpo'


def row_mask(
    cfg: decoder.DecoderConfig, positions_BT, segments_BT
) -> jax.Array:
  """A token sees its prompt and its own completion, up to itself.

  Padding sees nothing, and neither do packed rows of each other.
  """
  mask_BTS = decoder.causal_mask(cfg, positions_BT, positions_BT)
  key_B1S, query_BT1 = segments_BT[:, None, :], segments_BT[:, :, None]
  own_BTS = key_B1S == query_BT1
  row_BTS = key_B1S // batches.SEGMENTS == query_BT1 // batches.SEGMENTS
  prompt_B1S = key_B1S % batches.SEGMENTS == batches.PROMPT
  seen_BTS = (row_BTS & prompt_B1S) | own_BTS
  return mask_BTS & seen_BTS & (key_B1S != batches.PADDING)


def completion_logprobs(
    cfg: decoder.DecoderConfig,
    params: decoder.Params,
    lora: decoder.Params | None,
    batch: Batch,
    *,
    chunk: int,
    remat: bool = False,
) -> Completions:
  """Summed log-probabilities of each completion; no adapter when None.

  B counts packed rows one by one, with places that only fill the batch up.

  The vocabulary projection runs over `chunk` completion positions at a time:
  no array of [B, T, V] exists.
  """
  # From here to the sums, B counts sequences.
  flat = lambda x_BEX: x_BEX.reshape(-1, x_BEX.shape[-1])
  positions_BT = flat(batch.positions_BET)
  hidden_BTD, _ = decoder.forward(
      cfg,
      params,
      flat(batch.tokens_BET),
      positions_BT,
      row_mask(cfg, positions_BT, flat(batch.segments_BET)),
      lora=lora,
      remat=remat,
  )
  source_BC1 = flat(batch.source_BEC)[..., None]
  hidden_BCD = jnp.take_along_axis(hidden_BTD, source_BC1, axis=1)
  hidden_BCD = sharding.split(hidden_BCD, 'BCD')
  labels_BC = flat(batch.labels_BEC)
  scores = labels.scores(cfg, params, hidden_BCD, labels_BC, chunk=chunk)
  # X are the completions of a row and of those packed in it.
  numbers_11X = jnp.arange(2 * batch.weight_BP.shape[1])[None, None]
  own_BCX = flat(batch.answer_BEC)[..., None] == numbers_11X
  own_BCX &= flat(batch.mask_BEC)[..., None]
  sums = [jnp.where(own_BCX, x_BC[..., None], 0).sum(1) for x_BC in scores]
  sums.append(own_BCX.sum(1))
  # A sequence adds 0 to the completions that it has not.
  rows, sequences, _ = batch.mask_BEC.shape
  sums = [x_BX.reshape(rows, sequences, -1).sum(1) for x_BX in sums]
  return Completions(*(x_BX.reshape(-1, 2) for x_BX in sums))


def batch_means(
    cfg: decoder.DecoderConfig,
    objective: Objective,
    params: decoder.Params,
    lora: decoder.Params,
    batch: Batch,
) -> dict[str, Mean]:
  """The loss and the metrics that users of TRL know, as sums and counts."""
  sums = completion_logprobs(
      cfg,
      params,
      lora_lib.scaled(lora, objective.scale),
      batch,
      chunk=objective.chunk,
      remat=objective.remat,
  )
  weight_B = batch.weight_BP.reshape(-1)
  if objective.method == 'sft':
    loss = losses.sft_loss(sums.logp_B2[:, 0], sums.tokens_B2[:, 0], weight_B)
    return {'loss': Mean(*loss)}
  return pair_means(objective, sums, weight_B, batch.ref_BP2.reshape(-1, 2))


def pair_means(
    objective: Objective,
    sums: Completions,
    weight_B: jax.Array,
    ref_B2: jax.Array,
) -> dict[str, Mean]:
  """The loss of preference pairs and their metrics."""
  loss_B, reward_B2 = _preferences(objective, sums, ref_B2)
  nll_B = -_per_token(sums.logp_B2, sums)[:, 0]
  loss_B += objective.sft_weight * nll_B
  means = {'loss': Mean((weight_B * loss_B).sum(), weight_B.sum())}
  # The metrics describe the pairs as they are, whatever their weights.
  real_B = (weight_B > 0).astype(jnp.float32)
  mean = lambda x_B: Mean((real_B * x_B).sum(), real_B.sum())
  margin_B = reward_B2[:, 0] - reward_B2[:, 1]
  means['rewards/margins'] = mean(margin_B)
  means['rewards/accuracies'] = mean(margin_B > 0)
  if objective.sft_weight:
    means['nll_loss'] = mean(nll_B)
  for side, name in enumerate(('chosen', 'rejected')):
    means[f'rewards/{name}'] = mean(reward_B2[:, side])
    means[f'logps/{name}'] = mean(sums.logp_B2[:, side])
    means[f'logits/{name}'] = Mean(
        mean(sums.logit_B2[:, side]).total, mean(sums.tokens_B2[:, side]).total
    )
  return means


# Cached, so that the systems of a run share what is compiled.
@functools.lru_cache(maxsize=8)
def make_step(
    cfg: decoder.DecoderConfig,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> Callable[[TrainState, decoder.Params, Batch], tuple[TrainState, Any]]:
  """A jitted step over arrays [A, B, ...]; the old state is donated.

  A micro-batch that nothing is learned from takes no time.

  It returns the new state and the means of all A micro-batches, among them
  the norm of the gradient before clipping.
  """

  def loss(lora, params, batch):
    means = batch_means(cfg, objective, params, lora, batch)
    return means['loss'].total, means

  def step(state: TrainState, params: decoder.Params, batch: Batch):
    def add(carry, batch: Batch):
      own, batch = sharding.each_time(params, batch)
      grads, means = jax.grad(loss, has_aux=True)(state.lora, own, batch)
      return jax.tree.map(jnp.add, carry, (grads, means))

    # On one core a branch also takes 0.86 of the time (docs/LOG.md).
    def micro(carry, batch: Batch):
      learns = batch.mask_BEC.any()
      return jax.lax.cond(learns, add, lambda x, _: x, carry, batch), None

    first = jax.tree.map(lambda x: x[0], batch)
    like = jax.eval_shape(loss, state.lora, params, first)[1]
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), (state.lora, like)
    )
    (grads, means), _ = jax.lax.scan(micro, zeros, batch)
    grads = jax.tree.map(lambda g: g / means['loss'].count, sharding.lay(grads))
    means['grad_norm'] = Mean(_norm(grads), jnp.float32(1))
    updates, opt_state = optimizer.update(grads, state.opt_state, state.lora)
    lora = optax.apply_updates(state.lora, updates)
    state = TrainState(state.step + 1, lora, opt_state)
    return sharding.lay(state), sharding.whole(means)

  # By default XLA's CPU compiler finds that layers are computed twice and keeps
  # the first result, or runs the second one too early: no memory is saved.
  lean = objective.remat and jax.default_backend() == 'cpu'
  return jax.jit(
      sharding.on(mesh, step),
      donate_argnums=0,
      compiler_options=_LEAN if lean else None,
  )


@functools.lru_cache(maxsize=8)
def make_evaluation(
    cfg: decoder.DecoderConfig, objective: Objective, mesh: Mesh
) -> Callable[[decoder.Params, decoder.Params, Batch], dict[str, Mean]]:
  """The jitted means of one batch under (lora, params)."""

  def evaluate(lora, params, batch):
    return sharding.whole(batch_means(cfg, objective, params, lora, batch))

  return jax.jit(sharding.on(mesh, evaluate))


@functools.lru_cache(maxsize=8)
def make_reference(
    cfg: decoder.DecoderConfig, objective: Objective, mesh: Mesh
) -> Callable[[decoder.Params | None, decoder.Params, Batch], jax.Array]:
  """The jitted log-probabilities [B, 2] under (lora or None, params)."""

  def reference(lora, params, batch):
    chunk = objective.chunk
    if lora is not None:
      lora = lora_lib.scaled(lora, objective.scale)
    sums = completion_logprobs(cfg, params, lora, batch, chunk=chunk)
    return sharding.whole(sums.logp_B2)

  return jax.jit(sharding.on(mesh, reference))


def merge_means(parts: list[dict[str, Mean]]) -> dict[str, float]:
  """The quotients, once everything is summed."""
  total = jax.tree.map(lambda *xs: sum(float(x) for x in xs), *parts)
  return {k: m.total / m.count if m.count else 0.0 for k, m in total.items()}


def _norm(tree: Any) -> jax.Array:
  return jnp.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(tree)))


def _preferences(
    objective: Objective, sums: Completions, ref_B2: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Each pair's loss, and the rewards [B, 2] as TRL defines them."""
  beta, smoothing = objective.beta, objective.label_smoothing
  if objective.loss == 'simpo':
    mean_B2 = _per_token(sums.logp_B2, sums)
    gap_B = mean_B2[:, 0] - mean_B2[:, 1]
    loss_B = losses.simpo_loss(gap_B, beta=beta, gamma=objective.simpo_gamma)
    return loss_B, beta * mean_B2
  gain_B2 = sums.logp_B2 - ref_B2
  margin_B = beta * (gain_B2[:, 0] - gain_B2[:, 1])
  match objective.loss:
    case 'sigmoid':
      loss_B = losses.dpo_loss(margin_B, label_smoothing=smoothing)
    case 'robust':
      loss_B = losses.robust_loss(margin_B, noise=smoothing)
    case 'hinge':
      loss_B = losses.hinge_loss(margin_B)
    case 'ipo':
      mean_B2 = _per_token(gain_B2, sums)
      loss_B = losses.ipo_loss(mean_B2[:, 0] - mean_B2[:, 1], beta=beta)
    case _:
      raise ValueError(f'unknown loss {objective.loss!r}')
  return loss_B, beta * gain_B2


def _per_token(sum_B2: jax.Array, sums: Completions) -> jax.Array:
  # Rows that fill a batch up have no tokens.
  return sum_B2 / jnp.maximum(sums.tokens_B2, 1)
