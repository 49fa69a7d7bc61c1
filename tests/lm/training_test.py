"""The training step: equalities that hold for any model, on tiny ones."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import batches, decoder, sharding, training
from calm_jax.lm import lora as lora_lib
from calm_jax.lm import optimizer as optimizers

CFG = decoder.DecoderConfig(
    vocab_size=96,
    num_layers=1,
    model_dim=32,
    ffn_dim=48,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=128,
)
LORA = lora_lib.LoraConfig(2, 4.0, ('q_proj', 'v_proj'))
DPO = training.Objective('dpo', LORA.scale, chunk=8)
SFT = dataclasses.replace(DPO, method='sft')
SHAPE = batches.Shape(24, 16)


def _fill(tree, seed, dtype=np.float32, std=0.3):
  """Random numbers without a compilation."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda x: jnp.asarray(std * rng.standard_normal(x.shape), dtype), tree
  )


def _params(cfg=CFG, dtype=np.float32):
  return _fill(decoder.abstract(cfg, dtype), 0, dtype)


def _lora():
  key = jax.random.key(0)
  return _fill(jax.eval_shape(lambda: lora_lib.init(CFG, LORA, key)), 1)


def _rows(count, sides=2, seed=2):
  rng = np.random.default_rng(seed)
  ids = lambda low, high: tuple(rng.integers(0, 96, rng.integers(low, high)))
  return [
      batches.Row(ids(3, 9), tuple(ids(1, 8) for _ in range(sides)))
      for _ in range(count)
  ]


def _batch(rows, index, shape=SHAPE, ref=None):
  return batches.build(rows, np.asarray(index)[..., None], shape, ref)


def _apart(rows, index, ref=None, length=SHAPE.length):
  """The same in two sequences a row."""
  rows = [row._replace(sequences=2) for row in rows]
  return _batch(rows, index, batches.Shape(length, 9, 2), ref)


def _reference(rows):
  """Any numbers: as log-probabilities of another model."""
  return -20 - np.random.default_rng(3).random((len(rows), 2))


@functools.partial(jax.jit, static_argnums=(0,))
def _logprobs(cfg, params, lora, batch):
  return training.completion_logprobs(cfg, params, lora, batch, chunk=5)


@pytest.mark.parametrize('window', [None, 4])
def test_a_shared_prompt_equals_two_sequences(window):
  cfg = dataclasses.replace(CFG, window=window)
  params, lora, rows = _params(), _lora(), _rows(4)
  shared = _logprobs(cfg, params, lora, _batch(rows, range(4)))
  # With other padding, which must not matter.
  apart = _logprobs(cfg, params, lora, _apart(rows, range(4), length=30))
  for one, two in zip(shared, apart, strict=True):
    np.testing.assert_allclose(two, one, rtol=1e-5)


@pytest.mark.parametrize('sequences', [1, 2])
@pytest.mark.parametrize('window', [None, 4])
def test_packed_rows_do_not_see_each_other(window, sequences):
  cfg = dataclasses.replace(CFG, window=window)
  params, lora, rows = _params(), _lora(), _rows(4)
  alone = _logprobs(cfg, params, lora, _batch(rows, range(4)))
  rows = [row._replace(sequences=sequences) for row in rows]
  index = np.array([[3, 0, -1], [-1, 2, 1]])
  shape = batches.Shape(50, 30, sequences, 3)
  packed = _logprobs(cfg, params, lora, batches.build(rows, index, shape))
  for one, many in zip(alone, packed, strict=True):
    expected = np.where(index[..., None] < 0, 0, one[index]).reshape(-1, 2)
    np.testing.assert_allclose(many, expected, rtol=1e-5)


