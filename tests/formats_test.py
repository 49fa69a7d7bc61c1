"""Round trips through both programs' formats, and rows that are refused."""

from __future__ import annotations

import json

import msgspec
import pytest

from calm_jax import formats, records

PAIR = records.Pair(
    question_id='q1',
    lang='ja',
    prompt='質問\u2028A. 町',
    chosen='説明: 犬。\n答え: A. 町',
    rejected='説明: "猫"。\n答え: B',
    chosen_lang='en',
    vote_share=5 / 9,
)
OPENED = msgspec.structs.replace(
    PAIR,
    changed=('numbers', 'units'),
    opening=('[Retrieval]', '<paragraph>', 'Heart\nIt pumps.', '</p>'),
)
TARGET = records.Target('q1', 'ja', PAIR.prompt, PAIR.chosen, 0.5)
OPENED_TARGET = msgspec.structs.replace(TARGET, opening=('[No Retrieval]',))


@pytest.mark.parametrize('conversational', [False, True])
@pytest.mark.parametrize(
    ('record', 'read'),
    [
        (PAIR, formats.read_pairs),
        (OPENED, formats.read_pairs),
        (TARGET, formats.read_targets),
        (OPENED_TARGET, formats.read_targets),
    ],
)
def test_trl_round_trip_loses_nothing(tmp_path, record, read, conversational):
  path = tmp_path / 'rows.jsonl'
  formats.write_trl(path, [record] * 2, conversational=conversational)
  assert read(path) == [record] * 2


@pytest.mark.parametrize(
    ('record', 'read'),
    [
        (PAIR, formats.read_pairs),
        (OPENED, formats.read_pairs),
        (TARGET, formats.read_targets),
        (OPENED_TARGET, formats.read_targets),
    ],
)
def test_llamafactory_round_trip_loses_nothing(tmp_path, record, read):
  path = tmp_path / 'rows.json'
  assert formats.write_llamafactory(path, [record] * 2) == 2
  assert read(path) == [record] * 2


def test_what_answers_go_on_from_ends_the_prompt_of_others(tmp_path):
  end = '\n\n[Retrieval]<paragraph>Heart\nIt pumps.</p>'
  assert formats.to_trl(OPENED)['prompt'] == PAIR.prompt + end
  row = formats.to_llamafactory(OPENED)
  assert row['instruction'] == PAIR.prompt + end
  path = _write(tmp_path, [row | {'instruction': PAIR.prompt}])
  with pytest.raises(ValueError, match='does not end in its'):
    formats.read_pairs(path)


def test_rows_have_the_keys_that_the_programs_look_for():
  row = formats.to_trl(PAIR)
  assert (row['prompt'], row['chosen']) == (PAIR.prompt, PAIR.chosen)
  assert formats.to_trl(PAIR, conversational=True)['rejected'] == [
      {'role': 'assistant', 'content': PAIR.rejected}
  ]
  assert formats.to_trl(TARGET)['completion'] == TARGET.completion
  row = formats.to_llamafactory(PAIR)
  assert (row['instruction'], row['input']) == (PAIR.prompt, '')
  assert row['rejected'] == PAIR.rejected
  assert formats.to_llamafactory(TARGET)['output'] == TARGET.completion


@pytest.mark.parametrize(
    ('record', 'ranking', 'column'),
    [(PAIR, True, 'rejected'), (TARGET, None, 'response')],
)
def test_llamafactory_gets_its_dataset_info(tmp_path, record, ranking, column):
  formats.write_llamafactory(tmp_path / 'mine.json', [record])
  info = json.loads((tmp_path / 'dataset_info.json').read_text())
  assert info['mine']['file_name'] == 'mine.json'
  assert info['mine'].get('ranking') is ranking
  written = json.loads((tmp_path / 'mine.json').read_text())[0]
  assert column in info['mine']['columns']
  assert set(info['mine']['columns'].values()) <= written.keys()


def _write(tmp_path, rows, name='rows.jsonl'):
  path = tmp_path / name
  path.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  return path


