"""LoRA factors: initialisation, merging, and PEFT's file format."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from calm_jax.lm import decoder
from calm_jax.lm import lora as lora_lib

CFG = decoder.DecoderConfig(
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
ALL = tuple(decoder.PROJECTIONS)
LORA = lora_lib.LoraConfig(rank=3, alpha=6.0, targets=ALL)


def _fill(tree, dtype=np.float32):
  """Random numbers without a compilation."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape), dtype), tree
  )


def _params(dtype=np.float32):
  return _fill(decoder.abstract(CFG, dtype), dtype)


def _random():
  """An adapter that changes something: `b` is not zero."""
  key = jax.random.key(0)
  return _fill(jax.eval_shape(lambda: lora_lib.init(CFG, LORA, key)))


@jax.jit
def _hidden(params, lora=None):
  tokens = jnp.arange(12).reshape(2, 6)
  positions = jnp.broadcast_to(jnp.arange(6), (2, 6))
  mask = decoder.causal_mask(CFG, positions, positions)
  return decoder.forward(CFG, params, tokens, positions, mask, lora=lora)[0]


def test_init_is_pefts():
  lora = lora_lib.init(CFG, LORA, jax.random.key(0))
  assert set(lora['layers']) == {0, 1}
  down = lora['layers'][1]['down_proj']
  assert down['a'].shape == (48, 3)
  assert down['b'].shape == (3, 32)
  bound = 48**-0.5
  assert 0.9 * bound < float(jnp.abs(down['a']).max()) <= bound
  assert float(down['a'].std()) == pytest.approx(bound / 3**0.5, rel=0.15)
  for leaf in jax.tree.leaves(lora):
    assert leaf.dtype == jnp.float32
  assert not any(f['b'].any() for f in lora['layers'][0].values())


def test_init_does_not_depend_on_the_other_targets():
  one = lora_lib.LoraConfig(3, 6.0, ('v_proj',))
  alone = lora_lib.init(CFG, one, jax.random.key(0))
  whole = lora_lib.init(CFG, LORA, jax.random.key(0))
  np.testing.assert_array_equal(
      alone['layers'][1]['v_proj']['a'], whole['layers'][1]['v_proj']['a']
  )
  a = [whole['layers'][i][t]['a'] for i in (0, 1) for t in ('k_proj', 'v_proj')]
  assert len({float(x[0, 0]) for x in a}) == 4


def test_merging_equals_adding_to_the_activations():
  params = _params()
  lora = _random()
  added = _hidden(params, lora_lib.scaled(lora, LORA.scale))
  merged = _hidden(lora_lib.merge(params, lora, LORA.scale))
  np.testing.assert_allclose(added, merged, atol=2e-6)
  assert float(jnp.abs(added - _hidden(params)).max()) > 0.1


def test_scaled_lets_gradients_through():
  lora = _random()
  total = lambda x: sum(f.sum() for f in jax.tree.leaves(x))
  grads = jax.grad(lambda x: total(lora_lib.scaled(x, 2.5)))(lora)
  factors = grads['layers'][0]['o_proj']
  assert (float(factors['a'].min()), float(factors['b'].max())) == (1.0, 2.5)


def test_merge_keeps_the_dtype_and_the_argument():
  params = _params(jnp.bfloat16)
  before = np.asarray(params['layers'][0]['attn']['q_DNH'], np.float32)
  merged = lora_lib.merge(params, _random(), LORA.scale)
  assert merged['layers'][0]['attn']['q_DNH'].dtype == jnp.bfloat16
  after = np.asarray(params['layers'][0]['attn']['q_DNH'], np.float32)
  np.testing.assert_array_equal(before, after)
  assert merged['embed_VD'] is params['embed_VD']


def test_unknown_target_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'q_proj'"):
    lora_lib.LoraConfig(8, 16.0, ('q_porj',))


def test_peft_round_trip(tmp_path):
  lora = _random()
  lora_lib.save_peft(tmp_path, lora, LORA, base_model='org/base')
  read, lora_cfg = lora_lib.load_peft(tmp_path, CFG)
  assert lora_cfg == LORA
  jax.tree.map(np.testing.assert_array_equal, read, lora)
  names = sorted(safetensors.load_file(tmp_path / lora_lib.WEIGHTS))
  assert len(names) == 2 * 7 * 2
  stem = 'base_model.model.model.layers'
  assert names[0] == f'{stem}.0.mlp.down_proj.lora_A.weight'
  assert names[-1] == f'{stem}.1.self_attn.v_proj.lora_B.weight'
  assert {p.name for p in tmp_path.iterdir()} == {
      lora_lib.WEIGHTS,
      lora_lib.CONFIG,
  }


def test_peft_orientation(tmp_path):
  """lora_A is [rank, in], lora_B is [out, rank], heads in order."""
  lora = _random()
  lora_lib.save_peft(tmp_path, lora, LORA, base_model='')
  tensors = safetensors.load_file(tmp_path / lora_lib.WEIGHTS)
  stem = 'base_model.model.model.layers.1.self_attn.q_proj'
  q = lora['layers'][1]['q_proj']
  a, b = (tensors[f'{stem}.lora_{x}.weight'] for x in 'AB')
  assert a[2, 5] == q['a'][5, 2]
  assert b[8 * 3 + 4, 1] == q['b'][1, 3, 4]


def _edit(folder, **changes):
  path = folder / lora_lib.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'use_rslora': True}, r'adapter_config.json: use_rslora = True'),
        ({'use_dora': True}, 'use_dora'),
        ({'bias': 'all'}, "bias = 'all'"),
        ({'modules_to_save': ['lm_head']}, 'modules_to_save'),
        ({'rank_pattern': {'q_proj': 4}}, 'rank_pattern'),
        ({'peft_type': 'IA3'}, "peft_type = 'IA3'"),
        ({'target_modules': '.*_proj'}, r"target_modules = '\.\*_proj'"),
        ({'init_lora_weights': 'pissa'}, 'init_lora_weights'),
        ({'invented_later': {'a': 1}}, 'invented_later'),
        ({'target_modules': ['lm_head']}, "'lm_head' is no projection"),
        ({'target_modules': ['q_proj']}, '24 tensors belong to no target'),
        ({'r': 4}, r'q_proj.lora_A.weight is \(3, 32\), not \(4, 32\)'),
    ],
)
def test_adapters_that_mean_something_else_are_refused(
    tmp_path, changes, message
):
  lora_lib.save_peft(tmp_path, _random(), LORA, base_model='')
  _edit(tmp_path, **changes)
  with pytest.raises(ValueError, match=message):
    lora_lib.load_peft(tmp_path, CFG)


def test_a_missing_tensor_is_named(tmp_path):
  lora_lib.save_peft(tmp_path, _random(), LORA, base_model='')
  path = tmp_path / lora_lib.WEIGHTS
  tensors = safetensors.load_file(path)
  name = 'base_model.model.model.layers.1.mlp.up_proj.lora_B.weight'
  del tensors[name]
  safetensors.save_file(tensors, path)
  with pytest.raises(ValueError, match=f'lacks {name}'):
    lora_lib.load_peft(tmp_path, CFG)
