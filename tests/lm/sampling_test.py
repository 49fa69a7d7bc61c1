"""The drawn token follows the filtered distribution, row by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import sampling

# 99.9 % quantile of chi-square, by degrees of freedom.
CHI_SQUARE_999 = {1: 10.8, 2: 13.8, 3: 16.3, 4: 18.5, 5: 20.5, 6: 22.5, 7: 24.3}


def reference_probs(logits_V, temperature, top_k, top_p):
  """The filtered distribution as its definition says, in float64."""
  probs_V = np.exp(np.float64(logits_V) / temperature)
  probs_V /= probs_V.sum()
  order_V = np.argsort(-probs_V, kind='stable')
  if top_k:
    probs_V[order_V[top_k:]] = 0
    probs_V /= probs_V.sum()
  before_V = np.cumsum(probs_V[order_V]) - probs_V[order_V]
  probs_V[order_V[before_V >= top_p]] = 0
  return probs_V / probs_V.sum()


def draw(logits_V, count, **kwargs):
  @jax.jit
  def picks(logits_V, digest_B):
    logits_BV = jnp.broadcast_to(logits_V, (count, len(logits_V)))
    uniform_B = sampling.uniforms(7, digest_B, jnp.zeros(count, jnp.int32))
    return sampling.pick(logits_BV, uniform_B, **kwargs)

  return np.asarray(picks(logits_V, jnp.arange(count, dtype=jnp.uint32)))


@pytest.mark.parametrize(
    ('temperature', 'top_k', 'top_p'),
    [
        (1, 0, 1),
        (1, 0, 0.9),
        (0.7, 0, 0.8),
        (1.5, 4, 1),
        (1, 5, 0.9),
        (1, 0, 0.3),
    ],
)
def test_frequencies_match_the_filtered_distribution(temperature, top_k, top_p):
  logits_V = np.array([1.0, 0.2, -0.5, 2.0, 0.9, -2.0, 0.0, 1.5], np.float32)
  count = 20_000
  token_B = draw(
      logits_V, count, temperature=temperature, top_k=top_k, top_p=top_p
  )
  want_V = count * reference_probs(logits_V, temperature, top_k, top_p)
  got_V = np.bincount(token_B, minlength=8)
  kept_V = want_V > 0
  assert not got_V[~kept_V].any()
  statistic = ((got_V - want_V)[kept_V] ** 2 / want_V[kept_V]).sum()
  freedom = kept_V.sum() - 1
  assert freedom == 0 or statistic < CHI_SQUARE_999[freedom]


def test_the_nucleus_of_many_tokens_is_exact():
  """Weights 4,000 to 1: 90 % of the mass are the 2,736 largest of them."""
  logits_V = np.log(np.arange(4000, 0, -1, dtype=np.float32))
  token_B = draw(logits_V, 20_000, temperature=1, top_k=0, top_p=0.9)
  probs_V = reference_probs(logits_V, 1, 0, 0.9)
  kept = int((probs_V > 0).sum())
  assert token_B.max() < kept
  assert token_B.max() > kept - 20
  assert abs(token_B.mean() - probs_V @ np.arange(4000)) < 25


def test_a_row_is_drawn_the_same_beside_others():
  rng = np.random.default_rng(0)
  rows_BV = jnp.array(3 * rng.normal(size=(5, 1000)), jnp.float32)
  uniform_B = jnp.linspace(0.1, 0.9, 5)
  pick = lambda rows_BV, u_B: sampling.pick(
      rows_BV, u_B, temperature=1, top_k=0, top_p=0.9
  )
  together_B = pick(rows_BV, uniform_B)
  for b in range(5):
    assert pick(rows_BV[b : b + 1], uniform_B[b : b + 1])[0] == together_B[b]


@pytest.mark.parametrize('uniform', [0.0, 1.0 - 2**-24])
def test_the_ends_of_the_unit_interval_draw_kept_tokens(uniform):
  logits_BV = jnp.log(jnp.array([[0.001, 0.6, 0.001, 0.397, 0.001]]))
  (token,) = sampling.pick(
      logits_BV, jnp.array([uniform]), temperature=1, top_k=0, top_p=0.9
  )
  assert token == (1 if uniform == 0 else 3)


def test_greedy_takes_the_largest():
  logits_BV = jnp.array([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
  token_B = sampling.pick(
      logits_BV, jnp.array([0.9, 0.9]), temperature=0, top_k=0, top_p=1
  )
  assert token_B.tolist() == [1, 0]


def test_uniforms_depend_on_digest_and_step_only():
  digest_B = jnp.array([5, 6, 7], jnp.uint32)
  together_B = sampling.uniforms(1, digest_B, jnp.array([0, 3, 9]))
  alone = sampling.uniforms(1, digest_B[1:2], jnp.array([3]))
  assert together_B[1] == alone[0]
  next_B = sampling.uniforms(1, digest_B, jnp.array([1, 4, 10]))
  assert not np.intersect1d(together_B, next_B).size
  assert sampling.uniforms(2, digest_B[1:2], jnp.array([3]))[0] != alone[0]


def test_choice_is_drawn_among_the_allowed_tokens():
  logits_BV = jnp.log(jnp.array([[0.5, 0.1, 0.3, 0.1]]))
  choice_BO = jnp.array([[1, 2, -1]])
  drawn = {
      u: int(
          sampling.pick_choice(
              logits_BV, choice_BO, jnp.array([u]), temperature=1.0
          )[0]
      )
      for u in (0.0, 0.24, 0.26, 0.999)
  }
  assert drawn == {0.0: 0, 0.24: 0, 0.26: 1, 0.999: 1}


def test_logprob_is_of_the_unfiltered_distribution():
  logits_BV = jnp.log(jnp.array([[0.5, 0.25, 0.25]])) + 3.0
  got_B = sampling.logprob(logits_BV, jnp.array([1]))
  np.testing.assert_allclose(got_B, np.log([0.25]), rtol=1e-6)


def test_sample_digest_names_the_sample():
  digests = {
      sampling.sample_digest(q, lang, i)
      for q in ('a', 'b')
      for lang in ('en', 'zh')
      for i in range(3)
  }
  assert len(digests) == 12
  assert sampling.sample_digest('a', 'en', 0) < 2**32
