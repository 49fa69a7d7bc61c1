"""What the files of a folder say, and what is wrong with them."""

from __future__ import annotations

import datetime
import json
import shutil

import pytest
import tokenizers

from calm_jax.lm import tokenizer


def _words(before, after=''):
  message = '{{ m.content }}' + after
  return f'{before}{{% for m in messages %}}{message}{{% endfor %}}'


def test_tokens_that_only_other_files_know(vocabularies, tmp_path):
  folder = tmp_path / 'selfrag'
  shutil.copytree(vocabularies['prepend'], folder)
  size = tokenizer.load(folder).vocab_size
  added = {'[Utility:5]': size, '[No Retrieval]': size + 1, 'tapis': size + 2}
  (folder / 'added_tokens.json').write_text(json.dumps(added))
  tok = tokenizer.load(folder)
  five = tok.id_of('[Utility:5]')
  assert (five, tok.vocab_size) == (size, size + 3)
  assert tok.decode([*tok.encode('le chat'), five]) == 'le chat'
  assert five not in tok.encode('le chat [Utility:5]')
  # An added word is no special token: text may hold it.
  assert size + 2 in tok.encode('le tapis')
  assert tok.decode(tok.encode('le tapis')) == 'le tapis'
  with pytest.raises(ValueError, match=r"'\[Utility:6\]'.*\[Utility:5\]"):
    tok.id_of('[Utility:6]')


