"""One decoder for Llama 2/3, Mistral and Qwen2: their differences are numbers.

The alphabet of array names in `lm`: B batch, T query position, S key position,
D model, F ffn, N heads, K kv heads, G = N / K, H head dim, V vocab, L layer,
R LoRA rank, C completion position, E sequence of a row.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from calm_jax.lm import arithmetic, attention, linear, rope, sharding

# A tree of arrays: nested dicts; the keys below `layers` are integers.
Params = Any

# Hugging Face's name of each linear map: where its weight is, and which of the
# weight's dimensions are its input.
PROJECTIONS = {
    'q_proj': ('attn', 'q_DNH', 'D'),
    'k_proj': ('attn', 'k_DKH', 'D'),
    'v_proj': ('attn', 'v_DKH', 'D'),
    'o_proj': ('attn', 'o_NHD', 'NH'),
    'gate_proj': ('ffn', 'gate_DF', 'D'),
    'up_proj': ('ffn', 'up_DF', 'D'),
    'down_proj': ('ffn', 'down_FD', 'F'),
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  vocab_size: int
  num_layers: int
  model_dim: int
  ffn_dim: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  norm_eps: float
  rope_theta: float
  max_positions: int
  rope_scaling: rope.RopeScaling | None = None
  window: int | None = None  # keys a query sees, itself included (Mistral v0.1)
  qkv_bias: bool = False  # Qwen2
  tied: bool = False  # the output head is the embedding


class KVCache(NamedTuple):
  """Keys and values of each layer; position s of a row is at index s.

  Keys lie with S last, as the product with a query reads them: twice as fast
  on CPU, whose compiler would transpose the whole cache at every step.
  """

  k_BKHS: tuple[jax.Array, ...]
  v_BKSH: tuple[jax.Array, ...]


class Entries(NamedTuple):
  """Keys and values of each layer for the tokens of one forward pass."""

  k_BTKH: tuple[jax.Array, ...]
  v_BTKH: tuple[jax.Array, ...]


class Context(NamedTuple):
  """What every layer needs to know about the tokens."""

  positions_BT: jax.Array
  turns: rope.Turns
  mask_BTS: jax.Array


class Attention(nnx.Module):

  def __init__(self, cfg: DecoderConfig, param: Callable[..., nnx.Param]):
    d, n, k, h = cfg.model_dim, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim
    self.q_DNH = param(d, n, h)
    self.k_DKH = param(d, k, h)
    self.v_DKH = param(d, k, h)
    self.o_NHD = param(n, h, d)
    self.biased = cfg.qkv_bias
    if cfg.qkv_bias:
      self.q_bias_NH = param(n, h)
      self.k_bias_KH = param(k, h)
      self.v_bias_KH = param(k, h)

  def __call__(self, x_BTD, context: Context, cache, lora):
    q_BTNH = linear.apply(
        'BTD,DNH->BTNH', x_BTD, self.q_DNH[...], lora.get('q_proj')
    )
    k_BTKH = linear.apply(
        'BTD,DKH->BTKH', x_BTD, self.k_DKH[...], lora.get('k_proj')
    )
    v_BTKH = linear.apply(
        'BTD,DKH->BTKH', x_BTD, self.v_DKH[...], lora.get('v_proj')
    )
    if self.biased:
      q_BTNH += self.q_bias_NH[...][None, None]
      k_BTKH += self.k_bias_KH[...][None, None]
      v_BTKH += self.v_bias_KH[...][None, None]
    q_BTNH = rope.rotate(q_BTNH, context.turns)
    k_BTKH = rope.rotate(k_BTKH, context.turns)
    if cache is None:
      keys_values = (k_BTKH, v_BTKH)
      out_BTNH = attention.over_tokens(q_BTNH, *keys_values, context.mask_BTS)
    else:
      # Here the rows are split further than for the weights.
      q_BTNH = sharding.split(q_BTNH, 'BTNH')
      k_BTKH = sharding.split(k_BTKH, 'BTKH')
      v_BTKH = sharding.split(v_BTKH, 'BTKH')
      keys_values = attention.append(
          cache, k_BTKH, v_BTKH, context.positions_BT
      )
      out_BTNH = attention.over_cache(q_BTNH, *keys_values, context.mask_BTS)
    y_BTD = linear.apply(
        'BTNH,NHD->BTD', out_BTNH, self.o_NHD[...], lora.get('o_proj')
    )
    return y_BTD, keys_values


class FeedForward(nnx.Module):

  def __init__(self, cfg: DecoderConfig, param: Callable[..., nnx.Param]):
    self.gate_DF = param(cfg.model_dim, cfg.ffn_dim)
    self.up_DF = param(cfg.model_dim, cfg.ffn_dim)
    self.down_FD = param(cfg.ffn_dim, cfg.model_dim)

  def __call__(self, x_BTD, lora):
    gate_BTF = linear.apply(
        'BTD,DF->BTF', x_BTD, self.gate_DF[...], lora.get('gate_proj')
    )
    up_BTF = linear.apply(
        'BTD,DF->BTF', x_BTD, self.up_DF[...], lora.get('up_proj')
    )
    x_BTF = arithmetic.gated(gate_BTF, up_BTF)
    return linear.apply(
        'BTF,FD->BTD', x_BTF, self.down_FD[...], lora.get('down_proj')
    )


class Block(nnx.Module):

  def __init__(self, cfg: DecoderConfig, param: Callable[..., nnx.Param]):
    self.eps = cfg.norm_eps
    self.attn_norm_D = param(cfg.model_dim)
    self.attn = Attention(cfg, param)
    self.ffn_norm_D = param(cfg.model_dim)
    self.ffn = FeedForward(cfg, param)

  def __call__(self, x_BTD, context: Context, cache, lora):
    normed_BTD = _rms_norm(x_BTD, self.attn_norm_D, self.eps)
    attn_BTD, keys_values = self.attn(normed_BTD, context, cache, lora)
    x_BTD += attn_BTD
    normed_BTD = _rms_norm(x_BTD, self.ffn_norm_D, self.eps)
    return x_BTD + self.ffn(normed_BTD, lora), keys_values


class Decoder(nnx.Module):

  def __init__(self, cfg: DecoderConfig, param: Callable[..., nnx.Param]):
    self.cfg = cfg
    self.embed_VD = param(cfg.vocab_size, cfg.model_dim)
    self.layers = nnx.List([Block(cfg, param) for _ in range(cfg.num_layers)])
    self.norm_D = param(cfg.model_dim)
    if not cfg.tied:
      self.head_DV = param(cfg.model_dim, cfg.vocab_size)

  def __call__(self, tokens_BT, positions_BT, mask_BTS, cache, lora, remat):
    x_BTD = linear.look_up(self.embed_VD[...], tokens_BT)
    turns = rope.turns(
        positions_BT,
        head_dim=self.cfg.head_dim,
        theta=self.cfg.rope_theta,
        scaling=self.cfg.rope_scaling,
    )
    context = Context(positions_BT, turns, mask_BTS)
    keys, values = [], []
    for i, block in enumerate(self.layers):
      apply = jax.checkpoint(block) if remat else block
      x_BTD, (k, v) = apply(
          x_BTD,
          context,
          None if cache is None else (cache.k_BKHS[i], cache.v_BKSH[i]),
          lora['layers'][i] if lora else {},
      )
      keys.append(k)
      values.append(v)
    x_BTD = _rms_norm(x_BTD, self.norm_D, self.cfg.norm_eps)
    kind = Entries if cache is None else KVCache
    return x_BTD, kind(tuple(keys), tuple(values))


def forward(
    cfg: DecoderConfig,
    params: Params,
    tokens_BT: jax.Array,
    positions_BT: jax.Array,
    mask_BTS: jax.Array,
    *,
    cache: KVCache | None = None,
    lora: Params | None = None,
    remat: bool = False,
) -> tuple[jax.Array, Any]:
  """Final hidden states [B, T, D], and keys and values.

  Without a cache the T tokens attend to each other as `mask_BTS` says, which
  must not show a token what stands after it, and their Entries come back. With
  a cache they are first written into it, at `positions_BT` of their row;
  attention then runs over the whole row and the new KVCache comes back. `lora`
  holds factors that are already multiplied by alpha / rank (`lora.scaled`).
  """
  model = nnx.merge(_graph(cfg), params)
  return model(tokens_BT, positions_BT, mask_BTS, cache, lora, remat)


def unembed(
    cfg: DecoderConfig, params: Params, hidden_XD: jax.Array
) -> jax.Array:
  """Float32 logits over the vocabulary, for hidden states of any rank."""
  if cfg.tied:
    spec, weight = '...D,VD->...V', params['embed_VD']
  else:
    spec, weight = '...D,DV->...V', params['head_DV']
  rows = 'B' + '.' * (hidden_XD.ndim - 2)
  logits_XV = jnp.einsum(
      spec,
      sharding.split(hidden_XD, rows + 'D', sharding.LOGITS),
      sharding.split(weight, 'VD' if cfg.tied else 'DV', sharding.LOGITS),
      preferred_element_type=jnp.float32,
  )
  return sharding.split(logits_XV, rows + 'V', sharding.LOGITS)


def causal_mask(
    cfg: DecoderConfig, positions_BT: jax.Array, key_positions_BS: jax.Array
) -> jax.Array:
  """True where a query may see a key: not later, and inside the window."""
  gap_BTS = positions_BT[:, :, None] - key_positions_BS[:, None, :]
  mask_BTS = gap_BTS >= 0
  if cfg.window is not None:
    mask_BTS &= gap_BTS < cfg.window
  return mask_BTS


def init(cfg: DecoderConfig, key: jax.Array, dtype: Any) -> Params:
  """Random parameters (normal, 0.02) as nested dicts of arrays."""
  rngs = nnx.Rngs(key)

  def param(*shape: int) -> nnx.Param:
    if len(shape) == 1:
      return nnx.Param(jnp.ones(shape, dtype))
    return nnx.Param(0.02 * jax.random.normal(rngs.params(), shape, dtype))

  return nnx.to_pure_dict(nnx.state(Decoder(cfg, param)))


def abstract(cfg: DecoderConfig, dtype: Any) -> Params:
  """Shapes and dtypes of the parameters; nothing is allocated."""
  return nnx.to_pure_dict(nnx.state(_abstract_model(cfg, dtype)))


def empty_cache(
    cfg: DecoderConfig, rows: int, length: int, dtype: Any
) -> KVCache:
  k, h, layers = cfg.num_kv_heads, cfg.head_dim, range(cfg.num_layers)
  return KVCache(
      tuple(jnp.zeros((rows, k, h, length), dtype) for _ in layers),
      tuple(jnp.zeros((rows, k, length, h), dtype) for _ in layers),
  )


@functools.lru_cache(maxsize=8)
def _graph(cfg: DecoderConfig) -> nnx.GraphDef:
  return nnx.split(_abstract_model(cfg, jnp.float32))[0]


def _abstract_model(cfg: DecoderConfig, dtype: Any) -> Decoder:
  # Not nnx.eval_shape: tracing `init` takes seconds for 30 layers.
  return Decoder(
      cfg, lambda *shape: nnx.Param(jax.ShapeDtypeStruct(shape, dtype))
  )


def _rms_norm(x_BTD, weight: nnx.Param, eps: float) -> jax.Array:
  return arithmetic.rms_norm(x_BTD, weight[...], eps)
