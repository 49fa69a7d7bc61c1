"""Wording of both sides, translation, the split and the stage on disk."""

from __future__ import annotations

import dataclasses
import json

from ml_collections import ConfigDict
import pytest

from calm_jax import pair, records, vote
from calm_jax.qa import preferences, prompts

# The French release permutes the options: y is B in English and A in French.
OPTIONS = {
    'en': (('x', 'cat'), ('y', 'dog'), ('z', 'cow')),
    'fr': (('y', 'chien'), ('z', 'vache'), ('x', 'chat')),
}


def _question(lang, name='q'):
  options = tuple(records.Option(k, text) for k, text in OPTIONS[lang])
  return records.Question(name, 'own', 'train', lang, 'Who barks?', options)


def _sample(lang, index, answer, text, name='q'):
  return records.Sample(name, lang, index, text, answer, '', -1.0, 5, 'stop')


QUESTIONS = {('q', lang): _question(lang) for lang in OPTIONS}
EN_GOOD = _sample('en', 0, 'y', 'Explanation: Dogs bark.\nAnswer: B. dog')
EN_BAD = _sample('en', 1, 'x', '**Explanation:** Cats do.\n\n**Answer:** A')
FR_BAD = _sample('fr', 0, 'z', 'Explication : La vache.\nRéponse : B')
DRAFTS = [
    preferences.Draft('en', EN_GOOD, EN_BAD, 0.5),
    preferences.Draft('fr', EN_GOOD, FR_BAD, 0.5),
]


def _worded(drafts, translated, *, rebuild=True):
  return pair.worded(
      drafts,
      QUESTIONS,
      translated,
      rebuild=rebuild,
      render=lambda question: f'ask in {question.lang}',
  )


def test_rebuilt_sides_have_one_form_in_the_language_of_the_prompt():
  texts = {('Dogs bark.', 'en', 'fr'): 'Les chiens aboient.'}
  rows, counts = _worded(DRAFTS, texts)
  assert rows == [
      records.Pair(
          question_id='q',
          lang='en',
          prompt='ask in en',
          chosen=prompts.completion('Dogs bark.', 'B', 'dog', 'en'),
          rejected=prompts.completion('Cats do.', 'A', 'cat', 'en'),
          chosen_lang='en',
          vote_share=0.5,
      ),
      # The winner y is option A in French, the vote for z option B.
      records.Pair(
          question_id='q',
          lang='fr',
          prompt='ask in fr',
          chosen=prompts.completion('Les chiens aboient.', 'A', 'chien', 'fr'),
          rejected=prompts.completion('La vache.', 'B', 'vache', 'fr'),
          chosen_lang='en',
          vote_share=0.5,
      ),
  ]
  assert not counts


def test_only_foreign_chosen_texts_are_translated_and_only_once():
  twice = [*DRAFTS, preferences.Draft('fr', EN_GOOD, EN_BAD, 0.5)]
  assert pair.wanted(twice, rebuild=True) == {
      ('Dogs bark.', 'en', 'fr'): ['q', 'q']
  }
  assert list(pair.wanted(DRAFTS, rebuild=False)) == [
      (EN_GOOD.text, 'en', 'fr')
  ]
  bare = preferences.Draft(
      'fr', _sample('en', 0, 'y', 'Answer: B'), FR_BAD, 0.5
  )
  assert pair.wanted([bare], rebuild=True) == {}


def test_a_failed_translation_is_counted():
  rows, counts = _worded(DRAFTS, {('Dogs bark.', 'en', 'fr'): None})
  assert [row.lang for row in rows] == ['en']
  assert counts == {'untranslated': 1}


def test_an_answer_that_is_no_option_in_this_language_is_counted():
  strange = _sample('en', 2, 'w', 'Answer: W')
  rows, counts = _worded([preferences.Draft('en', EN_GOOD, strange, 0.5)], {})
  assert rows == []
  assert counts == {'not_an_option': 1}


def test_pairs_that_become_equal_are_kept_once():
  again = _sample('en', 2, 'x', 'Explanation: Cats do.\nAnswer: A. cat')
  drafts = [DRAFTS[0], preferences.Draft('en', EN_GOOD, again, 0.5)]
  rows, counts = _worded(drafts, {})
  assert len(rows) == 1
  assert counts == {'duplicate': 1}
  assert len(_worded(drafts, {}, rebuild=False)[0]) == 2


