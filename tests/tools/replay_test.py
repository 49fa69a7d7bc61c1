"""The golden values of the authors' release, and files of other shapes."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from calm_jax.qa import answers
from tools import replay

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def golden(real_data):
  folder = real_data / 'calm_authors' / 'xcsqa'
  return replay.replay(
      replay.load(folder / 'samples'), replay.load_rejected(folder / 'dpo')
  )


def _rounded(table, digits=2):
  return {key: round(value, digits) for key, value in table.items()}


def test_golden_accuracy(golden):
  assert _rounded(golden['accuracy']) == {
      'en': 73.08,
      'zh': 52.06,
      'fr': 60.85,
      'it': 59.84,
      'de': 57.51,
      'ja': 49.17,
  }
  assert _rounded(golden['accuracy_mean']) == {'all': 58.75, 'en_zh_fr': 61.99}


def test_golden_consistency(golden):
  assert golden['questions_parsed'] == 892
  assert round(golden['consistency_parsed'], 3) == 57.728
  assert round(golden['consistency_strict'], 2) == 57.58
  strict = _rounded(golden['consistency_s'])
  assert (strict[2], strict[3], strict[6]) == (57.58, 42.13, 24.58)
  # The paper gives 58.24: it rounds accuracy and consistency first.
  assert golden['ac3']['all'] == pytest.approx(58.24, abs=0.01)


def test_golden_votes(golden):
  assert (golden['questions'], golden['samples']) == (899, 16182)
  assert (golden['ties'], golden['ties_en_zh_fr']) == (23, 46)
  assert round(golden['vote_accuracy'], 2) == 66.96
  assert golden['unparsed']['ja'] == 28
  assert golden['gold_differs'] == 0


def test_golden_pairs(golden):
  counts = {'zh': 913, 'fr': 611, 'de': 739, 'it': 693, 'ja': 920, 'en': 140}
  assert golden['pairs'] == golden['pairs_given'] == counts
  assert golden['pairs_equal'] == dict.fromkeys(counts, True)
  assert golden['pairs_en_by_all'] == 589


def test_their_english_chosen_texts_are_rebuilt(real_data):
  """Each is the last winner's reasoning and the option that it names."""
  folder = real_data / 'calm_authors' / 'xcsqa'
  samples = [
      s
      for s in replay._parsed(replay.load(folder / 'samples'))
      if s.lang == 'en'
  ]
  chosen = [chosen for chosen, _ in replay._preferred(samples)]
  given = json.loads((folder / 'dpo' / 'DPO_en.json').read_text('utf-8'))
  assert len(given) == 140
  for ours, theirs in zip(chosen, given, strict=True):
    reasoning = answers.explanation(ours.text, 'en')
    (option,) = (
        line
        for line in theirs['input'].split('\n')
        if line.startswith(f'{ours.answer}. ')
    )
    assert theirs['chosen'] == f'Explanation: {reasoning}\nAnswer:{option}'


def test_english_answers_vote_alone_on_english_pairs(tmp_path):
  # All together vote for B, the English ones for A.
  _write(tmp_path, en=[('A', 'AAB')], fr=[('A', 'BBC')])
  given = {'en': ['Answer: B'], 'fr': ['Réponse: C']}
  out = replay.replay(replay.load(tmp_path), given)
  assert out['pairs_equal'] == {'en': True, 'fr': True}


HEADER = {'en': 'Answer:', 'fr': 'Réponse:', 'ja': '答え:'}


def _write(folder, suffix='', **languages):
  """_write(folder, en=[('A', 'AB-')]): gold and answers of each question."""
  for name, questions in languages.items():
    rows = [
        {
            'instruction': '',
            'input': '',
            'output': gold,
            'pred': ['' if a == '-' else f'{HEADER[name]} {a}' for a in keys],
        }
        for gold, keys in questions
    ]
    path = folder / f'x_csqa_{name}_train{suffix}_sampled.json'
    path.write_text(json.dumps(rows), encoding='utf-8')
  return folder


def test_other_numbers_of_questions_samples_and_languages(tmp_path, capsys):
  folder = _write(
      tmp_path,
      suffix='_x',
      # First parsed: en A A, fr A B, ja - B.
      en=[('A', '-AABB'), ('B', 'A')],
      fr=[('A', 'A'), ('B', 'BB')],
      ja=[('A', '-'), ('B', 'B')],
  )
  out = replay.replay(replay.load(folder, '_x'), {})
  assert 'x_csqa_cn_train_x_sampled.json: going on' in capsys.readouterr().err
  assert out['languages'] == ['en', 'fr', 'ja']
  assert (out['questions'], out['samples']) == (2, 11)
  assert out['accuracy'] == {'en': 50.0, 'fr': 100.0, 'ja': 50.0}
  assert out['unparsed'] == {'en': 1, 'fr': 0, 'ja': 1}
  assert out['questions_parsed'] == 1
  # Strict: (1 + 1) of 6 pairs; parsed: 1 of 3.
  assert out['consistency_strict'] == pytest.approx(100 / 3)
  assert out['consistency_parsed'] == pytest.approx(100 / 3)
  assert out['consistency_s'][3] == 0.0
  assert out['vote_accuracy'] == 100.0
  assert out['pairs'] == {'en': 2, 'fr': 0, 'ja': 0}  # of the first question
  assert set(out['ac3']) == {'all'}


