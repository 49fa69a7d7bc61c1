"""Continuous batching draws what each request alone would draw."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import decoder, sampler, sharding, slots, steps
from calm_jax.lm import shapes as shapes_lib

CONFIG = decoder.DecoderConfig(
    vocab_size=64,
    num_layers=2,
    model_dim=32,
    ffn_dim=48,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=128,
)
# After token t comes t + 1: the whole model.
COUNTING = slots.Steps(
    empty=lambda rows, length: (),
    prefill=lambda weights, tokens_PT: (),
    insert=lambda cache, entries, row_R, source_R: cache,
    decode=lambda weights, cache, token_B, position_B: (
        100.0 * jax.nn.one_hot(token_B + 1, 32),
        cache,
    ),
    cut=lambda cache, length: cache,
)


def count(requests, **changes):
  settings = {
      'slots': 4,
      'max_new_tokens': 5,
      'stop_ids': (7,),
      'temperature': 0.0,
      'chunk': 3,
  }
  settings = slots.Settings(**(settings | changes))
  return sampler.run(COUNTING, None, requests, settings, seed=0)


@pytest.fixture(scope='module')
def params():
  random = decoder.init(CONFIG, jax.random.key(0), jnp.float32)
  return jax.tree.map(lambda w: 10 * w if w.ndim > 1 else w, random)


def sample(params, requests, shapes=None, model=None, **changes):
  settings = {
      'slots': 3,
      'max_new_tokens': 12,
      'stop_ids': (1, 2),
      'top_p': 0.9,
      'chunk': 4,
  }
  settings = slots.Settings(**(settings | changes))
  model = model or steps.decoder_steps(CONFIG, jnp.float32)
  return sampler.run(
      model, (params, None), requests, settings, seed=3, shapes=shapes
  )[0]


def random_requests(number, samples, seed=0):
  rng = np.random.default_rng(seed)
  return [
      sampler.Request(
          tuple(rng.integers(3, 64, rng.integers(3, 40)).tolist()),
          tuple(100 * i + j for j in range(samples)),
      )
      for i in range(number)
  ]


def test_answers_stop_at_a_stop_token_or_at_the_limit():
  requests = [sampler.Request((9, first), (first,)) for first in (3, 5, 6, 20)]
  done, stats = count(requests)
  (a,), (b,), (c,), (d,) = done
  assert (a.tokens, a.stop_reason) == ((4, 5, 6), 'stop')
  assert (b.tokens, b.stop_reason) == ((6,), 'stop')
  assert (c.tokens, c.stop_reason) == ((), 'stop')
  assert (d.tokens, d.stop_reason) == ((21, 22, 23, 24, 25), 'length')
  assert stats.drawn_tokens == 9 + 3  # stop tokens were drawn too


def test_a_sample_may_have_a_lower_limit_than_the_rest():
  """But no higher one, and a slot forgets the limit of its last answer."""
  short = sampler.Request((20,), (0, 1, 2), limits=(1, 3, 9))
  free = sampler.Request((10,), (3, 4))
  (drawn, unlimited), stats = count([short, free], slots=3)
  assert [c.tokens for c in drawn] == [
      (21,),
      (21, 22, 23),
      (21, 22, 23, 24, 25),
  ]
  assert {c.stop_reason for c in drawn} == {'length'}
  assert [len(c.tokens) for c in unlimited] == [5, 5]
  assert stats.drawn_tokens == 1 + 3 + 5 + 2 * 5


def test_more_requests_than_slots_keep_their_order():
  requests = [sampler.Request((i % 7,) * (i + 1), (i,)) for i in range(23)]
  done, _ = count(requests, slots=2)
  firsts = [(*c.tokens, 7)[0] for (c,) in done]
  assert firsts == [i % 7 + 1 for i in range(23)]


@pytest.mark.parametrize(('slot_count', 'steps'), [(16, 64), (15, 120)])
def test_the_end_of_a_run_has_half_as_many_slots(slot_count, steps):
  """Where they are many: 3 steps of 16, then 2 of 8; else 8 of 15."""
  limits = [5 if i % 5 == 0 else 1 for i in range(16)]
  requests = [
      sampler.Request((i + 8,), (i,), limits=(limit,))
      for i, limit in enumerate(limits)
  ]
  done, stats = count(requests, slots=slot_count, stop_ids=())
  for i, (completion,) in enumerate(done):
    assert completion.tokens == tuple(range(i + 9, i + 9 + limits[i]))
  assert stats.slot_steps == steps


@pytest.mark.parametrize('first', [4, 20])
def test_an_ending_is_appended_and_one_choice_drawn(first):
  """After 'stop' and after 'length' alike the suffix is what the model sees."""
  ending = sampler.Ending(suffix=(10, 12), choices=(5, 13, 14))
  done, _ = count([sampler.Request((first,), (0, 1), ending)])
  assert [c.choice for c in done[0]] == [1, 1]
  assert done[0][0].logprob == pytest.approx(0.0, abs=1e-5)


def test_an_ending_beside_a_request_without_one():
  ending = sampler.Ending(suffix=(10,), choices=(11, 30))
  done, _ = count(
      [
          sampler.Request((4,), (0,), ending),
          sampler.Request((4,), (1,)),
      ]
  )
  assert [c.choice for (c,) in done] == [0, None]
  assert done[0][0].tokens == done[1][0].tokens == (5, 6)


def test_too_few_slots_is_an_error_that_says_what_to_change():
  with pytest.raises(ValueError, match=r'raise sample\.slots'):
    count([sampler.Request((1,), (0, 1, 2))], slots=2)


def test_a_sample_is_the_same_whatever_the_batch_around_it(params):
  requests = random_requests(number=5, samples=2)
  alone = [sample(params, [r], slots=2)[0] for r in requests]
  for slot_count in (2, 3, 16):
    together = sample(params, requests, slots=slot_count)
    for a, b in zip(alone, together, strict=True):
      assert [c.tokens for c in a] == [c.tokens for c in b]
      np.testing.assert_allclose(
          [c.logprob for c in a], [c.logprob for c in b], atol=1e-4
      )


def test_samples_of_one_prompt_differ(params):
  (three,) = sample(params, random_requests(number=1, samples=3))
  assert len({c.tokens for c in three}) == 3


def test_logprob_is_what_a_full_forward_pass_says(params):
  (request,) = random_requests(number=1, samples=1, seed=4)
  ((completion,),) = sample(params, [request], stop_ids=(99,))
  tokens = jnp.array([[*request.prompt, *completion.tokens]])
  positions = jnp.arange(tokens.shape[1])[None]
  hidden, _ = decoder.forward(
      CONFIG,
      params,
      tokens,
      positions,
      decoder.causal_mask(CONFIG, positions, positions),
  )
  logps = jax.nn.log_softmax(decoder.unembed(CONFIG, params, hidden))[0]
  start = len(request.prompt)
  want = sum(
      logps[start + i - 1, token] for i, token in enumerate(completion.tokens)
  )
  assert completion.logprob == pytest.approx(float(want), abs=1e-4)


def test_watched_tokens_have_their_probability_at_every_step(params):
  """At temperature 2 and top_p 0.5 it is still the model's own."""
  watch = (1, 40, 7)
  ending = sampler.Ending(suffix=(10, 12), choices=(5, 13))
  requests = [
      dataclasses.replace(request, ending=ending if i % 2 else None)
      for i, request in enumerate(random_requests(5, 2))
  ]
  changes = {'temperature': 2.0, 'top_p': 0.5}
  done = sample(params, requests, watch_ids=watch, **changes)
  assert done == sample(params, requests, **changes)
  for request, group in zip(requests, done, strict=True):
    for completion in group:
      drawn = len(completion.tokens) + (completion.stop_reason == 'stop')
      text = jnp.array([request.prompt + completion.tokens])
      positions = jnp.arange(text.shape[1])[None]
      mask = decoder.causal_mask(CONFIG, positions, positions)
      hidden, _ = decoder.forward(CONFIG, params, text, positions, mask)
      logits = decoder.unembed(CONFIG, params, hidden)[0]
      logprobs = jax.nn.log_softmax(logits)[len(request.prompt) - 1 :]
      np.testing.assert_allclose(
          completion.watched_TW, logprobs[:drawn, list(watch)], atol=1e-4
      )


