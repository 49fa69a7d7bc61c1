"""Questions pass through; missing languages are translated or counted."""

from __future__ import annotations

import json

from ml_collections import ConfigDict

from calm_jax import records, translate, translators


def _question(name, lang, stem='stem', translated_from=None):
  options = (records.Option('A', 'one'), records.Option('B', 'two'))
  return records.Question(
      name, 'own', 'train', lang, stem, options, 'B', translated_from
  )


class _Fake(translators.Translator):
  """Out of English, and out of French into German; '?' cannot be done."""

  version = '1'

  def supports(self, source, target):
    return source == 'en' or (source, target) == ('fr', 'de')

  def translate(self, texts, source, target):
    return [
        None if '?' in text else f'{source}>{target} {text}' for text in texts
    ]


def _complete(questions, languages):
  return translate.complete(questions, languages, _Fake())


def test_a_parallel_release_passes_through_in_the_order_of_the_config():
  questions = [
      _question(name, lang) for name in ('q2', 'q1') for lang in ('fr', 'en')
  ]
  rows, counts = _complete(questions, ('en', 'fr'))
  assert [(q.id, q.lang) for q in rows] == [
      ('q2', 'en'),
      ('q2', 'fr'),
      ('q1', 'en'),
      ('q1', 'fr'),
  ]
  assert sorted(rows, key=repr) == sorted(questions, key=repr)
  assert counts == {'kept': 4}


def test_a_missing_language_is_translated_with_its_options():
  rows, counts = _complete([_question('q', 'en')], ('en', 'fr'))
  assert rows[1] == records.Question(
      'q',
      'own',
      'train',
      'fr',
      'en>fr stem',
      (records.Option('A', 'en>fr one'), records.Option('B', 'en>fr two')),
      'B',
      translated_from='en',
  )
  assert counts == {'kept': 1, 'translated': 1}


def test_the_source_is_an_original_where_there_is_one():
  questions = [_question('q', 'en', translated_from='fr'), _question('q', 'fr')]
  rows, _ = _complete(questions, ('en', 'fr', 'de'))
  assert rows[2].translated_from == 'fr'
  # French goes into German only: into Italian the translation must do.
  rows, _ = _complete(questions, ('en', 'fr', 'it'))
  assert rows[2].translated_from == 'en'


def test_what_cannot_be_had_is_counted_by_reason():
  questions = [
      _question('q1', 'en', stem='why?'),
      _question('q2', 'fr'),
      _question('q2', 'de'),
  ]
  rows, counts = _complete(questions, ('en', 'fr'))
  assert [(q.id, q.lang) for q in rows] == [('q1', 'en'), ('q2', 'fr')]
  assert counts == {
      'kept': 2,
      'failed': 1,
      'no_translator': 1,
      'other_language': 1,
  }


def test_run_writes_both_splits(tmp_path):
  for split, names in (('train', ('a', 'b')), ('test', ('c',))):
    records.write_jsonl(
        tmp_path / 'read' / f'{split}.jsonl',
        [_question(name, lang) for name in names for lang in ('en', 'fr')],
    )
  cfg = ConfigDict(
      {'languages': ('en', 'fr', 'de'), 'translate': {'backend': 'none'}}
  )
  counts = translate.run(cfg, tmp_path)
  assert counts == {
      'train_kept': 4,
      'train_no_translator': 2,
      'test_kept': 2,
      'test_no_translator': 1,
  }
  path = tmp_path / 'translate' / 'test.jsonl'
  rows = list(records.read_jsonl(path, records.Question))
  assert [(q.id, q.lang) for q in rows] == [('c', 'en'), ('c', 'fr')]


def test_run_lists_what_was_not_translated_to_be_filled_in(tmp_path):
  for split, names in (('train', ('a',)), ('test', ('c',))):
    rows = [_question(name, 'en', stem=f'Why {name}?') for name in names]
    records.write_jsonl(tmp_path / 'read' / f'{split}.jsonl', rows)
  mine = tmp_path / 'mine'
  mine.mkdir()
  (mine / 'en-fr.jsonl').write_text('')
  settings = {'backend': 'files', 'path': str(mine)}
  cfg = ConfigDict({'languages': ('en', 'fr'), 'translate': settings})
  assert translate.run(cfg, tmp_path)['test_failed'] == 1
  listed = tmp_path / 'translate' / 'untranslated' / 'en-fr.jsonl'
  lines = listed.read_text()
  assert [*map(json.loads, lines.splitlines())] == [
      {'text': text, 'translation': ''}
      for text in ('Why a?', 'one', 'two', 'Why c?')
  ]
  (mine / 'en-fr.jsonl').write_text(lines.replace('""', '"quoi"'))
  assert translate.run(cfg, tmp_path)['test_translated'] == 1
  assert not listed.parent.exists()


class _Paid(_Fake):
  """Says what it was told, and changes numbers."""

  def __init__(self):
    self.told = []

  def begin(self, wanted):
    self.told.append(list(wanted))

  def translate(self, texts, source, target):
    return [text.replace('1.5', '15') for text in texts]

  def end(self):
    return {'usd_sent': 0.5}


def test_both_splits_are_told_before_either_is_sent(tmp_path, monkeypatch):
  stem = 'Give 1.5 mg'
  for split, stems in (
      ('train', {'a': stem}),
      ('test', {'b': 'b?', 'c': stem}),
  ):
    records.write_jsonl(
        tmp_path / 'read' / f'{split}.jsonl',
        [_question(name, 'en', stem=text) for name, text in stems.items()],
    )
  translator = _Paid()
  monkeypatch.setattr(translators, 'build', lambda cfg, workdir: translator)
  counts = translate.run(ConfigDict({'languages': ('en', 'fr')}), tmp_path)
  (told,) = translator.told
  texts = [stem, 'one', 'two', 'b?']
  assert told == [(text, 'en', 'fr') for text in texts]
  assert counts['usd_sent'] == 0.5
  assert counts['changed_facts'] == 1
  path = tmp_path / 'translate' / 'changed_facts.jsonl'
  (row,) = [json.loads(line) for line in path.read_text().splitlines()]
  assert row['question_ids'] == ['a', 'c']
  assert row['changes'] == ['number 1.5 is lost', 'number 15 is new']
  flags = {
      (q.id, q.lang): q.changed
      for split in ('train', 'test')
      for q in records.read_jsonl(
          tmp_path / 'translate' / f'{split}.jsonl', records.Question
      )
  }
  flagged = {('a', 'fr'): ('numbers',), ('c', 'fr'): ('numbers',)}
  others = dict.fromkeys([('a', 'en'), ('b', 'en'), ('b', 'fr'), ('c', 'en')])
  assert flags == flagged | {where: () for where in others}
