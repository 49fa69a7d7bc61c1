"""config.json of the published models, old and new style, and refusals."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from calm_jax.lm import config
from calm_jax.lm.decoder import DecoderConfig
from calm_jax.lm.rope import RopeScaling

PATH = pathlib.Path('model/config.json')

LLAMA_2_7B = {
    'architectures': ['LlamaForCausalLM'],
    'model_type': 'llama',
    'hidden_act': 'silu',
    'hidden_size': 4096,
    'intermediate_size': 11008,
    'max_position_embeddings': 4096,
    'num_attention_heads': 32,
    'num_hidden_layers': 32,
    'num_key_value_heads': 32,
    'rms_norm_eps': 1e-05,
    'rope_scaling': None,
    'tie_word_embeddings': False,
    'vocab_size': 32000,
}
LLAMA_2 = DecoderConfig(
    vocab_size=32000,
    num_layers=32,
    model_dim=4096,
    ffn_dim=11008,
    num_heads=32,
    num_kv_heads=32,
    head_dim=128,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=4096,
)
LLAMA3_ROPE = {
    'factor': 32.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 8192,
    'rope_type': 'llama3',
}
MISTRAL = LLAMA_2_7B | {
    'architectures': ['MistralForCausalLM'],
    'model_type': 'mistral',
    'num_key_value_heads': 8,
    'intermediate_size': 14336,
}
OF_MISTRAL = dataclasses.replace(LLAMA_2, num_kv_heads=8, ffn_dim=14336)
QWEN2 = LLAMA_2_7B | {
    'architectures': ['Qwen2ForCausalLM'],
    'model_type': 'qwen2',
    'rms_norm_eps': 1e-06,
    'use_sliding_window': False,
    'sliding_window': 32768,
    'max_window_layers': 28,
    'rope_theta': 1000000.0,
}
OF_QWEN2 = dataclasses.replace(
    LLAMA_2, norm_eps=1e-6, rope_theta=1e6, qkv_bias=True
)

CASES = {
    'llama-2': ({}, LLAMA_2_7B, LLAMA_2),
    'self-rag': (
        {'vocab_size': 32016, 'rope_theta': 10000.0},
        LLAMA_2_7B,
        dataclasses.replace(LLAMA_2, vocab_size=32016),
    ),
    'llama-3': (
        {'num_key_value_heads': 8, 'rope_theta': 500000.0},
        LLAMA_2_7B,
        dataclasses.replace(LLAMA_2, num_kv_heads=8, rope_theta=5e5),
    ),
    'llama-3.2': (
        {
            'head_dim': 64,
            'rope_scaling': LLAMA3_ROPE,
            'rope_theta': 500000.0,
            'tie_word_embeddings': True,
        },
        LLAMA_2_7B,
        dataclasses.replace(
            LLAMA_2,
            head_dim=64,
            rope_theta=5e5,
            rope_scaling=RopeScaling('llama3', 32.0, 1.0, 4.0, 8192),
            tied=True,
        ),
    ),
    'llama-3.2 of transformers 5': (
        {'rope_parameters': LLAMA3_ROPE | {'rope_theta': 500000.0}},
        LLAMA_2_7B,
        dataclasses.replace(
            LLAMA_2,
            rope_theta=5e5,
            rope_scaling=RopeScaling('llama3', 32.0, 1.0, 4.0, 8192),
        ),
    ),
    'no scaling in transformers 5': (
        {'rope_parameters': {'rope_theta': 5e5, 'rope_type': 'default'}},
        LLAMA_2_7B,
        dataclasses.replace(LLAMA_2, rope_theta=5e5),
    ),
    'linear scaling, legacy name': (
        {'rope_scaling': {'type': 'linear', 'factor': 2}},
        LLAMA_2_7B,
        dataclasses.replace(LLAMA_2, rope_scaling=RopeScaling('linear', 2.0)),
    ),
    'defaults of old llama files': (
        {'num_key_value_heads': None, 'rms_norm_eps': None},
        LLAMA_2_7B,
        dataclasses.replace(LLAMA_2, norm_eps=1e-6),
    ),
    'no model_type': ({'model_type': None}, LLAMA_2_7B, LLAMA_2),
    'mistral v0.1': (
        {'sliding_window': 4096},
        MISTRAL,
        dataclasses.replace(OF_MISTRAL, window=4096),
    ),
    'mistral without the field': (
        {},
        MISTRAL,
        dataclasses.replace(OF_MISTRAL, window=4096),
    ),
    'mistral v0.2': (
        {'sliding_window': None, 'rope_theta': 1000000.0},
        MISTRAL,
        dataclasses.replace(OF_MISTRAL, rope_theta=1e6),
    ),
    'qwen2': ({}, QWEN2, OF_QWEN2),
    'qwen2, a window in no layer': (
        {'use_sliding_window': True, 'max_window_layers': 32},
        QWEN2,
        OF_QWEN2,
    ),
    'qwen2, a window in every layer': (
        {'use_sliding_window': True, 'max_window_layers': 0},
        QWEN2,
        dataclasses.replace(OF_QWEN2, window=32768),
    ),
    'qwen2, a window by layer_types': (
        {
            'use_sliding_window': True,
            'layer_types': ['sliding_attention'] * 32,
        },
        QWEN2,
        dataclasses.replace(OF_QWEN2, window=32768),
    ),
}

REFUSED = {
    'hidden_size': (
        LLAMA_2_7B | {'hidden_size': None},
        "lacks .*'hidden_size'",
    ),
    'a fraction': (LLAMA_2_7B | {'vocab_size': 3.5}, 'vocab_size 3.5'),
    'true': (LLAMA_2_7B | {'num_hidden_layers': True}, 'num_hidden_layers'),
    'nan': (LLAMA_2_7B | {'rms_norm_eps': float('nan')}, 'rms_norm_eps nan'),
    'text': (LLAMA_2_7B | {'rope_theta': '1e6'}, "rope_theta '1e6'"),
    'not a bool': (LLAMA_2_7B | {'tie_word_embeddings': 1}, 'tie_word_emb'),
    'family': (
        LLAMA_2_7B | {'architectures': None, 'model_type': 'gemma'},
        "model_type 'gemma' is not supported; known: .*'qwen2'",
    ),
    'head': (
        LLAMA_2_7B | {'architectures': ['LlamaForSequenceClassification']},
        'architectures .*LlamaForSequenceClassification',
    ),
    'gelu': (LLAMA_2_7B | {'hidden_act': 'gelu'}, "hidden_act 'gelu'"),
    'mlp_bias': (LLAMA_2_7B | {'mlp_bias': True}, 'mlp_bias True'),
    'o bias': (LLAMA_2_7B | {'attention_bias': True}, 'attention_bias True'),
    'quantised': (
        LLAMA_2_7B | {'quantization_config': {'quant_method': 'awq'}},
        'quantization_config .*awq',
    ),
    'yarn': (
        LLAMA_2_7B | {'rope_scaling': {'rope_type': 'yarn', 'factor': 4.0}},
        "config.json, rope_scaling: rope_type 'yarn' is not supported",
    ),
    'dynamic': (
        LLAMA_2_7B | {'rope_scaling': {'type': 'dynamic', 'factor': 4.0}},
        "rope_scaling: type 'dynamic'",
    ),
    'longrope': (
        LLAMA_2_7B | {'rope_parameters': {'rope_type': 'longrope'}},
        "rope_parameters: rope_type 'longrope'",
    ),
    'half of a head': (
        LLAMA_2_7B | {'rope_parameters': {'partial_rotary_factor': 0.5}},
        'partial_rotary_factor 0.5',
    ),
    'no factor': (
        LLAMA_2_7B | {'rope_scaling': {'rope_type': 'linear'}},
        "rope_scaling: lacks the field 'factor'",
    ),
    'kv heads': (LLAMA_2_7B | {'num_key_value_heads': 5}, 'does not divide 32'),
    'odd head': (LLAMA_2_7B | {'head_dim': 127}, 'odd'),
    'some layers': (
        QWEN2 | {'use_sliding_window': True},
        'use_sliding_window True for 4 of 32 layers',
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_published_configs_are_understood(name):
  edit, base, expected = CASES[name]
  assert config.from_json(base | edit, PATH) == expected


@pytest.mark.parametrize('name', REFUSED)
def test_what_the_decoder_does_not_compute_is_refused(name):
  values, message = REFUSED[name]
  with pytest.raises(ValueError, match=message) as caught:
    config.from_json(values, PATH)
  assert str(caught.value).startswith(str(PATH))


@pytest.mark.parametrize('name', CASES)
def test_a_written_config_is_read_back(name):
  expected = CASES[name][2]
  assert config.from_json(config.to_json(expected), PATH) == expected