def test_repeated_rejected_answers_are_all_pairs(tmp_path):
  _write(tmp_path, en=[('A', 'AAABB')])
  given = {'en': ['Answer: B', 'Answer: B'], 'fr': ['x']}
  out = replay.replay(replay.load(tmp_path), given)
  assert out['pairs'] == {'en': 2}
  assert out['pairs_equal'] == {'en': True, 'fr': False}
  assert 'consistency_parsed' not in out


def test_ties_go_to_the_first_language_counted(tmp_path):
  _write(tmp_path, en=[('A', 'A')], fr=[('A', 'B')], ja=[('A', '-')])
  out = replay.replay(replay.load(tmp_path), {})
  assert (out['ties'], out['vote_accuracy']) == (1, 0.0)


def test_questions_without_any_answer_are_wrong_and_make_no_pairs(tmp_path):
  _write(tmp_path, en=[('A', '--'), ('A', '')], fr=[('A', '-'), ('A', '')])
  out = replay.replay(replay.load(tmp_path), {})
  assert out['accuracy'] == {'en': 0.0, 'fr': 0.0}
  assert out['consistency_parsed'] == out['vote_accuracy'] == 0.0
  assert out['pairs'] == {'en': 0, 'fr': 0}
  json.dumps(out, allow_nan=False)


def test_golds_that_differ_are_reported(tmp_path, capsys):
  _write(tmp_path, en=[('A', 'A'), ('B', 'B')], fr=[('A', 'A'), ('C', 'B')])
  out = replay.replay(replay.load(tmp_path), {})
  assert out['gold_differs'] == 1
  assert out['accuracy'] == {'en': 100.0, 'fr': 50.0}
  assert 'differs between languages in 1 of 2' in capsys.readouterr().err


def test_blank_and_single_predictions_are_taken(tmp_path):
  path = tmp_path / 'x_csqa_en_train_sampled.json'
  rows = [
      {'output': 'A', 'pred': [None, 'Answer: A']},
      {'output': ' B ', 'pred': 'Answer: B'},
  ]
  path.write_text(json.dumps(rows))
  out = replay.replay(replay.load(tmp_path), {})
  assert out['accuracy'] == {'en': 100.0}
  assert out['unparsed'] == {'en': 1}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[{"output": "A"}]', r"row 1: lacks 'pred'; it has \['output'\]"),
        ('[{"pred": []}]', "row 1: lacks 'output'"),
        ('[{"output": "", "pred": []}]', "'output' must be the gold letter"),
        ('[{"output": "A", "pred": [3]}]', "'pred' must hold strings, not 3"),
        ('["A"]', 'is not an object'),
        ('{}', 'must be a JSON array'),
        ('[', 'not JSON'),
        ('[]', 'holds no questions'),
    ],
)
def test_malformed_files_are_named(tmp_path, content, message):
  path = tmp_path / 'x_csqa_en_train_sampled.json'
  path.write_text(content)
  with pytest.raises(ValueError, match=message) as error:
    replay.load(tmp_path)
  assert str(error.value).startswith(f'{path}: ')


def test_files_of_different_lengths_are_refused(tmp_path):
  _write(tmp_path, en=[('A', 'A')] * 3, fr=[('A', 'A')] * 2)
  with pytest.raises(ValueError, match=r'has 2 rows, but .* has 3'):
    replay.load(tmp_path)


def test_a_wrong_suffix_lists_what_is_there(tmp_path):
  _write(tmp_path, suffix='_x', en=[('A', 'A')])
  with pytest.raises(FileNotFoundError, match='x_csqa_en_train_x_sampled'):
    replay.load(tmp_path)


def _command(*args):
  return subprocess.run(
      [sys.executable, '-m', 'tools.replay', *args],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
  )


def test_the_command_prints_json_and_nothing_else(tmp_path):
  _write(tmp_path, en=[('A', 'AAB')], fr=[('A', 'AAA')])
  pairs = [{'instruction': 'i', 'chosen': 'c', 'rejected': 'Answer: B'}]
  (tmp_path / 'DPO_en.json').write_text(json.dumps(pairs))
  done = _command(f'--samples={tmp_path}', f'--pairs={tmp_path}')
  assert done.returncode == 0
  out = json.loads(done.stdout)
  assert out['pairs_equal'] == {'en': True}
  assert out['consistency_s'] == {'2': 100.0}


@pytest.mark.parametrize(
    ('args', 'status'), [([], 2), (['--samples=absent'], 1), (['x'], 2)]
)
def test_a_wrong_command_fails_with_words(args, status):
  done = _command(*args)
  assert done.returncode == status
  assert done.stdout == ''
  assert 'Traceback' not in done.stderr
  assert 'samples' in done.stderr