def test_what_is_not_watched_is_not_kept(params):
  ((completion,),) = sample(params, random_requests(1, 1))
  assert completion.watched_TW is None


def test_runs_of_one_plan_compile_what_it_says(params, monkeypatch):
  """Three runs, the last with prompts of a length of their own."""
  monkeypatch.setattr(shapes_lib, '_WORTH_ON_CPU', 1)
  requests = sorted(random_requests(20, 2), key=lambda r: len(r.prompt))
  long = sampler.Request(tuple(range(3, 63)) * 4, (7, 8))
  parts = [requests[:9], requests[9:], [long]]
  shapes = sampler.plan(parts, 12)
  said = shapes.programs([[len(r.prompt) for r in part] for part in parts])
  before = compiled()
  together = [sample(params, part, slots=5, shapes=shapes) for part in parts]
  assert compiled() - before == said == 5
  alone = [sample(params, part, slots=5) for part in parts]
  assert together == alone


def test_a_run_goes_on_in_a_shorter_cache(params, monkeypatch):
  """Once the long prompts' answers have ended, and with the same answers."""
  long = [sampler.Request(tuple(range(3, 63)) * n, (7, n)) for n in (2, 4)]
  requests = [*random_requests(6, 2), *long]
  whole = sample(params, requests, slots=5)
  monkeypatch.setattr(shapes_lib, '_WORTH_ON_CPU', 1)
  shapes = sampler.plan([requests], 12)
  model, cuts = steps.decoder_steps(CONFIG, jnp.float32), []

  def cut(cache, length):
    cuts.append((cache.v_BKSH[0].shape[2], length))
    return model.cut(cache, length)

  noting = model._replace(cut=cut)
  cut_short = sample(params, requests, shapes, noting, slots=5)
  assert cuts == [(256, 64)]
  for a, b in zip(whole, cut_short, strict=True):
    assert [c.tokens for c in a] == [c.tokens for c in b]