def test_raw_sides_stay_as_sampled():
  rows, _ = _worded(DRAFTS[:1], {}, rebuild=False)
  assert (rows[0].chosen, rows[0].rejected) == (EN_GOOD.text, EN_BAD.text)


@pytest.mark.parametrize(
    ('answer', 'expected'),
    # In French the winner is A; B is what a careless translation keeps.
    [('Réponse : A. chien', {}), ('Réponse : B', {'answer_changed': 1})],
)
def test_a_raw_translation_must_still_name_the_winner(answer, expected):
  text = f'Explication : Les chiens aboient.\n{answer}'
  translated = {(EN_GOOD.text, 'en', 'fr'): text}
  rows, counts = _worded(DRAFTS[1:], translated, rebuild=False)
  assert counts == expected
  assert [row.chosen for row in rows] == [text] * (not expected)


def test_a_draft_without_a_rejected_side_becomes_a_target():
  rows, _ = _worded([preferences.Draft('en', EN_GOOD, None, 0.75)], {})
  completion = prompts.completion('Dogs bark.', 'B', 'dog', 'en')
  assert rows == [records.Target('q', 'en', 'ask in en', completion, 0.75)]


def _rows(questions, each=3):
  return [
      records.Target(f'q{i}', 'en', f'p{j}', 'c', 1.0)
      for i in range(questions)
      for j in range(each)
  ]


def test_split_is_by_question_and_depends_on_the_seed_only():
  rows = _rows(100)
  train, val = pair.split(rows, val_size=0.06, seed=1)
  held_out = {row.question_id for row in val}
  assert len(held_out) == 6
  assert len(val) == 18
  assert not held_out & {row.question_id for row in train}
  assert len(train) + len(val) == len(rows)
  same = pair.split(rows[::-1], val_size=0.06, seed=1)[1]
  assert {row.question_id for row in same} == held_out
  other = pair.split(rows, val_size=0.06, seed=2)[1]
  assert {row.question_id for row in other} != held_out


@pytest.mark.parametrize(
    ('questions', 'val_size', 'expected'),
    [(1, 0.06, 0), (2, 0.06, 1), (2, 1.0, 1), (50, 0.0, 0), (50, 0.5, 25)],
)
def test_split_leaves_something_on_both_sides(questions, val_size, expected):
  _, val = pair.split(_rows(questions, each=1), val_size=val_size, seed=0)
  assert len(val) == expected


def _config(tmp_path, **changes):
  cfg = ConfigDict(
      {
          'seed': 0,
          'languages': ('en', 'fr'),
          'sample': {'languages': ()},
          'vote': {'parser': 'default'},
          'prompt': {'style': 'default', 'shots': 0},
          'translate': {'backend': 'none', 'path': str(tmp_path / 'mine')},
          'pair': {
              'file': '',
              'positives': 'last',
              'gold': 'none',
              'cap': 0,
              'min_share': 0.0,
              'min_margin': 0.0,
              'rebuild': True,
              'val_size': 0.3,
          },
          'train': {'method': 'dpo'},
      }
  )
  cfg.update_from_flattened_dict(changes)
  return cfg


def _upstream(workdir, names='abcd'):
  """Two English votes for y, an English x, and two French ones for z, None."""
  samples = [
      _sample(s.lang, i, s.answer, s.text, name)
      for name in names
      for i, s in enumerate([EN_GOOD, EN_GOOD, EN_BAD, FR_BAD])
  ]
  samples += [_sample('fr', 9, None, '', name) for name in names]
  records.write_jsonl(workdir / 'sample' / '00000.jsonl', samples)
  records.write_jsonl(
      workdir / 'vote' / 'votes.jsonl', vote.tally(samples, ties='abstain')
  )
  records.write_jsonl(
      workdir / 'translate' / 'train.jsonl',
      [_question(lang, name) for name in names for lang in OPTIONS],
  )


def _read(workdir, name, cls=records.Pair):
  return list(records.read_jsonl(workdir / 'pair' / name, cls))


