"""One decoder for Llama 2/3, Mistral and Qwen2: their differences are numbers.

The alphabet of array names in `lm`: B batch, T query position, S key position,
D model, F ffn, N heads, K kv heads, G = N / K, H head dim, V vocab, L layer,
R LoRA rank, C completion position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp

from calm_jax.lm import arithmetic, attention, sharding

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
class RopeScaling:
  """Stretched rotary frequencies: 'llama3' (3.1 and later) or 'linear'."""

  kind: str
  factor: float
  low_freq_factor: float = 1.0
  high_freq_factor: float = 4.0
  original_positions: int = 8192


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
  rope_scaling: RopeScaling | None = None
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
  cos_BTH: jax.Array
  sin_BTH: jax.Array
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
    q_BTNH = _linear('BTD,DNH->BTNH', x_BTD, self.q_DNH, lora.get('q_proj'))
    k_BTKH = _linear('BTD,DKH->BTKH', x_BTD, self.k_DKH, lora.get('k_proj'))
    v_BTKH = _linear('BTD,DKH->BTKH', x_BTD, self.v_DKH, lora.get('v_proj'))
    if self.biased:
      q_BTNH += self.q_bias_NH[...][None, None]
      k_BTKH += self.k_bias_KH[...][None, None]
      v_BTKH += self.v_bias_KH[...][None, None]
    q_BTNH = _rotate(q_BTNH, context)
    k_BTKH = _rotate(k_BTKH, context)
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
    y_BTD = _linear('BTNH,NHD->BTD', out_BTNH, self.o_NHD, lora.get('o_proj'))
    return y_BTD, keys_values


class FeedForward(nnx.Module):

  def __init__(self, cfg: DecoderConfig, param: Callable[..., nnx.Param]):
    self.gate_DF = param(cfg.model_dim, cfg.ffn_dim)
    self.up_DF = param(cfg.model_dim, cfg.ffn_dim)
    self.down_FD = param(cfg.ffn_dim, cfg.model_dim)

  def __call__(self, x_BTD, lora):
    gate_BTF = _linear(
        'BTD,DF->BTF', x_BTD, self.gate_DF, lora.get('gate_proj')
    )
    up_BTF = _linear('BTD,DF->BTF', x_BTD, self.up_DF, lora.get('up_proj'))
    x_BTF = arithmetic.gated(gate_BTF, up_BTF)
    return _linear('BTF,FD->BTD', x_BTF, self.down_FD, lora.get('down_proj'))


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
    x_BTD = _look_up(self.embed_VD[...], tokens_BT)
    angles_BTH = _angles(self.cfg, positions_BT)
    cos_BTH, sin_BTH = _turns(angles_BTH)
    context = Context(positions_BT, cos_BTH, sin_BTH, mask_BTS)
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


def _look_up(embed_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
  # The embedding's width is split: each device looks up its part of it, for
  # all rows that share the parts, before they are exchanged for whole rows.
  tokens_BT = sharding.split(tokens_BT, 'BT', sharding.TOKEN)
  x_BTD = jnp.take(embed_VD, tokens_BT, axis=0)
  x_BTD = sharding.split(x_BTD, 'BTD', sharding.TOKEN)
  return sharding.split(x_BTD, 'BTD', _layout(x_BTD))


def _layout(x_BTX: jax.Array) -> Mapping[str, Any]:
  return sharding.TOKEN if x_BTX.shape[1] == 1 else sharding.TOKENS


def _linear(spec: str, x, weight: nnx.Param, factors) -> jax.Array:
  """`x` through a weight, plus its low-rank update where there is one."""
  inputs, y_dims = spec.split('->')
  x_dims, w_dims = inputs.split(',')
  ins = sum(d not in y_dims for d in w_dims)
  layout = _layout(x)
  x = sharding.split(x, x_dims, layout)
  y = _project(x, weight[...], ins, w_dims, layout)
  y = sharding.split(y, y_dims, layout)
  if factors is None:
    return y
  h_BTR = arithmetic.project(x, factors['a'], inputs=ins)
  h_BTR = sharding.split(h_BTR, 'BTR', layout)
  return y + arithmetic.project(h_BTR, factors['b'])


def _project(x, weight, ins: int, w_dims: str, layout) -> jax.Array:
  """`x` through a weight whose parts are brought together for it."""

  def product(x, weight):
    # First as it is stored: what is done to it here is not done before.
    weight = sharding.split(weight, w_dims, sharding.TOKEN)
    weight = sharding.split(weight, w_dims, layout)
    return arithmetic.project(x, weight, inputs=ins)

  # The backward pass brings them together again: all of them at once would be
  # what fsdp is to avoid.
  again = sharding.splits('fsdp') and layout is sharding.TOKENS
  return (jax.checkpoint(product) if again else product)(x, weight)


def _rms_norm(x_BTD, weight: nnx.Param, eps: float) -> jax.Array:
  return arithmetic.rms_norm(x_BTD, weight[...], eps)


def _angles(cfg: DecoderConfig, positions_BT: jax.Array) -> jax.Array:
  """Rotary angles; each frequency serves the two halves of a head."""
  exponents_H = jnp.arange(0, cfg.head_dim, 2, dtype=jnp.float32) / cfg.head_dim
  freqs_H = 1.0 / cfg.rope_theta**exponents_H
  if cfg.rope_scaling is not None:
    freqs_H = _scale_frequencies(cfg.rope_scaling, freqs_H)
  # float32: bf16 rounds position 257 to 256.
  angles_BTH = positions_BT[..., None].astype(jnp.float32) * freqs_H[None, None]
  return jnp.concatenate([angles_BTH, angles_BTH], axis=-1)


def _turns(angles_BTH: jax.Array) -> jax.Array:
  """Cosines and sines."""
  # In a loop, or XLA would compute them anew wherever they are used.
  functions = (jnp.cos, jnp.sin)
  return jax.lax.map(
      lambda i: jax.lax.switch(i, functions, angles_BTH), jnp.arange(2)
  )


def _scale_frequencies(scaling: RopeScaling, freqs_H: jax.Array) -> jax.Array:
  """Slows low frequencies, keeps high ones, blends between (Llama 3.1)."""
  if scaling.kind == 'linear':
    return freqs_H / scaling.factor
  turns_H = scaling.original_positions * freqs_H / (2 * jnp.pi)
  span = scaling.high_freq_factor - scaling.low_freq_factor
  keep_H = jnp.clip((turns_H - scaling.low_freq_factor) / span, 0, 1)
  return freqs_H * (keep_H + (1 - keep_H) / scaling.factor)


def _rotate(x_BTXH: jax.Array, context: Context) -> jax.Array:
  x32_BTXH = x_BTXH.astype(jnp.float32)
  left, right = jnp.split(x32_BTXH, 2, axis=-1)
  turned_BTXH = jnp.concatenate([-right, left], axis=-1)
  cos_BT1H = context.cos_BTH[:, :, None]
  sin_BT1H = context.sin_BTH[:, :, None]
  return (x32_BTXH * cos_BT1H + turned_BTXH * sin_BT1H).astype(x_BTXH.dtype)
