"""The split and the stage on disk."""

from __future__ import annotations

import json

from ml_collections import ConfigDict
import msgspec
import pytest

from calm_jax import pair, records, vote
from calm_jax.qa import prompts
from tools import export_pairs

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


EN_GOOD = _sample('en', 0, 'y', 'Explanation: Dogs bark.\nAnswer: B. dog')
EN_BAD = _sample('en', 1, 'x', '**Explanation:** Cats do.\n\n**Answer:** A')
FR_BAD = _sample('fr', 0, 'z', 'Explication : La vache.\nRéponse : B')


def test_the_split_depends_on_the_seed_only():
  ids = [f'q{i}' for i in range(100)]
  found = pair.held_out(ids, val_size=0.06, seed=1)
  assert len(found) == 6
  assert pair.held_out(ids[::-1], val_size=0.06, seed=1) == found
  assert pair.held_out(ids, val_size=0.06, seed=2) != found


@pytest.mark.parametrize(
    ('questions', 'val_size', 'expected'),
    [(1, 0.06, 0), (2, 0.06, 1), (2, 1.0, 1), (50, 0.0, 0), (50, 0.5, 25)],
)
def test_the_split_leaves_something_on_both_sides(
    questions, val_size, expected
):
  ids = [f'q{i}' for i in range(questions)]
  assert len(pair.held_out(ids, val_size=val_size, seed=0)) == expected


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
      '{"text": "Dogs bark.", "translation": "11 chiens aboient."}\n'
  )
  cfg = _config(tmp_path, **{'translate.backend': 'files'})
  counts = pair.run(cfg, tmp_path)
  assert (counts['rows_en'], counts['rows_fr']) == (4, 4)
  assert counts['changed_facts'] == 1
  rows = _read(tmp_path, 'train.jsonl')
  chosen = prompts.completion('11 chiens aboient.', 'A', 'chien', 'fr')
  assert {r.chosen for r in rows if r.lang == 'fr'} == {chosen}
  flags = {'fr': ('numbers',), 'en': ()}
  assert {(r.lang, r.changed) for r in rows} == set(flags.items())
  assert not (tmp_path / 'pair' / 'untranslated').exists()


def test_run_lists_what_a_translator_left_out(tmp_path):
  _upstream(tmp_path)
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'en-fr.jsonl').write_text('')
  cfg = _config(tmp_path, **{'translate.backend': 'files'})
  assert pair.run(cfg, tmp_path)['untranslated'] == 4
  (rest,) = (tmp_path / 'pair' / 'untranslated').iterdir()
  assert rest.name == 'en-fr.jsonl'
  lines = rest.read_text()
  assert lines == '{"text":"Dogs bark.","translation":""}\n'
  # Filled in, it is what the backend reads.
  filled = lines.replace('""', '"Les chiens aboient."')
  (tmp_path / 'mine' / 'en-fr.jsonl').write_text(filled)
  counts = pair.run(cfg, tmp_path)
  assert (counts['rows_fr'], counts.get('untranslated')) == (4, None)
  assert not rest.parent.exists()


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
      path, [msgspec.structs.replace(q, gold=gold.get(q.id)) for q in questions]
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


@pytest.mark.parametrize('form', ['', *export_pairs.FORMATS])
@pytest.mark.parametrize(
    ('method', 'cls'), [('dpo', records.Pair), ('sft', records.Target)]
)
def test_what_was_exported_comes_back_from_a_file(tmp_path, form, method, cls):
  _upstream(tmp_path / 'one')
  pair.run(_config(tmp_path, **{'train.method': method}), tmp_path / 'one')
  file = tmp_path / 'one' / 'pair' / 'train.jsonl'
  made = _read(tmp_path / 'one', 'train.jsonl', cls)
  if form:
    source, file = file, tmp_path / 'exported'
    assert export_pairs.export(source, file, format=form) == 3
  changes = {
      'train.method': method,
      'pair.file': str(file),
      'pair.val_size': 0.0,
  }
  # The other folder has no questions, samples or votes.
  counts = pair.run(_config(tmp_path, **changes), tmp_path / 'two')
  assert counts == {'rows': 3, 'train': 3, 'val': 0, 'rows_en': 3}
  assert _read(tmp_path / 'two', 'train.jsonl', cls) == made


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
