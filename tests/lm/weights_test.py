"""Weights: which number goes where, strictness, and bitwise round trips."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from calm_jax.lm import decoder, rope, weights

LLAMA = decoder.DecoderConfig(
    vocab_size=11,
    num_layers=2,
    model_dim=6,
    ffn_dim=20,
    num_heads=4,
    num_kv_heads=2,
    head_dim=2,
    norm_eps=1e-5,
    rope_theta=5e5,
    max_positions=64,
)
CONFIGS = {
    'llama': LLAMA,
    'llama scaled and tied': dataclasses.replace(
        LLAMA, rope_scaling=rope.RopeScaling('llama3', 8.0), tied=True
    ),
    'mistral': dataclasses.replace(LLAMA, window=8),
    'qwen2': dataclasses.replace(LLAMA, qkv_bias=True),
}
LAST = 'model.layers.1.mlp.down_proj.weight'
SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'


def _params(cfg, dtype=np.float32):
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: jnp.asarray(rng.standard_normal(x.shape), dtype),
      decoder.abstract(cfg, dtype),
  )


def _saved(folder, cfg=LLAMA, **options):
  params = _params(cfg)
  weights.save(folder, cfg, params, **options)
  return params


def _load(folder, cfg=LLAMA, dtype='float32'):
  return weights.load(folder, cfg, dtype=dtype)


def _assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def _edit(folder, change):
  """Rewrites the one weight file by `change`, a function of its tensors."""
  tensors = safetensors.load_file(folder / SINGLE)
  change(tensors)
  safetensors.save_file(tensors, folder / SINGLE)


def _redirect(folder, change):
  """Rewrites the index by `change`, a function of its weight_map."""
  index = json.loads((folder / INDEX).read_text())
  change(index['weight_map'])
  (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shard_bytes', [10**9, 700], ids=['single', 'sharded'])
@pytest.mark.parametrize('name', CONFIGS)
def test_what_is_saved_is_loaded_bit_by_bit(tmp_path, name, shard_bytes, dtype):
  cfg, folder = CONFIGS[name], tmp_path / 'model'
  params = _params(cfg, jnp.dtype(dtype))
  weights.save(folder, cfg, params, shard_bytes=shard_bytes)
  assert weights.read_config(folder) == cfg
  _assert_same(weights.load(folder, cfg, dtype=dtype), params)
  files = sorted(path.name for path in folder.glob('*.safetensors'))
  if shard_bytes > 700:
    assert files == [SINGLE]
  else:
    count = len(files)
    assert count > 3
    assert files[0] == f'model-00001-of-{count:05d}.safetensors'
  assert [p.name for p in tmp_path.iterdir()] == ['model']


def test_every_number_goes_to_its_place(tmp_path):
  _saved(tmp_path / 'model', CONFIGS['qwen2'])
  theirs = safetensors.load_file(tmp_path / 'model' / SINGLE)
  params = _load(tmp_path / 'model', CONFIGS['qwen2'])
  attn, ffn = params['layers'][1]['attn'], params['layers'][1]['ffn']
  layer = 'model.layers.1.'
  d, n, k, h, f = 5, 3, 1, 1, 7
  head = lambda heads: heads * LLAMA.head_dim + h
  q, kv = head(n), head(k)
  for name, at, ours in (
      ('self_attn.q_proj.weight', (q, d), attn['q_DNH'][d, n, h]),
      ('self_attn.k_proj.weight', (kv, d), attn['k_DKH'][d, k, h]),
      ('self_attn.v_proj.weight', (kv, d), attn['v_DKH'][d, k, h]),
      ('self_attn.o_proj.weight', (d, q), attn['o_NHD'][n, h, d]),
      ('self_attn.q_proj.bias', (q,), attn['q_bias_NH'][n, h]),
      ('self_attn.k_proj.bias', (kv,), attn['k_bias_KH'][k, h]),
      ('self_attn.v_proj.bias', (kv,), attn['v_bias_KH'][k, h]),
      ('mlp.gate_proj.weight', (f, d), ffn['gate_DF'][d, f]),
      ('mlp.up_proj.weight', (f, d), ffn['up_DF'][d, f]),
      ('mlp.down_proj.weight', (d, f), ffn['down_FD'][f, d]),
      ('input_layernorm.weight', (d,), params['layers'][1]['attn_norm_D'][d]),
      (
          'post_attention_layernorm.weight',
          (d,),
          params['layers'][1]['ffn_norm_D'][d],
      ),
  ):
    assert theirs[layer + name][at] == ours, name
  assert theirs['model.embed_tokens.weight'][9, d] == params['embed_VD'][9, d]
  assert theirs['lm_head.weight'][9, d] == params['head_DV'][d, 9]
  assert theirs['model.norm.weight'][d] == params['norm_D'][d]


@pytest.mark.parametrize('stored', [np.float16, ml_dtypes.bfloat16, np.float32])
def test_any_float_type_is_cast(tmp_path, stored):
  _saved(tmp_path / 'model')

  def cast(tensors):
    for name, array in tensors.items():
      tensors[name] = array.astype(stored)

  _edit(tmp_path / 'model', cast)
  params = _load(tmp_path / 'model', dtype='bfloat16')
  assert {str(x.dtype) for x in jax.tree.leaves(params)} == {'bfloat16'}
  wanted = np.asarray(_params(LLAMA)['norm_D']).astype(stored)
  np.testing.assert_array_equal(
      params['norm_D'], wanted.astype(ml_dtypes.bfloat16)
  )


def test_each_tensor_is_placed_as_it_is_read(tmp_path):
  expected = _saved(tmp_path / 'model')
  placed = {}

  def place(path, array):
    assert isinstance(array, np.ndarray)
    placed[path] = str(array.dtype)
    return jnp.asarray(array) + 1

  params = weights.load(
      tmp_path / 'model', LLAMA, dtype='bfloat16', place=place
  )
  assert len(placed) == weights.count(LLAMA) == len(jax.tree.leaves(expected))
  assert 'layers/1/attn/q_DNH' in placed
  assert set(placed.values()) == {'bfloat16'}
  _assert_same(
      params, jax.tree.map(lambda x: x.astype(jnp.bfloat16) + 1, expected)
  )


def _pop(name):
  return lambda tensors: tensors.pop(name)


def _put(name, array):
  return lambda tensors: tensors.update({name: array})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (_pop('lm_head.weight'), 'lacks 1 tensors.*lm_head.weight'),
        (_put('model.extra', np.ones(2)), 'unexpected 1 tensors.*model.extra'),
        (
            _put('model.layers.2.mlp.up_proj.weight', np.ones((20, 6))),
            r'unexpected 1 tensors.*layers\.2\.',
        ),
        (
            _put('model.layers.0.self_attn.q_proj.bias', np.ones(8)),
            'unexpected 1 tensors.*q_proj.bias',
        ),
        (
            _put('model.embed_tokens.weight', np.ones((12, 6), np.float32)),
            r'embed_tokens.weight has shape \(12, 6\).*\(11, 6\)',
        ),
        (
            _put(
                'model.layers.0.mlp.up_proj.weight',
                np.ones((6, 20), np.float32),
            ),
            r'shape \(6, 20\).*\(20, 6\)',
        ),
        (_put('model.norm.weight', np.ones(6, np.int8)), 'norm.weight is I8'),
    ],
)
def test_other_tensors_than_the_models_are_refused(tmp_path, change, message):
  _saved(tmp_path / 'model')
  _edit(tmp_path / 'model', change)
  with pytest.raises(ValueError, match=message):
    _load(tmp_path / 'model')


def test_harmless_extras_are_let_through(tmp_path):
  cfg = CONFIGS['llama scaled and tied']
  expected = _saved(tmp_path / 'model', cfg)
  _edit(
      tmp_path / 'model',
      lambda tensors: tensors.update(
          {
              'lm_head.weight': tensors['model.embed_tokens.weight'],
              'model.layers.0.self_attn.rotary_emb.inv_freq': np.ones(1),
          }
      ),
  )
  _assert_same(_load(tmp_path / 'model', cfg), expected)


@pytest.mark.parametrize(
    'file',
    [
        '../outside.safetensors',
        '/tmp/outside.safetensors',
        'sub/inside.safetensors',
        'sub\\inside.safetensors',
        '..',
        '.hidden.safetensors',
        'model.bin',
        7,
    ],
)
def test_an_index_may_name_files_of_its_folder_only(tmp_path, file):
  _saved(tmp_path / 'model', shard_bytes=700)
  for outside in (tmp_path, tmp_path / 'model' / 'sub'):
    outside.mkdir(exist_ok=True)
    for name in ('outside.safetensors', 'inside.safetensors'):
      safetensors.save_file({'model.norm.weight': np.ones(6)}, outside / name)
  _redirect(tmp_path / 'model', _put('model.norm.weight', file))
  with pytest.raises(
      ValueError, match=r'norm\.weight into .* not the plain name'
  ):
    _load(tmp_path / 'model')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (_put('model.norm.weight', 'gone.safetensors'), 'lacks gone.safetens'),
        (
            lambda m: m.update({'model.norm.weight': m[LAST]}),
            'disagrees with model-.* 1 tensors: model.norm',
        ),
        (_pop('model.norm.weight'), 'disagrees with .* model.norm.weight'),
        (lambda weight_map: weight_map.clear(), 'lacks the field weight_map'),
    ],
)
def test_an_index_must_agree_with_its_files(tmp_path, change, message):
  _saved(tmp_path / 'model', shard_bytes=700)
  _redirect(tmp_path / 'model', change)
  with pytest.raises(ValueError, match=message):
    _load(tmp_path / 'model')


def test_a_folder_with_pickles_only_gets_a_remedy(tmp_path):
  (tmp_path / 'pytorch_model.bin').write_bytes(b'\x80')
  with pytest.raises(ValueError, match=r'never from pickles.*save_pretrained'):
    _load(tmp_path)


def test_half_a_download_is_refused(tmp_path):
  _saved(tmp_path / 'model')
  path = tmp_path / 'model' / SINGLE
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match=r'model\.safetensors: not a whole'):
    _load(tmp_path / 'model')


def test_a_folder_without_a_config_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'config\.json: no such file'):
    weights.read_config(tmp_path)
  (tmp_path / 'config.json').write_text('[]')
  with pytest.raises(ValueError, match='not a JSON object but list'):
    weights.read_config(tmp_path)


def test_the_config_of_the_original_is_kept(tmp_path):
  _saved(tmp_path / 'model')
  base = json.loads((tmp_path / 'model' / 'config.json').read_text())
  base |= {'dtype': 'float16', 'transformers_version': '5.0.0'}
  _saved(tmp_path / 'copy', base_config=base)
  written = json.loads((tmp_path / 'copy' / 'config.json').read_text())
  del base['dtype']
  assert written == base | {'torch_dtype': 'float32'}
  with pytest.raises(ValueError, match='base_config is not of this model'):
    _saved(tmp_path / 'other', base_config=base | {'rope_theta': 1e4})


def test_a_folder_is_never_overwritten_nor_half_written(tmp_path):
  params = _saved(tmp_path / 'model')
  with pytest.raises(ValueError, match='exists; remove it'):
    _saved(tmp_path / 'model')
  params['layers'][1]['ffn']['down_FD'] = np.ones((20, 6), np.int8)
  with pytest.raises(KeyError):
    weights.save(tmp_path / 'bad', LLAMA, params)
  assert not (tmp_path / 'bad').exists()