def test_run_without_a_translator_pairs_within_a_language(tmp_path):
  _upstream(tmp_path)
  counts = pair.run(_config(tmp_path), tmp_path)
  assert counts == {
      'samples': 20,
      'agreed': 8,
      'no_chosen': 4,
      'rejected': 4,
      'unparsed': 4,
      'rows': 4,
      'train': 3,
      'val': 1,
      'rows_en': 4,
  }
  train, val = _read(tmp_path, 'train.jsonl'), _read(tmp_path, 'val.jsonl')
  assert sorted(row.question_id for row in train + val) == list('abcd')
  asked = prompts.render(_question('en'), style='default', shots=0)
  assert {row.prompt for row in train} == {asked}


def test_run_with_a_folder_of_translations(tmp_path):
  _upstream(tmp_path)
  folder = tmp_path / 'mine'
  folder.mkdir()
  (folder / 'en-fr.jsonl').write_text(
      '{"text": "Dogs bark.", "translation": "Les chiens aboient."}\n'
  )
  cfg = _config(tmp_path, **{'translate.backend': 'files'})
  counts = pair.run(cfg, tmp_path)
  assert (counts['rows_en'], counts['rows_fr']) == (4, 4)
  french = [r for r in _read(tmp_path, 'train.jsonl') if r.lang == 'fr']
  chosen = prompts.completion('Les chiens aboient.', 'A', 'chien', 'fr')
  assert {row.chosen for row in french} == {chosen}
  assert not (tmp_path / 'pair' / 'untranslated.jsonl').exists()


def test_run_lists_what_a_translator_left_out(tmp_path):
  _upstream(tmp_path)
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'en-fr.jsonl').write_text('')
  cfg = _config(tmp_path, **{'translate.backend': 'files'})
  assert pair.run(cfg, tmp_path)['untranslated'] == 4
  rest = (tmp_path / 'pair' / 'untranslated.jsonl').read_text()
  assert rest == (
      '{"source": "en", "target": "fr", "text": "Dogs bark.",'
      ' "translation": ""}\n'
  )


def test_run_writes_targets_for_sft(tmp_path):
  _upstream(tmp_path)
  counts = pair.run(_config(tmp_path, **{'train.method': 'sft'}), tmp_path)
  assert (counts['rows'], counts['no_chosen']) == (4, 4)
  row, *_ = _read(tmp_path, 'train.jsonl', records.Target)
  assert row.completion == prompts.completion('Dogs bark.', 'B', 'dog', 'en')


def _label(workdir, gold):
  path = workdir / 'translate' / 'train.jsonl'
  questions = records.read_jsonl(path, records.Question)
  records.write_jsonl(
      path, [dataclasses.replace(q, gold=gold.get(q.id)) for q in questions]
  )


# The vote is y for every question; d has no label.
GOLD = {'a': 'y', 'b': 'x', 'c': 'z'}


@pytest.mark.parametrize('method', ['dpo', 'sft'])
def test_gold_as_in_the_paper_keeps_the_winners_that_are_right(
    tmp_path, method
):
  _upstream(tmp_path)
  _label(tmp_path, GOLD)
  cfg = _config(tmp_path, **{'pair.gold': 'paper', 'train.method': method})
  counts = pair.run(cfg, tmp_path)
  assert (counts['samples'], counts['rows']) == (20, 1)
  assert (counts['not_gold'], counts['no_gold']) == (10, 5)
  cls = records.Pair if method == 'dpo' else records.Target
  assert [r.question_id for r in _read(tmp_path, 'train.jsonl', cls)] == ['a']


def _answers(workdir, field, cls=records.Pair):
  rows = _read(workdir, 'train.jsonl', cls) + _read(workdir, 'val.jsonl', cls)
  last = lambda row: getattr(row, field).splitlines()[-1]
  return sorted((row.question_id, last(row)) for row in rows)


def test_gold_as_released_puts_it_before_every_other_answer(tmp_path):
  _upstream(tmp_path)
  _label(tmp_path, GOLD)
  counts = pair.run(_config(tmp_path, **{'pair.gold': 'released'}), tmp_path)
  assert _answers(tmp_path, 'chosen') == [
      ('a', 'Answer: B. dog'),
      ('b', 'Answer: A. cat'),
  ]
  assert _answers(tmp_path, 'rejected') == [
      ('a', 'Answer: A. cat'),
      ('b', 'Answer: B. dog'),
  ]
  # b: both English votes for dog are rejected, and equal. c: French alone.
  assert (counts['duplicate'], counts['no_gold']) == (1, 5)
  assert (counts['no_english'], counts['no_chosen']) == (3, 2)


