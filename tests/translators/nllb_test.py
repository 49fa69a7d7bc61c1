"""Tiny random CTranslate2 models, made without torch."""

from __future__ import annotations

import json

from ml_collections import ConfigDict
import numpy as np
import pytest

from calm_jax import translators
from calm_jax.translators import nllb

ctranslate2 = pytest.importorskip(
    'ctranslate2', reason='needs the extra translate'
)
sentencepiece = pytest.importorskip('sentencepiece')

WIDTH = 16
CORPUS = ['the cat drinks water', 'le chat boit de l eau', 'a dog', 'un chien']
SPECIAL = ['<s>', '<pad>', '</s>', '<unk>']


def _weights(layer, rng):
  """Fills every weight that a specification asks for at random."""
  from ctranslate2.specs import transformer_spec

  del transformer_spec
  shapes = {}

  def fill(spec, name, value):
    if value is None:
      shapes[name] = spec

  layer._visit(fill)
  for name, spec in shapes.items():
    leaf = name.rsplit('/', 1)[1]
    setattr(spec, leaf, _array(name, rng))


def _array(name, rng):
  draw = lambda *shape: rng.normal(0, 0.7, shape).astype(np.float32)
  if name.endswith('gamma'):
    return np.ones(WIDTH, np.float32)
  if name.endswith('beta'):
    return np.zeros(WIDTH, np.float32)
  if 'embeddings' in name or 'projection' in name:
    return draw(_array.vocabulary, WIDTH)
  rows = {
      'self_attention/linear_0': 3 * WIDTH,
      'attention/linear_1': 2 * WIDTH,
  }
  if 'self_attention/linear_1' not in name:
    for end, size in rows.items():
      if end in name:
        return draw(size, WIDTH)
  return draw(WIDTH, WIDTH)


@pytest.fixture(scope='module')
def pieces(tmp_path_factory):
  path = tmp_path_factory.mktemp('pieces') / 'tiny'
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(CORPUS * 5),
      model_prefix=str(path),
      vocab_size=40,
      model_type='bpe',
      minloglevel=2,
  )
  return path.with_suffix('.model')


def _model(folder, pieces, *, seed, extra, names):
  """A model folder as a converter leaves it, with its tokenizer's files."""
  from ctranslate2.specs import transformer_spec

  text = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
  own = [text.id_to_piece(i) for i in range(text.get_piece_size())]
  tokens = SPECIAL + [t for t in own if t not in SPECIAL] + extra
  _array.vocabulary = len(tokens)
  spec = transformer_spec.TransformerSpec.from_config((1, 1), 2)
  _weights(spec, np.random.default_rng(seed))
  spec.register_source_vocabulary(tokens)
  spec.register_target_vocabulary(tokens)
  spec.validate()
  folder.mkdir(parents=True)
  spec.save(str(folder))
  for name in names:
    (folder / name).write_bytes(pieces.read_bytes())
  return folder


@pytest.fixture(scope='module')
def multilingual(tmp_path_factory, pieces):
  return _model(
      tmp_path_factory.mktemp('nllb') / 'model',
      pieces,
      seed=0,
      extra=list(nllb.CODES.values()),
      names=['sentencepiece.bpe.model'],
  )


@pytest.fixture(scope='module')
def pairs(tmp_path_factory, pieces):
  folder = tmp_path_factory.mktemp('opus')
  for seed, name in enumerate(('en-fr', 'en-zh')):
    extra = ['>>cmn_Hans<<'] if name == 'en-zh' else []
    names = ['source.spm', 'target.spm']
    _model(folder / name, pieces, seed=seed, extra=extra, names=names)
  return folder


def _by_hand(folder, pieces, text, start, prefix):
  """What CTranslate2's own documentation says to do."""
  model = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
  engine = ctranslate2.Translator(str(folder), device='cpu')
  (answer,) = engine.translate_batch(
      [[*start, *model.encode(text, out_type=str), '</s>']],
      target_prefix=[prefix],
      beam_size=4,
      max_decoding_length=800,
      disable_unk=True,
  )
  words = answer.hypotheses[0][len(prefix or ()) :]
  # No end was found: that is a failure for us.
  whole = len(answer.hypotheses[0]) < 800
  return (model.decode_pieces(words).strip() or None) if whole else None


def _local(folder):
  return nllb.Local(folder, device='cpu')


