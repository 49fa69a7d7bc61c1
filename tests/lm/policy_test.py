"""Loading a folder as a whole."""

from __future__ import annotations

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import decoder, hub, policy, weights

CFG = decoder.DecoderConfig(
    vocab_size=400,
    num_layers=1,
    model_dim=4,
    ffn_dim=6,
    num_heads=2,
    num_kv_heads=1,
    head_dim=2,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=64,
)


def _saved(folder, vocabulary, cfg=CFG):
  params = jax.tree.map(
      lambda x: jnp.asarray(np.full(x.shape, 0.5), x.dtype),
      decoder.abstract(cfg, jnp.float32),
  )
  weights.save(folder, cfg, params)
  shutil.copytree(vocabulary, folder, dirs_exist_ok=True)
  return str(folder)


def test_a_folder_is_loaded_together(tmp_path, vocabularies):
  model = _saved(tmp_path / 'model', vocabularies['bytes'])
  placed = []

  def place(path, array):
    placed.append(path)
    return jnp.asarray(array)

  loaded = policy.load(model, 'main', dtype='bfloat16', place=place)
  assert loaded.cfg == CFG
  assert sorted(placed) == sorted(set(placed))
  assert len(placed) == weights.count(CFG)
  assert loaded.params['layers'][0]['attn']['q_DNH'].dtype == jnp.bfloat16
  assert (
      loaded.tokenizer.decode(loaded.tokenizer.encode('the cat')) == 'the cat'
  )
  assert loaded.folder == tmp_path / 'model'
  assert loaded.identity == hub.identity(loaded.folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path, vocabularies):
  small = dataclasses.replace(CFG, vocab_size=300)
  model = _saved(tmp_path / 'model', vocabularies['bytes'], small)
  with pytest.raises(ValueError, match=r'tokenizer has \d+ ids .* of 300'):
    policy.load(model, 'main', dtype='float32')


def test_a_template_by_name_takes_the_place_of_the_models_own(
    tmp_path, vocabularies
):
  model = _saved(tmp_path / 'model', vocabularies['bytes'])
  loaded = policy.load(model, 'main', dtype='float32', template='selfrag')
  ids = loaded.tokenizer.chat_prompt('Where?')
  text = '### Instruction:\nWhere?\n\n### Response:\n'
  assert loaded.tokenizer.decode(ids) == text
