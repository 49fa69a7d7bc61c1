"""A tiny NLLB, converted by CTranslate2's own tool, against transformers."""

from __future__ import annotations

import pytest

from calm_jax.translators import nllb

pytestmark = pytest.mark.parity
ctranslate2 = pytest.importorskip(
    'ctranslate2', reason='needs the extra translate'
)
torch = pytest.importorskip('torch', reason='needs the extra parity')
transformers = pytest.importorskip('transformers')

# Random weights never come to an end: the model learns these few by heart.
TAUGHT = {
    'fr': {'the cat': 'le chat', 'a dog': 'un chien', 'tin hat': 'casque'},
    'zh': {'the cat': 'mao', 'a dog': 'gou', 'tin hat': 'kui'},
}
TEXTS = ['the cat', 'a dog', 'tin hat', 'the dog', 'hat']


def _tokenizer():
  special = ['<s>', '<pad>', '</s>', '<unk>']
  letters = ['▁', *'abcdefghijklmnopqrstuvwxyz']
  merges = [('▁', 't'), ('h', 'e'), ('▁t', 'he'), ('a', 't')]
  tokens = special + letters + [a + b for a, b in merges]
  # Every direction's code is added by the class itself.
  return transformers.NllbTokenizer(
      vocab={token: i for i, token in enumerate(tokens)},
      merges=merges,
      src_lang='eng_Latn',
      tgt_lang='fra_Latn',
  )


def _train(model, tokenizer):
  optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
  rows = []
  for target, taught in TAUGHT.items():
    code = tokenizer.convert_tokens_to_ids(nllb.CODES[target])
    for text, said in taught.items():
      words = tokenizer(said, add_special_tokens=False).input_ids
      rows.append((tokenizer(text).input_ids, [code, *words, 2]))
  pad = lambda ids, value: torch.nn.utils.rnn.pad_sequence(
      [torch.tensor(i) for i in ids], batch_first=True, padding_value=value
  )
  asked, labels = pad([a for a, _ in rows], 1), pad([b for _, b in rows], -100)
  for _ in range(150):
    optimizer.zero_grad()
    out = model(input_ids=asked, attention_mask=asked != 1, labels=labels)
    out.loss.backward()
    optimizer.step()


@pytest.fixture(scope='module')
def original(tmp_path_factory):
  tokenizer = _tokenizer()
  torch.manual_seed(0)
  config = transformers.M2M100Config(
      vocab_size=len(tokenizer),
      d_model=16,
      encoder_layers=1,
      decoder_layers=1,
      encoder_attention_heads=2,
      decoder_attention_heads=2,
      encoder_ffn_dim=32,
      decoder_ffn_dim=32,
      max_position_embeddings=64,
      dropout=0.0,
      bos_token_id=0,
      pad_token_id=1,
      eos_token_id=2,
      decoder_start_token_id=2,
  )
  model = transformers.M2M100ForConditionalGeneration(config).eval()
  _train(model, tokenizer)
  folder = tmp_path_factory.mktemp('nllb')
  model.save_pretrained(folder / 'hf')
  tokenizer.save_pretrained(folder / 'hf')
  converter = ctranslate2.converters.TransformersConverter(
      str(folder / 'hf'), copy_files=['tokenizer.json']
  )
  converter.convert(str(folder / 'ct2'))
  return model, tokenizer, folder / 'ct2'


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('target', ['fr', 'zh'])
def test_nllb_says_what_transformers_says(original, monkeypatch, target):
  model, tokenizer, folder = original
  monkeypatch.setattr(nllb, '_BEAM', 1)  # beams are cut short differently
  monkeypatch.setattr(nllb, '_LONGEST', 20)
  code = tokenizer.convert_tokens_to_ids(nllb.CODES[target])
  expected = []
  for text in TEXTS:
    asked = tokenizer(text, return_tensors='pt')
    (out,) = model.generate(
        **asked,
        forced_bos_token_id=code,
        suppress_tokens=[tokenizer.unk_token_id],
        num_beams=1,
        do_sample=False,
        max_length=40,
    )
    ended = out[-1] == tokenizer.eos_token_id
    said = tokenizer.decode(out, skip_special_tokens=True).strip()
    expected.append((said or None) if ended else None)
  done = nllb.Local(folder, device='cpu').translate(TEXTS, 'en', target)
  assert done == expected
  assert done[:3] == list(TAUGHT[target].values())