def test_files_that_disagree_are_refused(vocabularies, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(vocabularies['always'], folder)
  (folder / 'added_tokens.json').write_text('{"<pad>": 7000}')
  with pytest.raises(ValueError, match=r"tokenizer\.json.*'<pad>'.*7000"):
    tokenizer.load(folder)


def test_stop_and_padding_ids(vocabularies, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(vocabularies['bytes'], folder)
  im_end, end = (
      tokenizer.load(folder).id_of(t) for t in ('<|im_end|>', '<|end|>')
  )
  assert tokenizer.load(folder).eos_ids == (im_end,)
  assert tokenizer.load(folder).pad_id == im_end
  (folder / 'config.json').write_text('{"eos_token_id": 7}')
  assert tokenizer.load(folder).eos_ids == (im_end, 7)
  values = {'eos_token_id': [8, im_end], 'pad_token_id': 9}
  (folder / 'generation_config.json').write_text(json.dumps(values))
  tok = tokenizer.load(folder, template=_words('', '<|end|>'))
  assert tok.eos_ids == (im_end, 8, end)
  assert tok.pad_id == 9
  config = json.loads((folder / 'tokenizer_config.json').read_text())
  for pad, expected in (('<|close|>', tok.id_of('<|close|>')), ('<pad>', 9)):
    text = json.dumps(config | {'pad_token': pad})
    (folder / 'tokenizer_config.json').write_text(text)
    assert tokenizer.load(folder).pad_id == expected


def test_names_of_tokens_in_either_file(vocabularies, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(vocabularies['bytes'], folder)
  (folder / 'tokenizer_config.json').write_text('{"bos_token": null}')
  with pytest.raises(ValueError, match='no eos_token'):
    tokenizer.load(folder)
  other = {'eos_token': {'content': '<|end|>'}, 'bos_token': '<|begin|>'}
  (folder / 'special_tokens_map.json').write_text(json.dumps(other))
  tok = tokenizer.load(folder)
  assert tok.eos_ids == (tok.id_of('<|end|>'),)
  assert tok.bos_id == tok.id_of('<|begin|>')


def test_where_the_template_comes_from(vocabularies, tmp_path):
  def says(folder, **given):
    tok = tokenizer.load(folder, **given)
    return tok.decode(tok.chat_prompt('x'))

  folder = tmp_path / 'x'
  shutil.copytree(vocabularies['bytes'], folder)
  config = json.loads((folder / 'tokenizer_config.json').read_text())
  path = folder / 'tokenizer_config.json'
  path.write_text(json.dumps(config | {'chat_template': _words('text ')}))
  assert says(folder) == 'text x'
  several = [
      {'name': 'rag', 'template': _words('rag ')},
      {'name': 'default', 'template': _words('list ')},
  ]
  path.write_text(json.dumps(config | {'chat_template': several}))
  assert says(folder) == 'list x'
  (folder / 'chat_template.jinja').write_text(_words('file '))
  assert says(folder) == 'file x'
  assert says(folder, template=_words('given ')) == 'given x'
  (folder / 'chat_template.jinja').unlink()
  path.write_text(json.dumps(config | {'chat_template': several[:1]}))
  with pytest.raises(ValueError, match=r"no \"default\" but \['rag'\]"):
    tokenizer.load(folder)


@pytest.mark.parametrize(
    ('template', 'message'),
    [
        ('{% for %}', 'not a chat template'),
        ("{{ raise_exception('no user here') }}", 'no user here'),
        ('{{ messages[3].content }}', 'fails on the roles'),
        ('{{ messages[0].content | upper }}', 'changes or drops'),
        ('{{ messages[0].content | tojson }}', 'changes or drops'),
        ('{{ messages[0].content[:5] }}', 'changes or drops'),
        ('Hello', 'changes or drops'),
        ("{{ ''.__class__.__mro__ }}", 'fails on the roles'),
    ],
)
def test_templates_that_cannot_be_used(vocabularies, template, message):
  with pytest.raises(ValueError, match=message):
    tokenizer.load(vocabularies['bytes'], template=template)


def test_folders_that_hold_no_tokenizer(tmp_path):
  with pytest.raises(ValueError, match='no such folder'):
    tokenizer.load(tmp_path / 'none')
  (tmp_path / 'tekken.json').write_text('{}')
  with pytest.raises(ValueError, match=r"neither.*\['tekken\.json'\]"):
    tokenizer.load(tmp_path)
  (tmp_path / 'llama3.tokenizer.model').write_text('IQ== 0\nIg== 1\n')
  with pytest.raises(ValueError, match=r'llama3\.tokenizer\.model: a tiktoken'):
    tokenizer.load(tmp_path)
  (tmp_path / 'tokenizer.model').write_text('IQ== 0\nIg== 1\n')
  with pytest.raises(ValueError, match=r'tokenizer\.model: a tiktoken file'):
    tokenizer.load(tmp_path)
  (tmp_path / 'tokenizer.model').write_text('hello')
  with pytest.raises(ValueError, match='not a sentencepiece model'):
    tokenizer.load(tmp_path)
  (tmp_path / 'tokenizer.json').write_text('{"model": ')
  with pytest.raises(ValueError, match=r'tokenizer\.json: not JSON'):
    tokenizer.load(tmp_path)
  (tmp_path / 'tokenizer.json').write_text('{"model": {}}')
  with pytest.raises(ValueError, match=r'tokenizer\.json: not a tokenizer'):
    tokenizer.load(tmp_path)


def test_limits_left_in_the_file_do_not_cut_data(vocabularies, tmp_path):
  folder = tmp_path / 'x'
  shutil.copytree(vocabularies['bytes'], folder)
  path = str(folder / 'tokenizer.json')
  built = tokenizers.Tokenizer.from_file(path)
  built.enable_truncation(3)
  built.enable_padding(length=8)
  built.save(path)
  for text in ('Where is the cat?', ''):
    expected = tokenizer.load(vocabularies['bytes']).encode(text)
    assert tokenizer.load(folder).encode(text) == expected


def test_fingerprint_follows_what_changes_ids(vocabularies, tmp_path):
  def fingerprint(folder, **given):
    return tokenizer.load(folder, **given).fingerprint

  first = vocabularies['bytes']
  copy = tmp_path / 'copy'
  shutil.copytree(first, copy)
  same = fingerprint(first)
  assert same == fingerprint(copy)
  others = [
      fingerprint(vocabularies['always']),
      fingerprint(first, template=_words('x ')),
      fingerprint(first, template=_words('y ')),
      fingerprint(first, date=datetime.date(2025, 1, 1)),
  ]
  (copy / 'generation_config.json').write_text('{"eos_token_id": 3}')
  others.append(fingerprint(copy))
  assert len({same, *others}) == len(others) + 1


def test_base_model_encodes_but_does_not_chat(vocabularies):
  tok = tokenizer.load(vocabularies['bytes'])
  assert tok.decode(tok.encode('The cat')) == 'The cat'
  with pytest.raises(ValueError, match=r'chat_template is missing.*`template`'):
    tok.chat_prompt('The cat')
