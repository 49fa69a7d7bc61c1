"""Models with reflection tokens: what changes, and what must not."""

from __future__ import annotations

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import decoder, policy, tokenizer, weights
from calm_jax.retrieval import selfrag
from tools import add_reflection_tokens

CFG = decoder.DecoderConfig(
    vocab_size=300,  # more rows than the tokenizer has ids
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


def logits(model, ids):
  tokens = jnp.array([ids])
  positions = jnp.arange(len(ids))[None]
  mask = decoder.causal_mask(model.cfg, positions, positions)
  hidden, _ = decoder.forward(model.cfg, model.params, tokens, positions, mask)
  return decoder.unembed(model.cfg, model.params, hidden)[0]


def load(folder):
  return policy.load(str(folder), 'main', dtype='float32')


def test_a_model_gets_the_tokens_and_keeps_the_rest(tiny_model, tmp_path):
  out = tmp_path / 'grown'
  arguments = [f'--model={tiny_model}', f'--out={out}']
  add_reflection_tokens.main(arguments)
  old, new = load(tiny_model), load(out)
  ids = [new.tokenizer.id_of(name) for name in selfrag.TOKENS]
  first = old.tokenizer.vocab_size
  assert ids == list(range(first, first + 15))
  assert new.cfg.vocab_size == new.tokenizer.vocab_size == first + 15
  text = 'Where [Relevant] is it?'
  asked = old.tokenizer.chat_prompt(text)
  assert new.tokenizer.chat_prompt(text) == asked
  np.testing.assert_allclose(
      logits(new, asked)[:, :first], logits(old, asked), atol=1e-5
  )
  rows = np.asarray(new.params['embed_VD'][first:])
  assert len(np.unique(rows[:, 0])) == 15
  with pytest.raises(SystemExit, match='exists; remove it'):
    add_reflection_tokens.main(arguments)


def test_spare_rows_are_used_and_tokens_are_not_added_twice(
    tiny_model, tmp_path
):
  params = decoder.init(CFG, jax.random.key(0), jnp.bfloat16)
  weights.save(tmp_path / 'base', CFG, params)
  for name in ('tokenizer.json', 'tokenizer_config.json'):
    shutil.copyfile(tiny_model / name, tmp_path / 'base' / name)
  first = tokenizer.load(tmp_path / 'base').vocab_size
  added = add_reflection_tokens.add(tmp_path / 'base', tmp_path / 'a', seed=0)
  assert [*added.values()] == list(range(first, first + 15))
  cfg = weights.read_config(tmp_path / 'a')
  assert cfg.vocab_size == 300
  assert add_reflection_tokens.add(tmp_path / 'a', tmp_path / 'b', seed=0) == {}
  again = weights.load(tmp_path / 'b', cfg, dtype='bfloat16')
  np.testing.assert_array_equal(
      again['embed_VD'].astype(jnp.float32)[:first],
      params['embed_VD'].astype(jnp.float32)[:first],
  )


def test_tokens_that_are_only_described_in_the_config_stay(
    tiny_model, tmp_path
):
  """As in folders that transformers saved."""
  base = tmp_path / 'base'
  shutil.copytree(tiny_model, base)
  config = json.loads((base / 'tokenizer_config.json').read_text())
  spec = json.loads((base / 'tokenizer.json').read_text())
  config['added_tokens_decoder'] = {
      str(token.pop('id')): token for token in spec['added_tokens']
  }
  (base / 'tokenizer_config.json').write_text(json.dumps(config))
  add_reflection_tokens.add(base, tmp_path / 'out', seed=0)
  tok = tokenizer.load(tmp_path / 'out')
  assert tok.decode(tok.chat_prompt('x')) == 'user\nx\nassistant\n'
  assert len({tok.id_of(name) for name in selfrag.TOKENS}) == 15


def test_the_names_are_those_of_the_real_tokenizer(real_data):
  folder = real_data / 'tokenizers' / 'selfrag-hf'
  if not folder.is_dir():
    pytest.skip(f'{folder} is not on this machine')
  spec = json.loads((folder / 'tokenizer.json').read_text('utf-8'))
  names = {token['content'] for token in spec['added_tokens']}
  assert names - set(selfrag.TOKENS) == {'<unk>', '<s>', '</s>', '<pad>'}
  assert set(selfrag.TOKENS) < names


@pytest.mark.parity
@pytest.mark.filterwarnings('ignore')
def test_transformers_reads_the_folder(tiny_model, tmp_path):
  torch = pytest.importorskip('torch', reason='parity needs torch')
  transformers = pytest.importorskip('transformers')
  add_reflection_tokens.add(tiny_model, tmp_path / 'out', seed=0)
  ours = load(tmp_path / 'out')
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'out')
  ids = [ours.tokenizer.id_of(name) for name in selfrag.TOKENS]
  assert theirs.convert_tokens_to_ids(list(selfrag.TOKENS)) == ids
  model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'out')
  with torch.no_grad():
    found = model(torch.tensor([ids])).logits[0]
  np.testing.assert_allclose(found, logits(ours, ids), atol=1e-4)
