"""Tests of passages: whole sentences, about one size, from where they say."""

from __future__ import annotations

import json
import re

import pytest

from calm_jax.datasets import textbooks


def cut(text, words):
  return textbooks.cut(text, source='en/Book', words=words)


def texts(text, words):
  return [p.text for p in cut(text, words)]


def size(text):
  """Words, where two Chinese characters are one."""
  wide = '[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]'
  rest = re.sub(wide, ' ', text).split()
  return len(re.findall(wide, text)) / 2 + len(rest)


def test_sentences_are_kept_whole_and_packed():
  text = 'One two three. Four five. Six seven eight nine! Ten?'
  assert texts(text, 5) == [
      'One two three. Four five.',
      'Six seven eight nine! Ten?',
  ]


@pytest.mark.parametrize(
    'text',
    [
        'Dr. Smith came.',
        'See Fig. 3 for it.',
        'Levels of 3.5 mg help.',
        'e.g. this one.',
        'J. Bell wrote.',
        'It grew (approx. twice) so.',
    ],
)
def test_an_abbreviation_ends_no_sentence(text):
  other = 'Then came this other one.'
  assert texts(f'{text} {other}', 5) == [text, other]


def test_quotes_and_brackets_belong_to_their_sentence():
  assert texts('He said "no." Then (he left.) So.', 3) == [
      'He said "no."',
      'Then (he left.)',
      'So.',
  ]
  assert texts('他说：“不行。”然后走了。', 3.5) == [
      '他说：“不行。”',
      '然后走了。',
  ]


def test_chinese_characters_count_half():
  text = '胃是一个器官。肝是一个器官。肺也是的。'
  assert texts(text, 7) == ['胃是一个器官。肝是一个器官。', '肺也是的。']
  assert texts(text, 3.5) == ['胃是一个器官。', '肝是一个器官。', '肺也是的。']


def test_a_sentence_without_end_is_cut_by_words():
  found = texts(' '.join(f'w{i}' for i in range(25)), 10)
  assert [len(t.split()) for t in found] == [10, 10, 5]
  assert ' '.join(found) == ' '.join(f'w{i}' for i in range(25))
  assert texts('肝' * 25, 5) == ['肝' * 10, '肝' * 10, '肝' * 5]


def test_a_paragraph_closes_a_passage_unless_it_is_short():
  text = 'Title\nOne two three four five six.\nSeven eight nine.\n'
  assert texts(text, 20) == [
      'Title One two three four five six.',
      'Seven eight nine.',
  ]


def test_the_id_says_where_a_passage_begins():
  text = '\ufeff\n  A first one. 肝是器官。 A  second\tone, so.\r\n\nThird one.'
  found = cut(text, 3)
  assert [p.source for p in found] == ['en/Book'] * len(found)
  for p in found:
    source, _, offset = p.id.partition('@')
    assert source == 'en/Book'
    assert ' '.join(text[int(offset) :].split()).startswith(p.text)
  assert len({p.id for p in found}) == len(found)


def test_nothing_is_lost_and_nothing_is_too_long():
  text = textbooks.BUNDLED.joinpath('en/health.txt').read_text('utf-8')
  for words in (5, 20, 100):
    found = texts(text, words)
    assert ' '.join(found).split() == text.split()
    assert max(map(size, found)) <= words


def release(root, **folders):
  for folder, books in folders.items():
    (root / folder).mkdir(parents=True)
    for name, text in books.items():
      (root / folder / f'{name}.txt').write_bytes(text.encode())
  return root


@pytest.mark.parametrize('below', ['data_clean/textbooks', 'textbooks', '.'])
def test_the_release_is_found_from_the_folder_that_one_downloads(
    tmp_path, below
):
  release(
      tmp_path / below, en={'B': 'Bb.', 'A': 'Aa.'}, zh_paragraph={'C': '丙。'}
  )
  found, counts = textbooks.passages(tmp_path, 'textbooks')
  assert [p.id for p in found] == ['en/A@0', 'en/B@0', 'zh_paragraph/C@0']
  assert counts == {'sources': 3, 'empty': 0, 'duplicate': 0, 'passages': 3}
  assert len(textbooks.passages(tmp_path, 'textbooks_en')[0]) == 2
  assert len(textbooks.passages(tmp_path, 'textbooks_zh')[0]) == 1


def test_empty_books_and_repeated_passages_are_counted(tmp_path):
  release(tmp_path, en={'A': 'Same.', 'B': ' \n', 'C': 'Same.'})
  found, counts = textbooks.passages(tmp_path, 'textbooks')
  assert [p.id for p in found] == ['en/A@0']
  assert counts == {'sources': 3, 'empty': 1, 'duplicate': 1, 'passages': 1}


def test_a_folder_without_books_is_told(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'none of en, zh_paragraph'):
    textbooks.passages(tmp_path, 'textbooks')
  release(tmp_path, en={'A': ''})
  with pytest.raises(ValueError, match='no passage in it'):
    textbooks.passages(tmp_path, 'textbooks')
  with pytest.raises(ValueError, match="'pdf' is not one of"):
    textbooks.passages(tmp_path, 'pdf')


def test_another_encoding_names_its_file(tmp_path):
  (tmp_path / 'zh_paragraph').mkdir()
  (tmp_path / 'zh_paragraph' / 'A.txt').write_bytes('肝'.encode('gb18030'))
  with pytest.raises(ValueError, match=r'A\.txt: not UTF-8'):
    textbooks.passages(tmp_path, 'textbooks')


def test_pubmedqa_and_medmcqa(tmp_path):
  abstracts = tmp_path / 'pubmedqa.json'
  abstracts.write_text(json.dumps({'12': {'CONTEXTS': ['One.', 'Two.']}}))
  found, _ = textbooks.passages(abstracts, 'pubmedqa')
  assert [p.id for p in found] == ['pubmedqa/12/0@0', 'pubmedqa/12/1@0']
  rows = [{'id': 'a', 'exp': 'Because.'}, {'id': 'b', 'exp': None}]
  questions = tmp_path / 'medmcqa.json'
  questions.write_text('\n'.join(map(json.dumps, rows)))
  found, counts = textbooks.passages(questions, 'medmcqa')
  assert [(p.id, p.text) for p in found] == [('medmcqa/a@0', 'Because.')]
  assert counts['empty'] == 1


def test_a_broken_row_names_file_and_row(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('{"12": {"CONTEXT": []}}')
  with pytest.raises(ValueError, match=r"x\.json: article 12: .*'CONTEXTS'"):
    textbooks.passages(path, 'pubmedqa')
  path.write_text('{"id": "a"}\n{"exp": "x"}\n')
  with pytest.raises(ValueError, match=r"x\.json:2: lacks the field 'id'"):
    textbooks.passages(path, 'medmcqa')


def test_the_bundled_sample_is_a_dozen_passages_in_two_languages():
  found, _ = textbooks.passages(textbooks.BUNDLED, 'textbooks')
  folders = {p.source.split('/')[0] for p in found}
  assert folders == {'en', 'zh_paragraph'}
  assert 12 <= len(found) <= 30


def test_real_corpora(real_data):
  folder = real_data / 'corpora'
  found, counts = textbooks.passages(
      folder / 'pubmedqa_test_set.json', 'pubmedqa'
  )
  assert (counts['sources'], counts['empty']) == (1689, 0)
  assert max(size(p.text) for p in found) <= 120
  _, counts = textbooks.passages(folder / 'medmcqa_dev.json', 'medmcqa')
  assert counts['sources'] - counts['empty'] == 2206
