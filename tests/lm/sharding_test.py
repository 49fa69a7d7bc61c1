"""The mesh and the sharding table, on four simulated devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import pytest

from calm_jax.lm import decoder, lora, sharding, training

CFG = decoder.DecoderConfig(
    vocab_size=64,
    num_layers=2,
    model_dim=32,
    ffn_dim=48,
    num_heads=4,
    num_kv_heads=1,
    head_dim=8,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=128,
    qkv_bias=True,
)


@pytest.fixture(autouse=True)
def _four_devices():
  if jax.device_count() != 4:
    pytest.skip('needs XLA_FLAGS=--xla_force_host_platform_device_count=4')


@pytest.mark.parametrize(
    ('sizes', 'expected'),
    [
        ((-1, 1, 1), (4, 1, 1)),
        ((2, -1, 1), (2, 2, 1)),
        ((1, 2, 2), (1, 2, 2)),
        ((4, 1, -1), (4, 1, 1)),
    ],
)
def test_mesh_sizes(sizes, expected):
  mesh = sharding.make_mesh(*sizes)
  assert tuple(mesh.shape.values()) == expected
  assert sharding.rows(mesh) == expected[0] * expected[1]


@pytest.mark.parametrize(
    'sizes', [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (2, 1, 1), (0, 1, -1)]
)
def test_a_mesh_that_does_not_fit_says_so(sizes):
  with pytest.raises(ValueError, match='does not fit the 4 devices'):
    sharding.make_mesh(*sizes)


@pytest.mark.parametrize(
    ('sizes', 'expected'),
    [
        ((-1, 1, 1), (2, 1, 1)),
        ((4, 1, 1), (2, 1, 1)),
        ((-1, 1, 2), (1, 1, 2)),
        ((2, 2, 1), (1, 2, 1)),
        ((1, -1, 1), (1, 2, 1)),
        ((1, 2, 2), (1, 1, 2)),
    ],
)
def test_the_part_of_a_process_has_whole_models(monkeypatch, sizes, expected):
  own = jax.devices()[2:]
  monkeypatch.setattr(jax, 'local_devices', lambda: own)
  mesh = sharding.make_local_mesh(*sizes)
  assert tuple(mesh.shape.values()) == expected
  assert set(mesh.devices.flat) == set(own)


def test_layers_over_several_processes_cannot_sample(monkeypatch):
  monkeypatch.setattr(jax, 'local_devices', lambda: jax.devices()[:2])
  with pytest.raises(ValueError, match=r'tensor=4 .* own 2.*lower mesh.tensor'):
    sharding.make_local_mesh(-1, 1, 4)
  with pytest.raises(ValueError, match='does not fit the 4 devices'):
    sharding.make_local_mesh(2, 1, 1)


def _paths(tree):
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path, simple=True, separator='/'), leaf


def test_every_parameter_has_one_rule_of_its_rank():
  for path, leaf in _paths(decoder.abstract(CFG, jnp.float32)):
    assert len(sharding.spec(path)) == leaf.ndim, path


def test_a_parameter_without_a_rule_is_an_error():
  with pytest.raises(ValueError, match='layers/0/attn/z_DNH'):
    sharding.spec('layers/0/attn/z_DNH')


def test_parameters_lie_as_the_table_says():
  put = sharding.place(sharding.make_mesh(1, 2, 2))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: rng.random(x.shape, np.float32),
      decoder.abstract(CFG, jnp.float32),
  )
  placed = {path: put(path, x) for path, x in _paths(params)}
  q = placed['layers/1/attn/q_DNH']
  assert q.sharding.spec == P('fsdp', 'tensor', None)
  assert q.addressable_shards[0].data.shape == (16, 2, 8)
  # One kv head cannot be split over two devices.
  k = placed['layers/1/attn/k_DKH']
  assert k.sharding.spec == P('fsdp', None, None)
  whole = params['layers'][1]['attn']['q_DNH']
  np.testing.assert_array_equal(q, whole)


def test_batches_split_their_rows():
  mesh = sharding.make_mesh(2, 2, 1)
  batch = {'tokens': np.arange(24).reshape(3, 4, 2), 'weight': np.ones((3, 4))}
  placed = sharding.place_batch(mesh, batch, axis=1)
  assert placed['tokens'].addressable_shards[0].data.shape == (3, 1, 2)
  assert placed['weight'].addressable_shards[0].data.shape == (3, 1)
  np.testing.assert_array_equal(placed['tokens'], batch['tokens'])


def test_replicated_trees_are_whole_everywhere():
  mesh = sharding.make_mesh(2, 2, 1)
  tree = sharding.replicate(mesh, {'a': jnp.arange(3.0)})
  assert tree['a'].is_fully_replicated
  assert len(tree['a'].addressable_shards) == 4


def test_every_array_of_a_training_state_has_a_rule():
  lora_cfg = lora.LoraConfig(2, 4.0, tuple(decoder.PROJECTIONS))
  factors = jax.eval_shape(lambda: lora.init(CFG, lora_cfg, jax.random.key(0)))
  adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
  state = training.TrainState(
      jax.ShapeDtypeStruct((), jnp.int32),
      factors,
      jax.eval_shape(adam.init, factors),
  )
  placed = sharding.of(sharding.make_mesh(1, 2, 2), state)
  layer = placed.lora['layers'][1]
  assert layer['q_proj']['a'].spec == P('fsdp', None)
  assert layer['q_proj']['b'].spec == P(None, 'tensor', None)
  assert layer['o_proj']['a'].spec == P('tensor', None, None)
  # One kv head cannot be split over two devices.
  assert layer['v_proj']['b'].spec == P(None, None, None)
  moments = placed.opt_state[1][0].mu
  assert jax.tree.leaves(moments) == jax.tree.leaves(placed.lora)


def _laid(mesh, shape, dims, table):
  """The axes that `split` gives an array on a mesh."""
  function = lambda x: sharding.split(x, dims, table)
  program = jax.jit(sharding.on(mesh, function))
  x = sharding.place_batch(mesh, np.zeros(shape, np.float32))
  return program(x).sharding


@pytest.mark.parametrize(
    ('dims', 'table', 'expected'),
    [
        ('BTNH', sharding.TOKENS, P(('data', 'fsdp'), None, 'tensor', None)),
        ('BTD', sharding.TOKEN, P('data', None, 'fsdp')),
        ('BV', sharding.DRAWS, P(('data', 'fsdp', 'tensor'), None)),
        ('BCV', sharding.LOGITS, P('data', None, ('tensor', 'fsdp'))),
    ],
)
def test_letters_say_how_an_array_is_split(dims, table, expected):
  mesh = sharding.make_mesh(1, 2, 2)
  shape = (8,) * len(dims)
  wanted = jax.sharding.NamedSharding(mesh, expected)
  found = _laid(mesh, shape, dims, table)
  assert found.is_equivalent_to(wanted, len(dims))


def test_axes_that_do_not_divide_a_dimension_leave_it_whole():
  mesh = sharding.make_mesh(1, 2, 2)
  found = _laid(mesh, (2, 6), 'BV', sharding.DRAWS)
  wanted = jax.sharding.NamedSharding(mesh, P(('data', 'fsdp')))
  assert found.is_equivalent_to(wanted, 2)


def test_one_device_is_asked_nothing():
  one = sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  function = lambda x: sharding.split(2 * x, 'BD')
  assert sharding.on(one, function) is function
  text = str(jax.make_jaxpr(function)(np.zeros((4, 4), np.float32)))
  assert 'sharding_constraint' not in text
