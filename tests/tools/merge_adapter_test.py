"""Merged folders: ours against the adapter unmerged, and transformers."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import decoder, weights
from calm_jax.lm import lora as lora_lib
from tools import merge_adapter

CFG = decoder.DecoderConfig(
    vocab_size=64,
    num_layers=2,
    model_dim=32,
    ffn_dim=48,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    norm_eps=1e-6,
    rope_theta=1e4,
    max_positions=128,
)
LORA = lora_lib.LoraConfig(3, 6.0, ('q_proj', 'o_proj', 'down_proj'))


def _fill(tree):
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape), jnp.float32),
      tree,
  )


@pytest.fixture
def made(tmp_path):
  """A base model with a tokenizer file, and an adapter of it."""
  params = _fill(decoder.abstract(CFG, jnp.float32))
  weights.save(tmp_path / 'base', CFG, params)
  (tmp_path / 'base' / 'tokenizer.json').write_text('{"made": "up"}')
  key = jax.random.key(0)
  lora = _fill(jax.eval_shape(lambda: lora_lib.init(CFG, LORA, key)))
  base = str(tmp_path / 'base')
  lora_lib.save_peft(tmp_path / 'adapter', lora, LORA, base_model=base)
  return tmp_path


def _main(folder, **changes):
  values = {'adapter': folder / 'adapter', 'out': folder / 'merged', **changes}
  merge_adapter.main([f'--{name}={x}' for name, x in values.items()])


def _weights(folder):
  return weights.load(folder, CFG, dtype='float32')


def test_the_folder_is_whole_and_merged(made):
  _main(made)
  assert sorted(p.name for p in (made / 'merged').iterdir()) == sorted(
      p.name for p in (made / 'base').iterdir()
  )
  lora, _ = lora_lib.load_peft(made / 'adapter', CFG)
  merged = _weights(made / 'merged')
  expected = lora_lib.merge(_weights(made / 'base'), lora, 2.0)
  jax.tree.map(np.testing.assert_array_equal, merged, expected)
  old = _weights(made / 'base')['layers'][1]['attn']['o_NHD']
  assert np.abs(merged['layers'][1]['attn']['o_NHD'] - old).max() > 0.1


def test_another_type(made):
  _main(made, dtype='bfloat16')
  config = json.loads((made / 'merged' / 'config.json').read_text())
  assert config['torch_dtype'] == 'bfloat16'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'out': 'base'}, 'base exists'),
        ({'adapter': 'nowhere'}, 'nowhere'),
        ({'model': 'nowhere/at/all'}, 'nowhere/at/all'),
    ],
)
def test_what_is_wrong_is_said_in_a_line(made, monkeypatch, changes, message):
  monkeypatch.chdir(made)
  with pytest.raises(SystemExit, match=f'merge_adapter: .*{message}'):
    _main(made, **changes)


@pytest.mark.parity
@pytest.mark.filterwarnings('ignore')
def test_transformers_computes_the_same(made):
  torch = pytest.importorskip('torch', reason='parity needs torch')
  peft = pytest.importorskip('peft', reason='parity needs peft')
  transformers = pytest.importorskip('transformers')
  _main(made)
  tokens = torch.arange(18).reshape(2, 9)
  auto = transformers.AutoModelForCausalLM
  with torch.no_grad():
    merged = auto.from_pretrained(made / 'merged')(tokens).logits
    base = auto.from_pretrained(made / 'base')
    plain = base(tokens).logits
    adapted = peft.PeftModel.from_pretrained(base, made / 'adapter')
    unmerged = adapted(tokens).logits
  np.testing.assert_allclose(merged, unmerged, atol=1e-4)
  assert np.abs(merged - plain).max() > 0.1