def test_a_foreign_row_gets_an_id_from_its_prompt(tmp_path):
  rows = [
      {'prompt': p, 'chosen': 'a', 'rejected': r, 'score': 3}
      for p, r in (('one', 'b'), ('one', 'c'), ('two', 'b'))
  ]
  one, same, two = formats.read_pairs(_write(tmp_path, rows), lang='fr')
  assert one.question_id == same.question_id != two.question_id
  assert (one.lang, one.chosen_lang, one.vote_share) == ('fr', 'fr', 1.0)


def test_alpaca_joins_instruction_and_input(tmp_path):
  rows = [
      {'instruction': 'do', 'input': 'this', 'chosen': 'a', 'rejected': 'b'},
      {'instruction': 'do', 'chosen': 'a', 'rejected': 'b', 'history': []},
  ]
  path = tmp_path / 'rows.json'
  path.write_text(json.dumps(rows))
  prompts = [row.prompt for row in formats.read_pairs(path)]
  assert prompts == ['do\nthis', 'do']


def test_a_prompt_may_be_the_first_message_of_both_sides(tmp_path):
  user = {'role': 'user', 'content': 'why?'}
  say = lambda text: {'role': 'assistant', 'content': text}
  row = {'chosen': [user, say('so')], 'rejected': [user, say('no')]}
  (found,) = formats.read_pairs(_write(tmp_path, [row]))
  assert (found.prompt, found.chosen, found.rejected) == ('why?', 'so', 'no')
  other = {'role': 'user', 'content': 'how?'}
  row = {'chosen': [user, say('so')], 'rejected': [other, say('no')]}
  with pytest.raises(ValueError, match='answer different prompts'):
    formats.read_pairs(_write(tmp_path, [row]))


GOOD = {'prompt': 'p', 'chosen': 'a', 'rejected': 'b'}


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ({'prompt': 'p', 'chosen': 'a'}, "lacks 'rejected'; it has"),
        (GOOD | {'chosen': None}, "'chosen' must be a string or one assistant"),
        (GOOD | {'prompt': [{'role': 'system', 'content': 's'}]}, 'one user'),
        (GOOD | {'prompt': [{'role': 'user', 'content': 's'}] * 2}, 'one user'),
        ({'chosen': 'pa', 'rejected': 'pb'}, "lacks 'prompt', and 'chosen'"),
        (GOOD | {'lang': 3}, "'lang' must be a string, not 3"),
        (GOOD | {'vote_share': '1'}, "'vote_share' must be a number"),
        (
            {'instruction': 'p', 'system': 's', 'chosen': 'a', 'rejected': 'b'},
            "'system' is not supported",
        ),
        (['p'], 'is not an object'),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, row, message):
  path = _write(tmp_path, [GOOD, row])
  with pytest.raises(ValueError, match=message) as error:
    formats.read_pairs(path)
  assert str(error.value).startswith(f'{path}:2: ')


def test_wrong_json_is_named(tmp_path):
  path = tmp_path / 'rows.jsonl'
  path.write_text(json.dumps(GOOD) + '\n{"prompt": \n')
  with pytest.raises(ValueError, match=r'rows\.jsonl:2: not JSON'):
    formats.read_pairs(path)
  path.write_text('[{"prompt": ]')
  with pytest.raises(ValueError, match=r'rows\.jsonl: not a JSON array'):
    formats.read_pairs(path)
  path.write_text(json.dumps([GOOD, 5]))
  with pytest.raises(ValueError, match=r'rows\.jsonl: row 2: 5 is not'):
    formats.read_pairs(path)


def test_the_authors_files_import(real_data):
  folder = real_data / 'calm_authors' / 'xcsqa' / 'dpo'
  counts = {'cn': 913, 'fr': 611, 'de': 739, 'it': 693, 'ja': 920, 'en': 140}
  for lang, count in counts.items():
    path = folder / f'DPO_{lang}.json'
    rows = formats.read_pairs(path, lang=lang)
    raw = json.loads(path.read_text(encoding='utf-8'))
    assert len(rows) == count
    assert [row.rejected for row in rows] == [row['rejected'] for row in raw]
    assert rows[0].prompt == raw[0]['instruction'] + '\n' + raw[0]['input']
    assert rows[0].lang == lang