@pytest.mark.parametrize('window', [None, 4])
def test_logprobs_by_hand(window):
  """Against a plain forward pass over one unpadded sequence."""
  cfg = dataclasses.replace(CFG, window=window)
  params, row = _params(), batches.Row((5, 6, 7, 8), ((9, 1), (2, 3, 4)))
  tokens = jnp.array([row.prompt + row.completions[1]])
  positions = jnp.arange(tokens.shape[1])[None]
  mask = decoder.causal_mask(cfg, positions, positions)
  hidden, _ = jax.jit(decoder.forward, static_argnums=0)(
      cfg, params, tokens, positions, mask
  )
  logp = jax.nn.log_softmax(decoder.unembed(cfg, params, hidden))[0]
  expected = logp[3, 2] + logp[4, 3] + logp[5, 4]
  sums = _logprobs(cfg, params, None, _batch([row], [0]))
  assert float(sums.logp_B2[0, 1]) == pytest.approx(float(expected), rel=1e-5)
  assert sums.tokens_B2[0].tolist() == [2, 3]


@functools.cache
def _grads(objective, build=_batch, window=None):
  """Of the adapter's factors, and the loss."""
  cfg = dataclasses.replace(CFG, window=window)
  rows, params = _rows(2), _params()
  batch = build(rows, range(2), ref=_reference(rows))

  def loss(lora):
    means = training.batch_means(cfg, objective, params, lora, batch)
    return means['loss'].total

  return jax.jit(jax.value_and_grad(loss))(_lora())


def _assert_close(a, b, tolerance):
  scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(b))
  jax.tree.map(
      lambda x, y: np.testing.assert_allclose(
          x, y, rtol=tolerance, atol=tolerance * scale
      ),
      a,
      b,
  )


@pytest.mark.parametrize(
    'change', [{'chunk': 3}, {'chunk': 16}, {'remat': True}]
)
def test_saving_memory_changes_no_gradient(change):
  changed = dataclasses.replace(DPO, **change)
  _assert_close(_grads(changed), _grads(DPO), 1e-5)


@pytest.mark.parametrize('window', [None, 4])
def test_a_pair_in_two_sequences_has_the_same_gradient(window):
  apart = _grads(DPO, _apart, window)
  _assert_close(apart, _grads(DPO, window=window), 1e-5)


