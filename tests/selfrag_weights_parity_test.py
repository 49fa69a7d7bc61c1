"""The conversion of Self-RAG's pickles, as docs/RETRIEVAL.md tells it."""

from __future__ import annotations

import fnmatch
import io
import json
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece

from calm_jax.lm import decoder, tokenizer, weights
from calm_jax.retrieval import selfrag

torch = pytest.importorskip('torch', reason='needs the extra parity')
import huggingface_hub  # noqa: E402
import transformers  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    # Other people's warnings are not this project's errors.
    pytest.mark.filterwarnings('default'),
]

DOCS = pathlib.Path(__file__).parent.parent / 'docs' / 'RETRIEVAL.md'
OLD, NEW = 'selfrag/selfrag_llama2_7b', 'models/selfrag_llama2_7b'
# What its config.json says, but for the sizes.
SHAPE = {
    'bos_token_id': 1,
    'eos_token_id': 2,
    'hidden_size': 32,
    'intermediate_size': 48,
    'max_position_embeddings': 4096,
    'num_attention_heads': 4,
    'num_hidden_layers': 2,
    'num_key_value_heads': 4,
    'pretraining_tp': 1,
    'rms_norm_eps': 1e-05,
    'tie_word_embeddings': False,
    'vocab_size': 32016,
}
# With it their library once refused to save a model.
GENERATION = {'bos_token_id': 1, 'temperature': 0.9, 'top_p': 0.6}


@pytest.fixture
def pickles(tmp_path, monkeypatch):
  """A small Self-RAG as its repository is; returns its state."""
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / OLD
  folder.mkdir(parents=True)
  config = {
      **SHAPE,
      'architectures': ['LlamaForCausalLM'],
      'model_type': 'llama',
      'rope_scaling': None,
      'torch_dtype': 'bfloat16',
      'transformers_version': '4.33.0',
  }
  _write(folder / 'config.json', config)
  _write(folder / 'generation_config.json', GENERATION)
  _tokenizer(folder)
  state = _state()
  names = sorted(state)
  places = {}
  for number, part in enumerate((names[::2], names[1::2]), 1):
    file = f'pytorch_model-{number:05d}-of-00002.bin'
    torch.save({name: state[name] for name in part}, folder / file)
    places |= dict.fromkeys(part, file)
  index = {'metadata': {}, 'weight_map': places}
  _write(folder / 'pytorch_model.bin.index.json', index)
  return state


def _state():
  torch.manual_seed(0)
  model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
  for name, parameter in model.named_parameters():
    torch.nn.init.normal_(parameter, std=0.2)
    if 'norm' in name:
      parameter.data += 1
  state = dict(model.to(torch.bfloat16).state_dict())
  for layer in range(SHAPE['num_hidden_layers']):
    # As checkpoints of its time have, and nobody reads.
    name = f'model.layers.{layer}.self_attn.rotary_emb.inv_freq'
    state[name] = torch.ones(4)
  return state


def _tokenizer(folder):
  pieces = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(['The cat sat on the mat. Where is the cat?']),
      model_writer=pieces,
      vocab_size=400,
      hard_vocab_limit=False,
      model_type='bpe',
      byte_fallback=True,
      minloglevel=2,
  )
  (folder / 'tokenizer.model').write_bytes(pieces.getvalue())
  added = [*sorted(selfrag.TOKENS), '<pad>']
  ids = {name: 32000 + i for i, name in enumerate(added)}
  _write(folder / 'added_tokens.json', ids)
  special = {'bos_token': '<s>', 'eos_token': '</s>', 'pad_token': '<pad>'}
  _write(folder / 'special_tokens_map.json', special)
  _write(folder / 'tokenizer_config.json', special)


def _write(path, value):
  path.write_text(json.dumps(value), encoding='utf-8')


def _download(name, *, local_dir, allow_patterns):
  for path in pathlib.Path(name).iterdir():
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
      target = pathlib.Path(local_dir) / path.name
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(path, target)


def test_the_recipe_of_the_documentation(pickles, tmp_path, monkeypatch):
  recipe = re.search(
      r"python - <<'EOF'\n(.*?)EOF\n", DOCS.read_text('utf-8'), re.DOTALL
  )
  monkeypatch.setattr(huggingface_hub, 'snapshot_download', _download)
  exec(compile(recipe[1], str(DOCS), 'exec'), {})
  folder = tmp_path / NEW
  assert not list(folder.glob('*.bin*'))
  tok = tokenizer.load(folder)
  ids = [tok.id_of(name) for name in sorted(selfrag.TOKENS)]
  assert ids == list(range(32000, 32015))
  cfg = weights.read_config(folder)
  params = weights.load(folder, cfg, dtype='float32')
  tokens_BT = np.random.default_rng(0).integers(0, 32016, (2, 24))
  gap = _ours(cfg, params, tokens_BT) - _theirs(pickles, tokens_BT)
  assert np.abs(gap).max() < 1e-4


def _ours(cfg, params, tokens_BT):
  positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), (2, 24))
  with jax.default_matmul_precision('highest'):
    hidden_BTD, _ = decoder.forward(
        cfg,
        params,
        jnp.asarray(tokens_BT, jnp.int32),
        positions_BT,
        decoder.causal_mask(cfg, positions_BT, positions_BT),
    )
    return np.asarray(decoder.unembed(cfg, params, hidden_BTD))


def _theirs(state, tokens_BT):
  """Of what was pickled, not of what the recipe made of it."""
  model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
  kept = {name: w for name, w in state.items() if 'inv_freq' not in name}
  model.load_state_dict(kept)
  with torch.no_grad():
    logits = model.float().eval()(torch.tensor(tokens_BT)).logits.numpy()
  assert logits.std() > 0.5
  return logits
