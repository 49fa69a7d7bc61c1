"""Drawing one token from logits: temperature, top-k and top-p, exactly."""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp

# How many of the largest logits are looked at, until they hold the nucleus of
# every row. A full sort costs many times the model's own step on CPU (0.6 s
# for 48 rows of 49,152), the 1,024 largest 0.02 s.
_TIERS = (1024, 8192)


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
  smallest set whose mass reaches top-p. Temperature 0 is greedy; top_k 0 and
  top_p 1 are off. A row's token depends on that row alone.
  """
  if temperature == 0:
    return jnp.argmax(logits_BV, axis=-1)
  scaled_BV = logits_BV.astype(jnp.float32) / temperature
  vocab = scaled_BV.shape[-1]
  if top_k:
    top_BK, index_BK = jax.lax.top_k(scaled_BV, min(top_k, vocab))
    probs_BK = jax.nn.softmax(top_BK, axis=-1)
    return _take(index_BK, _invert(probs_BK, uniform_B, top_p))
  if top_p >= 1:
    return _invert(jax.nn.softmax(scaled_BV, axis=-1), uniform_B, top_p)
  return _nucleus(scaled_BV, uniform_B, top_p)


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
  return _invert(probs_BO, uniform_B, 1.0)


def logprob(logits_BV: jax.Array, token_B: jax.Array) -> jax.Array:
  """Natural log-probability of a token per row, nothing filtered."""
  logits_BV = logits_BV.astype(jnp.float32)
  total_B = jax.nn.logsumexp(logits_BV, axis=-1)
  return _take(logits_BV, token_B) - total_B


def _nucleus(scaled_BV, uniform_B, top_p: float) -> jax.Array:
  total_B1 = jax.nn.logsumexp(scaled_BV, axis=-1, keepdims=True)
  vocab = scaled_BV.shape[-1]

  def draw(counts):
    top_BK, index_BK = jax.lax.top_k(scaled_BV, counts[0])
    probs_BK = jnp.exp(top_BK - total_B1)
    token_B = _take(index_BK, _invert(probs_BK, uniform_B, top_p))
    if len(counts) == 1:
      return token_B
    whole_B = jnp.sum(probs_BK, axis=-1) >= top_p
    # Row by row, so that a flat neighbour cannot change what a row draws.
    return jax.lax.cond(
        jnp.all(whole_B),
        lambda: token_B,
        lambda: jnp.where(whole_B, token_B, draw(counts[1:])),
    )

  return draw([count for count in _TIERS if count < vocab] + [vocab])


def _invert(probs_BK, uniform_B, top_p: float) -> jax.Array:
  """The first index whose cumulative mass, inside top-p, passes `uniform`."""
  cumulative_BK = jnp.cumsum(probs_BK, axis=-1)
  if top_p < 1:
    kept_BK = cumulative_BK - probs_BK < top_p
    # The largest token is always kept, also when rounding says otherwise.
    kept_BK = kept_BK.at[:, 0].set(True)
    probs_BK = jnp.where(kept_BK, probs_BK, 0.0)
    cumulative_BK = jnp.where(kept_BK, cumulative_BK, jnp.inf)
  target_B1 = (uniform_B * jnp.sum(probs_BK, axis=-1))[:, None]
  index_B = jnp.sum(cumulative_BK <= target_B1, axis=-1)
  # Rounding can leave the target past the last cumulative sum.
  last_B = probs_BK.shape[-1] - 1 - jnp.argmax(probs_BK[:, ::-1] > 0, axis=-1)
  return jnp.minimum(index_B, last_B)


def _take(values_BK, index_B) -> jax.Array:
  return jnp.take_along_axis(values_BK, index_B[:, None], axis=-1)[:, 0]