def test_a_run_in_shorter_caches_compiles_no_more_than_it_says(
    params, monkeypatch
):
  monkeypatch.setattr(shapes_lib, '_WORTH_ON_CPU', 1)
  long = sampler.Request(tuple(range(3, 63)) * 4, (7, 8))
  requests = [*random_requests(9, 2), long]
  shapes = sampler.plan([requests], 12)
  lengths = [[len(r.prompt) for r in requests]]
  before = compiled()
  sample(params, requests, shapes, slots=18)
  assert 0 < compiled() - before <= shapes.programs(lengths, halves=True)


def test_a_mesh_decodes_with_one_program_for_a_cache(params, monkeypatch):
  """The next chunk finds its arguments as the first one did."""
  long = [sampler.Request(tuple(range(3, 63)) * n, (7, n)) for n in (2, 4)]
  requests = [*random_requests(3, 2), *long]
  alone = sample(params, requests, slots=8)
  monkeypatch.setattr(shapes_lib, '_WORTH_ON_CPU', 1)
  shapes = dataclasses.replace(sampler.plan([requests], 12), lengths=(64, 256))
  mesh = sharding.make_mesh(2, 1, 2, devices=jax.devices()[:4])
  model = steps.decoder_steps(CONFIG, jnp.float32, mesh)
  before = slots.decode_chunk._cache_size()
  together = sample(params, requests, shapes, model, slots=8)
  assert slots.decode_chunk._cache_size() - before == 2
  for a, b in zip(alone, together, strict=True):
    assert [c.tokens for c in a] == [c.tokens for c in b]


def test_the_end_of_a_run_compiles_what_it_says(params):
  requests = random_requests(20, 2)
  shapes = sampler.plan([requests], 12)
  lengths = [[len(r.prompt) for r in requests]]
  before = compiled()
  # As no other test does: none of these programs is compiled yet.
  sample(params, requests, slots=22, shapes=shapes)
  halves = shapes.halves(22, 1)
  assert compiled() - before == shapes.programs(lengths, halves=halves)
  assert halves


def test_a_plan_does_not_depend_on_what_is_left_to_do():
  parts = [random_requests(5, 2), random_requests(3, 1, seed=1)]
  assert sampler.plan(parts, 12) == sampler.plan(parts[::-1], 12)


def compiled() -> int:
  programs = slots.admit, slots.decode_chunk, slots.take, steps.first
  return sum(program._cache_size() for program in programs)
