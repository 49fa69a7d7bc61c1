"""Drawing one token from logits: temperature, top-k and top-p, exactly."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp

# Tokens are drawn in two steps, a block of the vocabulary and one inside it: a
# cumulative sum over all of it costs ten times as much.
_BLOCK = 128


def sample_digest(question_id: str, lang: str, index: int) -> int:
  """What a sample is, as 32 bits to fold into the seed's key.

  Two questions may collide; that is harmless, since their prompts differ.
  """
  name = f'{question_id}|{lang}|{index}'.encode()
  return int.from_bytes(hashlib.sha256(name).digest()[:4], 'big')


def uniforms(seed: int, digest_B: jax.Array, step_B: jax.Array) -> jax.Array:
  """A uniform number per row that depends on (seed, digest, step) alone."""
  # Threefry gives the same bits whatever the batch or sharding; rbg does not.
  root = jax.random.key(seed, impl='threefry2x32')

  def draw(digest, step):
    key = jax.random.fold_in(jax.random.fold_in(root, digest), step)
    return jax.random.uniform(key)

  return jax.vmap(draw)(digest_B, step_B)


def pick(
    logits_BV: jax.Array,
    uniform_B: jax.Array,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
) -> jax.Array:
  """Draws a token per row by inverting the filtered distribution at `uniform`.

  The filters act in Hugging Face's order: temperature, top-k, then the
  smallest set of largest probabilities whose mass reaches top-p. Tokens that
  tie with the last one kept are kept too. Temperature 0 is greedy; top_k 0 and
  top_p 1 are off. A row's token depends on that row alone.
  """
  if temperature == 0:
    return jnp.argmax(logits_BV, axis=-1)
  scaled_BV = logits_BV.astype(jnp.float32) / temperature
  top_B1 = jnp.max(scaled_BV, axis=-1, keepdims=True)
  weight_BV = jnp.exp(scaled_BV - top_B1)
  if 0 < top_k < weight_BV.shape[-1]:
    least_B1 = jax.lax.top_k(weight_BV, top_k)[0][:, -1:]
    weight_BV = jnp.where(weight_BV >= least_B1, weight_BV, 0.0)
  if top_p < 1:
    least_B1 = _nucleus_border(weight_BV, top_p)[:, None]
    weight_BV = jnp.where(weight_BV >= least_B1, weight_BV, 0.0)
  return _invert_blocks(weight_BV, uniform_B)


def pick_choice(
    logits_BV: jax.Array,
    choice_BO: jax.Array,
    uniform_B: jax.Array,
    *,
    temperature: float,
) -> jax.Array:
  """Draws the index of one of a few allowed tokens; -1 in `choice` is none."""
  logits_BO = jnp.take_along_axis(
      logits_BV.astype(jnp.float32), jnp.maximum(choice_BO, 0), axis=-1
  )
  logits_BO = jnp.where(choice_BO >= 0, logits_BO, -jnp.inf)
  if temperature == 0:
    return jnp.argmax(logits_BO, axis=-1)
  probs_BO = jax.nn.softmax(logits_BO / temperature, axis=-1)
  return _invert(probs_BO, uniform_B)


def logprob(logits_BV: jax.Array, token_B: jax.Array) -> jax.Array:
  """Natural log-probability of a token per row, nothing filtered."""
  logits_BV = logits_BV.astype(jnp.float32)
  total_B = jax.nn.logsumexp(logits_BV, axis=-1)
  return _take(logits_BV, token_B) - total_B


def logprobs(logits_BV: jax.Array, ids_W: jax.Array) -> jax.Array:
  """Those of the same few tokens in every row, nothing filtered."""
  logits_BV = logits_BV.astype(jnp.float32)
  total_B1 = jax.nn.logsumexp(logits_BV, axis=-1, keepdims=True)
  return jnp.take(logits_BV, ids_W, axis=-1) - total_B1


def _nucleus_border(weight_BV, top_p: float) -> jax.Array:
  """The largest weight w whose set {weights >= w} has `top_p` of the mass.

  Found without sorting: the bits of a float from 0 to 1 order as integers do,
  so 30 halvings decide between all of them.
  """
  wanted_B = top_p * jnp.sum(weight_BV, axis=-1)
  as_float = lambda bits_B: jax.lax.bitcast_convert_type(bits_B, jnp.float32)

  def halve(_, borders):
    low_B, high_B = borders
    middle_B = (low_B + high_B) // 2
    kept_BV = weight_BV >= as_float(middle_B)[:, None]
    held_B = jnp.sum(jnp.where(kept_BV, weight_BV, 0.0), axis=-1)
    enough_B = held_B >= wanted_B
    return (
        jnp.where(enough_B, middle_B, low_B),
        jnp.where(enough_B, high_B, middle_B),
    )

  low_B = jnp.zeros(weight_BV.shape[0], jnp.int32)
  above_one = jnp.float32(1).view(jnp.int32) + 1
  return as_float(
      jax.lax.fori_loop(0, 30, halve, (low_B, low_B + above_one))[0]
  )


def _invert_blocks(weight_BV, uniform_B) -> jax.Array:
  """`_invert` over a vocabulary, whose weights need not sum to 1."""
  rows, vocab = weight_BV.shape
  weight_BV = jnp.pad(weight_BV, ((0, 0), (0, -vocab % _BLOCK)))
  weight_BXY = weight_BV.reshape(rows, -1, _BLOCK)
  mass_BX = jnp.sum(weight_BXY, axis=-1)
  block_B = _invert(mass_BX, uniform_B)
  before_B = _take(jnp.cumsum(mass_BX, axis=-1) - mass_BX, block_B)
  rest_B = uniform_B * jnp.sum(mass_BX, axis=-1) - before_B
  inside_BY = jnp.take_along_axis(weight_BXY, block_B[:, None, None], axis=1)[
      :, 0
  ]
  part_B = rest_B / jnp.sum(inside_BY, axis=-1)
  return block_B * _BLOCK + _invert(inside_BY, jnp.clip(part_B, 0, 1))


def _invert(weight_BK, uniform_B) -> jax.Array:
  """The first index whose cumulative weight passes `uniform` of the whole."""
  cumulative_BK = jnp.cumsum(weight_BK, axis=-1)
  target_B1 = (uniform_B * cumulative_BK[:, -1])[:, None]
  index_B = jnp.sum(cumulative_BK <= target_B1, axis=-1)
  # Rounding can leave the target past the last cumulative sum.
  last_B = weight_BK.shape[-1] - 1 - jnp.argmax(weight_BK[:, ::-1] > 0, axis=-1)
  return jnp.minimum(index_B, last_B)


def _take(values_BK, index_B) -> jax.Array:
  return jnp.take_along_axis(values_BK, index_B[:, None], axis=-1)[:, 0]
