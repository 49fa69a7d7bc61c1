"""The bundled questions are sound: aligned, balanced, unique and short."""

import collections
import pathlib
import re

import pytest

from calm_jax import datasets

LANGUAGES = ('en', 'zh', 'fr', 'de', 'it', 'ja')
SIZES = {'train': 24, 'test': 12}
SCRIPTS = {'zh': r'[\u4e00-\u9fff]', 'ja': r'[\u3040-\u30ff]'}
# Tells the languages that share a script apart, row by row.
QUESTION_WORDS = {
    'en': r'what|which|where|how|who',
    'fr': r'(le|la)?quel(le)?|que?|qui|quoi|où|combien|comment',
    'de': r'was|welche[mrs]?|wie|wo|womit|woraus|worauf|wer',
    'it': r'quale?|quant[ei]|che|chi|come|dove',
}


@pytest.fixture(scope='module', params=SIZES)
def split(request):
  return request.param


def load(split):
  questions, dropped = datasets.reader('demo')(pathlib.Path(), split, LANGUAGES)
  assert not dropped
  return questions


def normalised(text):
  return re.sub(r'\W', '', text).casefold()


def asked_in(stem):
  """The languages whose question words a stem has."""
  words = re.findall(r'\w+', stem.lower())
  return [
      lang
      for lang, pattern in QUESTION_WORDS.items()
      if any(re.fullmatch(pattern, word) for word in words)
  ]


def test_counts_and_alignment(split):
  questions = load(split)
  assert len(questions) == SIZES[split] * len(LANGUAGES)
  assert [q.lang for q in questions] == list(LANGUAGES) * SIZES[split]
  assert {q.dataset for q in questions} == {'demo'}
  for start in range(0, len(questions), len(LANGUAGES)):
    versions = questions[start : start + len(LANGUAGES)]
    assert len({q.id for q in versions}) == 1
    assert len({q.gold for q in versions}) == 1
    assert {''.join(o.key for o in q.options) for q in versions} == {'ABCDE'}


def test_files_are_aligned_row_by_row(split):
  folder = pathlib.Path(datasets.__file__).parent / 'demo'
  ids = {
      lang: re.findall(
          r'^\{"id": "([^"]+)"',
          (folder / lang / f'{split}.jsonl').read_text(encoding='utf-8'),
          re.MULTILINE,
      )
      for lang in LANGUAGES
  }
  assert len(ids['en']) == SIZES[split]
  assert all(ids[lang] == ids['en'] for lang in LANGUAGES)


def test_nothing_is_asked_twice():
  questions = load('train') + load('test')
  ids = collections.Counter(q.id for q in questions if q.lang == 'en')
  assert len(ids) == sum(SIZES.values())
  stems = collections.Counter((q.lang, normalised(q.stem)) for q in questions)
  assert set(stems.values()) == {1}
  answers = collections.Counter(
      normalised(next(o.text for o in q.options if o.key == q.gold))
      for q in questions
      if q.lang == 'en'
  )
  assert set(answers.values()) == {1}


def test_gold_letters_are_balanced():
  golds = collections.Counter(
      q.gold for q in load('train') + load('test') if q.lang == 'en'
  )
  assert sorted(golds) == list('ABCDE')
  assert max(golds.values()) <= 8
  assert {q.gold for q in load('test')} == set('ABCDE')


def test_texts_are_short_and_options_differ(split):
  for question in load(split):
    texts = [option.text for option in question.options]
    assert len({normalised(text) for text in texts}) == len(texts)
    assert all(len(text.split()) <= 4 and len(text) <= 25 for text in texts)
    assert len(question.stem.split()) <= 15
    assert len(question.stem) <= 70


def test_punctuation_follows_the_language(split):
  for question in load(split):
    ends = {'fr': ' ?', 'zh': '？', 'ja': '？'}.get(question.lang, '?')
    assert question.stem.endswith(ends)
    assert question.lang == 'fr' or not question.stem.endswith(' ?')
    if question.lang in SCRIPTS:
      assert not re.search(r'[?,"]', question.stem)


def test_every_file_is_in_its_language(split):
  for question in load(split):
    texts = [question.stem, *(option.text for option in question.options)]
    kana = re.search(SCRIPTS['ja'], ''.join(texts))
    if question.lang in SCRIPTS:
      assert re.search(SCRIPTS[question.lang], question.stem)
      assert bool(kana) == (question.lang == 'ja')
    else:
      assert re.fullmatch(r'[\u0000-\u024f“”„«»]+', ''.join(texts))
      assert asked_in(question.stem) == [question.lang]


def test_a_path_is_refused():
  with pytest.raises(ValueError, match='bundled'):
    datasets.reader('demo')(pathlib.Path('elsewhere'), 'train', LANGUAGES)


def test_a_language_that_is_not_bundled_is_named():
  with pytest.raises(FileNotFoundError, match='de, en, fr, it, ja, zh'):
    datasets.reader('demo')(pathlib.Path(), 'train', ['en', 'es'])
