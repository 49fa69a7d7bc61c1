"""The least time that a device needs for a job: memory and matmuls alone.

N_layer = 2 D N H + 2 D K H + 3 D F parameters of a layer, N_lin = L N_layer,
N_head = D V. Causal attention over S tokens costs 2 S^2 N H FLOPs a layer. A
step takes as long as the slower of reading and multiplying, part by part;
everything else counts as free.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from calm_jax.lm import decoder


@dataclasses.dataclass(frozen=True)
class Device:
  """`bandwidth` in bytes/s, `matmul_rate` in FLOP/s, for one dtype."""

  name: str
  bandwidth: float
  matmul_rate: float
  itemsize: int = 2  # bytes of a weight, and of a cached key or value


class Question(NamedTuple):
  """Tokens of a prompt, and of each answer to it."""

  prompt: int
  answers: Sequence[int]


class Pair(NamedTuple):
  """Tokens of a prompt and of the two completions that follow it."""

  prompt: int
  chosen: int
  rejected: int


def decode_step(
    cfg: decoder.DecoderConfig, device: Device, *, rows: float, context: float
) -> float:
  """Seconds to draw a token for each of `rows`, of mean length `context`."""
  weights = _linear(cfg) + _head(cfg)
  cached = 2 * cfg.num_kv_heads * cfg.head_dim * cfg.num_layers
  keys = rows * context
  return (
      max(
          device.itemsize * weights / device.bandwidth,
          2 * rows * weights / device.matmul_rate,
      )
      + max(
          device.itemsize * keys * cached / device.bandwidth,
          4 * keys * _attention(cfg) / device.matmul_rate,
      )
      # The float32 logits are written and read.
      + 8 * rows * cfg.vocab_size / device.bandwidth
  )


def prefill(
    cfg: decoder.DecoderConfig, device: Device, lengths: Sequence[int]
) -> float:
  """Seconds to read prompts of these lengths, up to their first tokens."""
  flops = sum(
      2 * _linear(cfg) * n + 2 * n**2 * _attention(cfg) + 2 * _head(cfg)
      for n in lengths
  )
  return flops / device.matmul_rate


def sampling(
    cfg: decoder.DecoderConfig,
    device: Device,
    questions: Sequence[Question],
    *,
    slots: int,
) -> float:
  """Seconds to answer all, with every slot busy in every step.

  Each prompt is read once, however many answers are drawn to it.
  """
  drawn = sum(sum(q.answers) for q in questions)
  contexts = sum(n * (q.prompt + n / 2) for q in questions for n in q.answers)
  rows = min(slots, sum(len(q.answers) for q in questions))
  step = decode_step(cfg, device, rows=rows, context=contexts / drawn)
  prompts = [q.prompt for q in questions]
  return drawn / rows * step + prefill(cfg, device, prompts)


def reference(
    cfg: decoder.DecoderConfig,
    device: Device,
    pairs: Sequence[Pair],
    *,
    shared: bool = True,
) -> float:
  """Seconds for the log-probabilities of pairs: one forward pass."""
  return _passes(cfg, device, pairs, shared, linear=1, attention=1)


def dpo(
    cfg: decoder.DecoderConfig,
    device: Device,
    pairs: Sequence[Pair],
    *,
    shared: bool = True,
    remat: bool = False,
) -> float:
  """Seconds to train LoRA factors on pairs whose reference is known.

  `shared` computes a prompt once for both completions; `remat` runs every
  layer forwards a second time. A frozen weight gets no gradient: the backward
  pass multiplies by it once, not twice; attention costs 2.5 times its forward.
  """
  seconds = _passes(cfg, device, pairs, shared, linear=2, attention=3.5)
  if remat:
    seconds += _passes(
        cfg, device, pairs, shared, linear=1, attention=1, head=0
    )
  return seconds


def row_flops(
    cfg: decoder.DecoderConfig,
    *,
    length: int,
    completion: int,
    attended: float = 1.0,
) -> float:
  """FLOPs of a DPO step over a sequence, as its programs compute it.

  Masked or not, each token attends to all `length`, or to what part of them is
  `attended` on average; and no layer is computed twice, which would not change
  how layouts compare.
  """
  attention = 3.5 * 4 * attended * length**2 * _attention(cfg)
  return 4 * (_linear(cfg) * length + _head(cfg) * completion) + attention


def _passes(
    cfg, device, pairs, shared: bool, *, linear, attention, head=None
) -> float:
  head = linear if head is None else head
  flops = 0.0
  for pair in pairs:
    sides = [pair.prompt + pair.chosen, pair.prompt + pair.rejected]
    once = pair.prompt if shared else 0
    flops += linear * 2 * _linear(cfg) * (sum(sides) - once)
    squares = sum(n**2 for n in sides) - once**2
    flops += attention * 2 * squares * _attention(cfg)
    flops += head * 2 * _head(cfg) * (pair.chosen + pair.rejected)
  return flops / device.matmul_rate


def _linear(cfg: decoder.DecoderConfig) -> int:
  d, h = cfg.model_dim, cfg.head_dim
  heads = 2 * d * cfg.num_heads * h + 2 * d * cfg.num_kv_heads * h
  return cfg.num_layers * (heads + 3 * d * cfg.ffn_dim)


def _attention(cfg: decoder.DecoderConfig) -> int:
  return cfg.num_layers * cfg.num_heads * cfg.head_dim


def _head(cfg: decoder.DecoderConfig) -> int:
  return cfg.model_dim * cfg.vocab_size
