"""The decoder against transformers: tiny models of every family, a real one."""

from __future__ import annotations

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calm_jax.lm import decoder, policy, weights

torch = pytest.importorskip('torch', reason='needs the extra parity')
import transformers  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    # Other people's warnings are not this project's errors.
    pytest.mark.filterwarnings('default'),
]

ROOT = pathlib.Path(__file__).parents[2]
MODEL = ROOT / 'models' / 'smollm2-135m-instruct'
SMALL = {
    'vocab_size': 96,
    'hidden_size': 32,
    'intermediate_size': 48,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'max_position_embeddings': 256,
    # Large enough that another epsilon shows.
    'rms_norm_eps': 1e-3,
    'tie_word_embeddings': False,
}
LLAMA3_ROPE = {
    'rope_type': 'llama3',
    'rope_theta': 500000.0,
    'factor': 8.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 32,
}
MODELS = {
    'llama 2': ('llama', {'num_key_value_heads': 4}),
    'self-rag': ('llama', {'num_key_value_heads': 4, 'vocab_size': 103}),
    'llama 3': (
        'llama',
        {'num_key_value_heads': 2, 'rope_parameters': {'rope_theta': 500000.0}},
    ),
    'llama 3.1': (
        'llama',
        {'num_key_value_heads': 2, 'rope_parameters': LLAMA3_ROPE},
    ),
    'llama 3.2': (
        'llama',
        {
            'num_key_value_heads': 1,
            'head_dim': 16,
            'rope_parameters': LLAMA3_ROPE | {'factor': 32.0},
            'tie_word_embeddings': True,
        },
    ),
    'llama, linear scaling': (
        'llama',
        {'rope_parameters': {'rope_type': 'linear', 'factor': 4.0}},
    ),
    'mistral v0.1': (
        'mistral',
        {'num_key_value_heads': 2, 'sliding_window': 8},
    ),
    'mistral v0.2': (
        'mistral',
        {
            'num_key_value_heads': 2,
            'sliding_window': None,
            'rope_parameters': {'rope_theta': 1000000.0},
        },
    ),
    'mistral v0.3': (
        'mistral',
        {
            'num_key_value_heads': 2,
            'sliding_window': None,
            'vocab_size': 112,
            'rope_parameters': {'rope_theta': 1000000.0},
        },
    ),
    'qwen 2': (
        'qwen2',
        {'num_key_value_heads': 2, 'tie_word_embeddings': True},
    ),
    'qwen 2.5': (
        'qwen2',
        {
            'num_key_value_heads': 2,
            'rms_norm_eps': 1e-6,
            'rope_parameters': {'rope_theta': 1000000.0},
        },
    ),
    'qwen 2 with windows': (
        'qwen2',
        {
            'num_key_value_heads': 2,
            'use_sliding_window': True,
            'sliding_window': 8,
            'max_window_layers': 0,
        },
    ),
}
ROWS, LENGTH = 3, 40
LENGTHS_B = np.asarray([40, 17, 29])


@pytest.fixture(autouse=True, scope='module')
def _exact():
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  with jax.default_matmul_precision('highest'), torch.no_grad():
    yield
  torch.set_num_threads(threads)


@functools.cache
def _theirs(name):
  """A random model whose every number matters: biases and norms too."""
  family, settings = MODELS[name]
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(
      transformers.AutoConfig.for_model(family, **(SMALL | settings)),
      attn_implementation='eager',
  ).eval()
  for parameter_name, parameter in model.named_parameters():
    torch.nn.init.normal_(parameter, std=0.2)
    if 'norm' in parameter_name:
      parameter.data += 1
  return model


@pytest.fixture(params=MODELS)
def models(request, tmp_path):
  """Theirs, and ours loaded from what theirs saved."""
  theirs = _theirs(request.param)
  theirs.save_pretrained(tmp_path / 'model')
  cfg = weights.read_config(tmp_path / 'model')
  params = weights.load(tmp_path / 'model', cfg, dtype='float32')
  return theirs, cfg, params


@functools.partial(jax.jit, static_argnums=0)
def _ours(cfg, params, tokens_BT, positions_BT, valid_BT):
  mask_BTS = decoder.causal_mask(cfg, positions_BT, positions_BT)
  mask_BTS &= valid_BT[:, None, :]
  hidden_BTD, _ = decoder.forward(
      cfg, params, tokens_BT, positions_BT, mask_BTS
  )
  return decoder.unembed(cfg, params, hidden_BTD)


def _padded(side):
  """Which tokens are real, and the position of each."""
  at_BT = np.broadcast_to(np.arange(LENGTH), (ROWS, LENGTH))
  if side == 'none':
    return np.ones((ROWS, LENGTH), bool), at_BT
  if side == 'right':
    return at_BT < LENGTHS_B[:, None], at_BT
  first_B1 = (LENGTH - LENGTHS_B)[:, None]
  return at_BT >= first_B1, np.maximum(at_BT - first_B1, 0)