def _equations(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for value in eqn.params.values():
      for inner in value if isinstance(value, (tuple, list)) else [value]:
        if isinstance(inner, jax.extend.core.ClosedJaxpr):
          yield from _equations(inner.jaxpr)
        elif isinstance(inner, jax.extend.core.Jaxpr):
          yield from _equations(inner)


def _gradient_program(**changes):
  """The equations of a gradient over a vocabulary of 5000, traced only."""
  cfg = dataclasses.replace(CFG, vocab_size=5000)
  objective = dataclasses.replace(DPO, **changes)
  batch = _batch(_rows(2), range(2))

  def loss(lora, params):
    means = training.batch_means(cfg, objective, params, lora, batch)
    return means['loss'].total

  abstract = decoder.abstract(cfg, jnp.float32)
  return list(
      _equations(jax.make_jaxpr(jax.grad(loss))(_lora(), abstract).jaxpr)
  )


@pytest.mark.parametrize('chunk', [16, 4])
def test_no_array_holds_all_logits(chunk):
  """Forwards and backwards, nothing is larger than a chunk of logits."""
  program = _gradient_program(chunk=chunk)
  sizes = [v.aval.size for eqn in program for v in eqn.outvars]
  assert max(sizes) == 2 * chunk * 5000


def test_remat_computes_layers_again():
  count = lambda remat: sum(
      eqn.primitive.name == 'logistic' for eqn in _gradient_program(remat=remat)
  )
  assert (count(False), count(True)) == (1, 2)


def _state(optimizer, lora, mesh):
  # A copy, as a step takes its state's buffers for the next one.
  lora = jax.tree.map(jnp.array, lora)
  state = training.TrainState(jnp.int32(0), lora, optimizer.init(lora))
  return sharding.place_tree(mesh, state)


def _optimizer(peak=1e-2, steps=10):
  schedule = optimizers.make_schedule(
      'constant', peak=peak, warmup_ratio=0.0, steps=steps
  )
  return optimizers.adamw(
      schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip_norm=1.0
  )


def _placed(params, mesh):
  put = sharding.place(mesh)
  name = lambda p: jax.tree_util.keystr(p, simple=True, separator='/')
  return jax.tree_util.tree_map_with_path(lambda p, x: put(name(p), x), params)


@functools.cache
def _program(objective, sizes):
  devices = jax.devices()[: math.prod(sizes)]
  mesh = sharding.make_mesh(*sizes, devices=devices)
  optimizer = _optimizer()
  return mesh, optimizer, training.make_step(CFG, objective, optimizer, mesh)


def _steps(objective, batches_AB, sizes=(1, 1, 1), params=None):
  """The state and the metrics after a few steps on a mesh.

  The tests use arrays of [2, 4] rows, so that a program compiles once.
  """
  mesh, optimizer, step = _program(objective, sizes)
  params = _placed(params or _params(), mesh)
  state = _state(optimizer, _lora(), mesh)
  history = []
  for batch in batches_AB:
    placed = sharding.place_batch(mesh, batch, axis=1)
    state, means = step(state, params, placed)
    history.append(training.merge_means([means]))
  return state, history


def test_step_0_costs_ln_2():
  """The adapter starts as nothing, so policy and reference agree."""
  mesh = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  params, rows = _params(), _rows(3)
  batch = _batch(rows, [0, 1, 2])
  ref = training.make_reference(CFG, DPO, mesh)(None, params, batch)
  lora = jax.jit(lora_lib.init, static_argnums=(0, 1))(
      CFG, LORA, jax.random.key(0)
  )
  batch = _batch(rows, [0, 1, 2], ref=np.asarray(ref))
  evaluate = training.make_evaluation(CFG, DPO, mesh)
  means = training.merge_means([evaluate(lora, params, batch)])
  assert means['loss'] == pytest.approx(math.log(2), abs=1e-6)
  assert means['rewards/margins'] == pytest.approx(0, abs=1e-6)
  assert means['logps/chosen'] == pytest.approx(float(ref[:, 0].mean()))


@pytest.mark.slow
def test_step_0_costs_ln_2_in_bfloat16():
  """One rounding that differs would be all over the next layers."""
  # So many numbers that one in a million would show.
  cfg = dataclasses.replace(CFG, num_layers=2, num_heads=8, head_dim=64)
  params, lora = _params(cfg, jnp.bfloat16), lora_lib.init(
      cfg, LORA, jax.random.key(0)
  )
  rng = np.random.default_rng(4)
  ids = lambda count: tuple(rng.integers(0, 96, count))
  rows = [batches.Row(ids(200), (ids(150), ids(130 + i))) for i in range(4)]
  index, shape = [[0, 1], [2, 3]], batches.Shape(512, 288)
  mesh, optimizer, _ = _program(DPO, (1, 1, 1))
  reference = training.make_reference(cfg, DPO, mesh)
  ref_N2 = np.concatenate(
      [reference(None, params, _batch(rows, i, shape)) for i in index]
  )
  step = training.make_step(cfg, DPO, optimizer, mesh)
  batch = _batch(rows, index, shape, ref=ref_N2)
  _, means = step(_state(optimizer, lora, mesh), params, batch)
  found = training.merge_means([means])
  assert found['loss'] == pytest.approx(math.log(2), abs=1e-4)
  for name in ('rewards/chosen', 'rewards/rejected', 'rewards/margins'):
    assert found[name] == pytest.approx(0, abs=1e-4), name


@pytest.mark.parametrize('objective', [DPO, SFT])
def test_steps_learn_the_preference(objective):
  rows = _rows(4)
  index = [[0, 1, 2, 3], [3, 2, 1, 0]]
  batch = _batch(rows, index, ref=_reference(rows))
  _, history = _steps(objective, [batch] * 8)
  loss = [h['loss'] for h in history]
  assert all(b < a for a, b in itertools.pairwise(loss))


@pytest.mark.parametrize('objective', [DPO, SFT])
def test_packing_changes_nothing(objective):
  """Loss, metrics and factors, with a micro-batch that has nothing to learn."""
  rows = _rows(4, 1 if objective is SFT else 2)
  rows[2] = rows[2]._replace(weight=0.5)
  ref = _reference(rows)
  alone = _batch(rows, [[0, 1], [2, 3], [-1, -1]], ref=ref)
  index = np.array([[[2, 0], [3, 1]], [[-1, -1], [-1, -1]]])
  shape = batches.Shape(40, 28, 1, 2)
  packed = batches.build(rows, index, shape, ref)
  one, metrics = _steps(objective, [alone] * 2)
  two, others = _steps(objective, [packed] * 2)
  for a, b in zip(metrics, others, strict=True):
    assert a == pytest.approx(b, rel=1e-5)
  _assert_close(two.lora, one.lora, 1e-4)


@pytest.mark.parametrize('objective', [DPO, SFT])
def test_micro_batches_and_padding_rows_change_nothing(objective):
  rows = _rows(4, 1 if objective is SFT else 2)
  ref = _reference(rows)
  # A mean does not change when every row comes twice.
  twice = _batch(rows, [[0, 1, 2, 3], [2, 3, 0, 1]], ref=ref)
  padded = _batch(rows, [[-1, 0, -1, -1], [3, 1, -1, 2]], ref=ref)
  one, metrics = _steps(objective, [twice] * 2)
  two, others = _steps(objective, [padded] * 2)
  _assert_close(one.lora, two.lora, 1e-5)
  for name, value in metrics[1].items():
    assert others[1][name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize(
    ('sizes', 'build'),
    [
        ((4, 1, 1), _batch),
        ((4, 1, 1), _apart),
        pytest.param((1, 2, 2), _batch, marks=pytest.mark.slow),
    ],
)
def test_four_devices_equal_one(sizes, build):
  """And a pair in two sequences on them one that shares its prompt on one."""
  if jax.device_count() < 4:
    pytest.skip('needs XLA_FLAGS=--xla_force_host_platform_device_count=4')
  rows = _rows(8)
  steps = lambda build: [
      build(rows, index, ref=_reference(rows))
      for index in ([[0, 1, 2, 3], [4, 5, 6, 7]], [[7, 2, -1, 0], [1] * 4])
  ]
  one, metrics = _steps(DPO, steps(_batch))
  four, others = _steps(DPO, steps(build), sizes)
  _assert_close(four.lora, one.lora, 1e-5)
  for name, value in metrics[1].items():
    assert others[1][name] == pytest.approx(value, rel=1e-5), name
  wanted = sharding.of(four.step.sharding.mesh, four)
  same = lambda x, s: x.sharding.is_equivalent_to(s, x.ndim)
  assert all(jax.tree.leaves(jax.tree.map(same, four, wanted)))


def test_factors_stay_float32_over_a_bf16_base():
  rows = _rows(2)
  index = [[0, 1, -1, -1], [-1] * 4]
  batch = _batch(rows, index, ref=_reference(rows))
  state, history = _steps(DPO, [batch] * 2, params=_params(dtype=jnp.bfloat16))
  floats = [x for x in jax.tree.leaves(state) if x.dtype.kind == 'f']
  assert all(x.dtype == jnp.float32 for x in floats)
  assert history[1]['loss'] < history[0]['loss']


def test_weights_count_in_the_loss_and_not_in_the_metrics():
  rows, ref = _rows(2), _reference(_rows(2))
  heavy = [rows[0]._replace(weight=3.0), rows[1]]

  def run(rows, index):
    index = np.reshape(index + [-1] * (8 - len(index)), (2, 4))
    return _steps(DPO, [_batch(rows, index, ref=ref)])[1][0]

  first, second, both = run(rows, [0]), run(rows, [1]), run(heavy, [0, 1])
  mixed = (3 * first['loss'] + second['loss']) / 4
  assert both['loss'] == pytest.approx(mixed, rel=1e-5)
  margin = (first['rewards/margins'] + second['rewards/margins']) / 2
  assert both['rewards/margins'] == pytest.approx(margin, rel=1e-5)


# Two pairs, and a row that fills the batch up. Chosen gains 6 and 2 over the
# reference, 3 and 0.5 per token; rejected loses 4 and gains 1, -1 and 1.
SUMS = training.Completions(
    logp_B2=np.float32([[-4, -12], [-8, -1], [0, 0]]),
    logit_B2=np.zeros((3, 2), np.float32),
    tokens_B2=np.int32([[2, 4], [4, 1], [0, 0]]),
)
REF_B2 = np.float32([[-10, -8], [-10, -2], [0, 0]])


def _pair_means(loss, weights=(1, 1, 0), ref_B2=REF_B2, **changes):
  objective = dataclasses.replace(DPO, loss=loss, beta=0.5, **changes)
  means = training.pair_means(objective, SUMS, np.float32(weights), ref_B2)
  return training.merge_means([means])


def _softplus(x):
  return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ('loss', 'changes', 'first', 'second'),
    [
        ('sigmoid', {}, _softplus(-5), _softplus(-0.5)),
        (
            'sigmoid',
            {'label_smoothing': 0.25},
            0.75 * _softplus(-5) + 0.25 * _softplus(5),
            0.75 * _softplus(-0.5) + 0.25 * _softplus(0.5),
        ),
        (
            'robust',
            {'label_smoothing': 0.25},
            1.5 * _softplus(-5) - 0.5 * _softplus(5),
            1.5 * _softplus(-0.5) - 0.5 * _softplus(0.5),
        ),
        ('hinge', {}, 0, 0.5),
        ('ipo', {}, 9, 2.25),
        # The means of the policy alone: -2 and -3, then -2 and -1.
        ('simpo', {'simpo_gamma': 1.0}, _softplus(0.5), _softplus(1.5)),
        ('hinge', {'sft_weight': 0.5}, 0 + 1, 0.5 + 1),
    ],
)
def test_preference_losses_by_hand(loss, changes, first, second):
  means = _pair_means(loss, **changes)
  assert means['loss'] == pytest.approx((first + second) / 2, rel=1e-5)
  weighted = _pair_means(loss, weights=(0.75, 0.25, 0), **changes)
  mixed = 0.75 * first + 0.25 * second
  assert weighted['loss'] == pytest.approx(mixed, rel=1e-5)
  assert weighted['rewards/margins'] == means['rewards/margins']


def test_rewards_are_gains_or_means_of_the_policy():
  assert _pair_means('ipo')['rewards/chosen'] == pytest.approx(2)
  assert _pair_means('ipo')['rewards/rejected'] == pytest.approx(-0.75)
  simpo = _pair_means('simpo', ref_B2=np.full((3, 2), np.nan))
  assert simpo['rewards/chosen'] == pytest.approx(-1)
  assert simpo['rewards/accuracies'] == 0.5
  assert 'nll_loss' not in simpo
  assert _pair_means('simpo', sft_weight=1.0)['nll_loss'] == pytest.approx(2)


def test_an_unknown_loss_is_refused():
  with pytest.raises(ValueError, match='kto'):
    _pair_means('kto')


def test_who_needs_a_reference():
  needs = lambda **c: dataclasses.replace(DPO, **c).has_reference
  assert needs(loss='ipo')
  assert not needs(loss='simpo')
  assert not needs(method='sft')