def test_gold_as_released_gives_targets_for_sft(tmp_path):
  _upstream(tmp_path)
  _label(tmp_path, GOLD)
  cfg = _config(tmp_path, **{'pair.gold': 'released', 'train.method': 'sft'})
  counts = pair.run(cfg, tmp_path)
  assert _answers(tmp_path, 'completion', records.Target) == [
      ('a', 'Answer: B. dog'),
      ('b', 'Answer: A. cat'),
  ]
  assert (counts['no_english'], counts['no_chosen']) == (2, 2)


def test_run_with_no_label_at_all_says_so(tmp_path):
  _upstream(tmp_path)
  cfg = _config(tmp_path, **{'pair.gold': 'paper'})
  with pytest.raises(ValueError, match=r'no_gold 20\).*set pair.gold=none'):
    pair.run(cfg, tmp_path)


def test_run_with_nothing_left_says_why_and_what_to_do(tmp_path):
  _upstream(tmp_path)
  for least in ('share', 'margin'):
    cfg = _config(tmp_path, **{f'pair.min_{least}': 0.9})
    said = rf'low_{least} 20\).*lower pair.min_{least}'
    with pytest.raises(ValueError, match=said):
      pair.run(cfg, tmp_path)
  assert not (tmp_path / 'pair' / 'train.jsonl').exists()


EXPORTS = ('trl_train.jsonl', 'llamafactory_train.json')


@pytest.mark.parametrize('export', EXPORTS)
@pytest.mark.parametrize(
    ('method', 'cls'), [('dpo', records.Pair), ('sft', records.Target)]
)
def test_what_was_exported_comes_back_from_a_file(
    tmp_path, export, method, cls
):
  _upstream(tmp_path / 'one')
  pair.run(_config(tmp_path, **{'train.method': method}), tmp_path / 'one')
  exported = _read(tmp_path / 'one', 'train.jsonl', cls)
  changes = {
      'train.method': method,
      'pair.file': str(tmp_path / 'one' / 'pair' / export),
      'pair.val_size': 0.0,
  }
  # The other folder has no questions, samples or votes.
  counts = pair.run(_config(tmp_path, **changes), tmp_path / 'two')
  assert counts == {'rows': 3, 'train': 3, 'val': 0, 'rows_en': 3}
  assert _read(tmp_path / 'two', 'train.jsonl', cls) == exported
  for name in EXPORTS:
    again = (tmp_path / 'two' / 'pair' / name).read_bytes()
    assert again == (tmp_path / 'one' / 'pair' / name).read_bytes()


def test_rows_of_ones_own_need_no_id_and_no_language(tmp_path):
  rows = [
      {'prompt': p, 'chosen': 'yes', 'rejected': r}
      for p in ('one', 'two', 'three')
      for r in ('no', 'never')
  ]
  rows[0]['lang'] = 'fr'
  path = tmp_path / 'mine.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  cfg = _config(tmp_path, **{'pair.file': str(path)})
  counts = pair.run(cfg, tmp_path)
  assert counts == {
      'rows': 6,
      'train': 4,
      'val': 2,
      'rows_fr': 1,
      'rows_und': 5,
  }
  (held_out,) = {row.prompt for row in _read(tmp_path, 'val.jsonl')}
  assert held_out not in {row.prompt for row in _read(tmp_path, 'train.jsonl')}


@pytest.mark.parametrize(
    ('method', 'text', 'message'),
    [
        (
            'sft',
            '{"prompt": "p", "chosen": "a", "rejected": "b"}',
            'completion',
        ),
        ('dpo', '{"prompt": "p", "completion": "a"}', 'chosen'),
    ],
)
def test_a_file_for_the_other_method_is_refused(
    tmp_path, method, text, message
):
  path = tmp_path / 'mine.jsonl'
  path.write_text(text)
  cfg = _config(tmp_path, **{'pair.file': str(path), 'train.method': method})
  with pytest.raises(ValueError, match=f"method={method}: .*:1: .*'{message}'"):
    pair.run(cfg, tmp_path)
  path.write_text('')
  with pytest.raises(ValueError, match='holds no row'):
    pair.run(cfg, tmp_path)