def test_logits_are_theirs(models):
  theirs, cfg, params = models
  rng = np.random.default_rng(0)
  tokens_BT = rng.integers(0, cfg.vocab_size, (ROWS, LENGTH))
  for side in ('none', 'left', 'right'):
    valid_BT, positions_BT = _padded(side)
    expected_BTV = theirs(
        input_ids=torch.tensor(tokens_BT),
        attention_mask=torch.tensor(valid_BT.astype(int)),
        position_ids=torch.tensor(positions_BT),
    ).logits.numpy()
    logits_BTV = np.asarray(
        _ours(
            cfg,
            params,
            jnp.asarray(tokens_BT, jnp.int32),
            jnp.asarray(positions_BT, jnp.int32),
            jnp.asarray(valid_BT),
        )
    )
    # Logits that hardly differ from each other would agree by chance.
    assert expected_BTV[valid_BT].std() > 0.5
    gap = np.abs(logits_BTV - expected_BTV)[valid_BT].max()
    assert gap < 1e-4, f'{side} padding: {gap}'


@pytest.mark.parametrize('shard_bytes', [10**9, 20_000])
def test_transformers_loads_what_we_save(models, tmp_path, shard_bytes):
  theirs, cfg, params = models
  weights.save(tmp_path / 'ours', cfg, params, shard_bytes=shard_bytes)
  again, report = transformers.AutoModelForCausalLM.from_pretrained(
      tmp_path / 'ours', output_loading_info=True
  )
  assert not any(report.values()), report
  expected, found = theirs.state_dict(), again.state_dict()
  assert found.keys() == expected.keys()
  for name, tensor in expected.items():
    assert torch.equal(found[name], tensor), name
  tokens_BT = torch.arange(2 * LENGTH).reshape(2, LENGTH)
  again.set_attn_implementation('eager')
  assert torch.equal(again(tokens_BT).logits, theirs(tokens_BT).logits)


QUESTIONS = {
    'en': 'Why does the moon always show us the same face? Explain briefly.',
    'fr': 'Pourquoi la mer est-elle salée ? Réponds en deux phrases.',
    'zh': '为什么天空是蓝色的？请简单地解释一下。',
}
NEW_TOKENS = 48


@pytest.fixture(scope='module')
def real():
  if not MODEL.is_dir():
    pytest.skip('the model is missing: run python -m tools.fetch_demo_model')
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
      MODEL, dtype=torch.float32
  ).eval()
  # Both go on after a stop token: an early one would compare too little.
  theirs.generation_config.eos_token_id = None
  return theirs, policy.load(str(MODEL), 'main', dtype='float32')


@functools.partial(jax.jit, static_argnums=0, donate_argnums=4)
def _next(cfg, params, tokens_1T, positions_1T, cache, last):
  """The most likely token after the one at `last`."""
  keys_1S = jnp.arange(cache.v_BKSH[0].shape[2])[None]
  mask_1TS = decoder.causal_mask(cfg, positions_1T, keys_1S)
  hidden_1TD, cache = decoder.forward(
      cfg, params, tokens_1T, positions_1T, mask_1TS, cache=cache
  )
  logits_1V = decoder.unembed(cfg, params, hidden_1TD[:, last])
  return jnp.argmax(logits_1V, axis=-1), cache


def _greedy(model, prompt):
  """Padding behind the prompt is overwritten before anything can see it."""
  width = 128
  assert len(prompt) <= width
  cache = decoder.empty_cache(model.cfg, 1, width + NEW_TOKENS, jnp.float32)
  tokens_1T = jnp.asarray([prompt + [0] * (width - len(prompt))])
  at_1T = jnp.arange(width)[None]
  run = functools.partial(_next, model.cfg, model.params)
  token, cache = run(tokens_1T, at_1T, cache, len(prompt) - 1)
  out = [int(token[0])]
  for at in range(len(prompt), len(prompt) + NEW_TOKENS - 1):
    token, cache = run(token[:, None], jnp.asarray([[at]]), cache, 0)
    out.append(int(token[0]))
  return out


@pytest.mark.slow
@pytest.mark.parametrize('lang', QUESTIONS)
def test_a_real_model_continues_as_theirs(real, lang):
  theirs, ours = real
  message = {'role': 'user', 'content': QUESTIONS[lang]}
  prompt = ours.tokenizer.chat([message], add_generation_prompt=True)
  expected = theirs.generate(
      torch.tensor([prompt]),
      attention_mask=torch.ones((1, len(prompt)), dtype=torch.int64),
      do_sample=False,
      max_new_tokens=NEW_TOKENS,
  )[0, len(prompt) :].tolist()
  assert len(expected) == NEW_TOKENS
  assert _greedy(ours, prompt) == expected