def test_nllb_is_told_both_languages(multilingual, pieces):
  translator = _local(multilingual)
  texts = ['the cat', 'a dog', 'un chien', 'water']
  seen = set()
  for source, target in (('en', 'fr'), ('fr', 'en'), ('en', 'zh')):
    done = translator.translate(texts, source, target)
    expected = [
        _by_hand(
            multilingual,
            pieces,
            text,
            [nllb.CODES[source]],
            [nllb.CODES[target]],
        )
        for text in texts
    ]
    assert done == expected
    assert any(done)
    seen.add(tuple(done))
  assert len(seen) == 3


def test_opus_has_a_folder_a_direction_and_a_mark_where_it_knows_one(
    pairs, pieces
):
  translator = _local(pairs)
  for name, start in (('en-fr', []), ('en-zh', ['>>cmn_Hans<<'])):
    source, target = name.split('-')
    for text in ('the cat', 'a dog'):
      expected = _by_hand(pairs / name, pieces, text, start, None)
      assert translator.translate([text], source, target) == [expected]
  assert not translator.supports('fr', 'en')
  assert translator.translate(['chat'], 'fr', 'en') == [None]


def test_sentences_are_translated_alone_and_joined(multilingual):
  translator = _local(multilingual)
  one, two = translator.translate(['The cat.', 'A dog?'], 'en', 'fr')
  both = translator.translate(['The cat. A dog?\nThe cat.'], 'en', 'fr')
  if one and two:
    assert both == [f'{one} {two}\n{one}']
  else:
    assert both == [None]


def test_what_cannot_be_done_is_none(multilingual):
  translator = _local(multilingual)
  assert translator.translate(['', '  '], 'en', 'fr') == [None, None]
  assert translator.translate(['cat ' * 600], 'en', 'fr') == [None]
  assert not translator.supports('en', 'en')
  assert not translator.supports('en', 'xx')


def test_the_version_is_the_content(multilingual, pairs, tmp_path):
  first = _local(multilingual).version
  copy = tmp_path / 'copy'
  copy.mkdir()
  for path in multilingual.iterdir():
    (copy / path.name).write_bytes(path.read_bytes())
  assert _local(copy).version == first
  (copy / 'sentencepiece.bpe.model').write_bytes(b'other')
  assert _local(copy).version != first
  assert _local(pairs).version not in (first, _local(copy).version)


def test_a_folder_without_a_model_is_a_problem(tmp_path, multilingual, pairs):
  assert 'no model' in str(nllb.problem(''))
  assert 'no model' in str(nllb.problem(str(tmp_path)))
  assert nllb.problem(str(multilingual)) is None
  assert nllb.problem(str(pairs)) is None


def test_a_model_without_its_tokenizer_names_the_files(tmp_path, multilingual):
  for path in multilingual.iterdir():
    if path.name != 'sentencepiece.bpe.model':
      (tmp_path / path.name).write_bytes(path.read_bytes())
  with pytest.raises(FileNotFoundError, match=r'source\.spm.*TRANSLATION'):
    _local(tmp_path).translate(['cat'], 'en', 'fr')


def test_the_other_form_of_tokenizer_gives_the_same(tmp_path, multilingual):
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers

  folder = tmp_path / 'fast'
  folder.mkdir()
  for path in multilingual.iterdir():
    if path.name != 'sentencepiece.bpe.model':
      (folder / path.name).write_bytes(path.read_bytes())
  tokens = json.loads((folder / 'shared_vocabulary.json').read_text())
  vocabulary = {token: i for i, token in enumerate(tokens)}
  # Single characters: not the pieces above, but what we hand on is known.
  fast = tokenizers.Tokenizer(
      models.BPE(vocab=vocabulary, merges=[], unk_token='<unk>')
  )
  fast.pre_tokenizer = pre_tokenizers.Metaspace()
  fast.decoder = decoders.Metaspace()
  fast.save(str(folder / 'tokenizer.json'))
  text = nllb._read_text(folder)
  assert text.encode('a cat') == ['▁', 'a', '▁', 'c', 'a', 't']
  assert text.decode(['▁', 'a', '▁', 'c', 'a', 't']) == 'a cat'
  assert len(_local(folder).translate(['a cat'], 'en', 'fr')) == 1


def test_build_gives_it_a_cache(multilingual, tmp_path):
  cfg = ConfigDict(
      {'translate': {'backend': 'nllb', 'path': str(multilingual)}}
  )
  built = translators.build(cfg, tmp_path)
  assert nllb.depends(cfg) == {'translator': built.version}
  done = built.translate(['the cat'], 'en', 'fr')
  assert done == _local(multilingual).translate(['the cat'], 'en', 'fr')
