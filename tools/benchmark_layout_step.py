"""The gradient of DPO on pairs laid out in any way, for benchmark_layouts."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from calm_jax.lm import decoder, labels, losses, training
from calm_jax.lm import lora as lora_lib
from tools import benchmark_layout_rows as layouts
from tools import benchmark_model


class Step:
  """Passes forwards and backwards over the parts of a layout."""

  def __init__(
      self, model: benchmark_model.Model, cfg: ConfigDict, *, pairs: int
  ):
    self._params = model.params
    lora_cfg = lora_lib.LoraConfig(
        cfg.lora.rank, cfg.lora.alpha, tuple(cfg.lora.targets)
    )
    self._lora = lora_lib.init(model.cfg, lora_cfg, jax.random.key(cfg.seed))

    def total(lora, params, part: layouts.Arrays):
      scaled = lora_lib.scaled(lora, lora_cfg.scale)
      found_G2 = logprobs(model.cfg, params, scaled, part, pairs=pairs)
      margin_G = cfg.train.beta * (found_G2[:, 0] - found_G2[:, 1])
      return losses.dpo_loss(margin_G, label_smoothing=0.0).sum()

    self._gradient = jax.jit(jax.grad(total))

  def run(self, parts: Sequence[layouts.Arrays]) -> None:
    """All parts, one after another."""
    grads = None
    for part in parts:
      found = self._gradient(self._lora, self._params, part)
      grads = found if grads is None else jax.tree.map(jnp.add, grads, found)
    jax.block_until_ready(grads)


def logprobs(
    cfg: decoder.DecoderConfig,
    params: decoder.Params,
    lora: decoder.Params,
    part: layouts.Arrays,
    *,
    pairs: int,
) -> jax.Array:
  """Summed log-probabilities of both answers of each pair, 0 where absent."""
  mask_BTS = training.row_mask(cfg, part.positions_BT, part.segments_BT)
  mask_BTS &= part.piece_BT[:, None, :] == part.piece_BT[:, :, None]
  hidden_BTD, _ = decoder.forward(
      cfg, params, part.tokens_BT, part.positions_BT, mask_BTS, lora=lora
  )
  hidden_BCD = jnp.take_along_axis(
      hidden_BTD, part.source_BC[..., None], axis=1
  )
  chunk = training.Objective.chunk
  logp_BC, _ = labels.scores(
      cfg, params, hidden_BCD, part.labels_BC, chunk=chunk
  )
  # The last place takes what only fills rows up.
  sums = jnp.zeros(2 * pairs + 1).at[part.group_BC].add(logp_BC)
  return sums[:-1].reshape(pairs, 2)
