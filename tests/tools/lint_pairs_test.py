"""Each check by hand, style leaks of our own making, and the authors' pairs."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from calm_jax import formats, records
from calm_jax.qa import prompts
from tools import lint_checks, lint_language, lint_style

ROOT = pathlib.Path(__file__).parents[2]
OPTIONS = tuple(map(records.Option, 'xyz', ('cat', 'dog', 'cow')))
PROMPT = prompts.render(
    records.Question('q', 'own', 'train', 'en', 'Who barks?', OPTIONS),
    style='default',
    shots=1,
)
WHY = 'The dog is the one of them that barks, and it is not the cow.'
GOOD = prompts.completion(WHY, 'B', 'dog', 'en')
BAD = prompts.completion('A cat is what they have.', 'A', 'cat', 'en')


def _pair(chosen=GOOD, rejected=BAD, lang='en', name='q', prompt=PROMPT):
  return records.Pair(name, lang, prompt, chosen, rejected, lang, 1.0)


def _counts(*pairs):
  result = lint_checks.lint(pairs)
  return {
      f'{check}/{side}': told['count']
      for check in lint_checks.CHECKS
      for side, told in result[check].items()
      if told['count']
  }


def test_a_sound_pair_has_no_problem():
  assert _counts(_pair()) == {}


FRENCH = 'Le chien est un animal qui aboie, et la vache ne le fait pas.'


@pytest.mark.parametrize(
    ('chosen', 'expected'),
    [
        (f'{GOOD}\nAnswer: B', 'leaked_header'),
        (f'Explanation: Explanation: {WHY}\nAnswer: B. dog', 'leaked_header'),
        (f'Explanation: {WHY}\nRéponse :\nAnswer: B. dog', 'leaked_header'),
        (f'{GOOD}\n\nQuestion: Who moos?', 'leaked_header'),
        (
            'Explanation: It moos. So the answer is C.\nAnswer: B. dog',
            'contradiction',
        ),
        (
            'Explanation: It barks. So the answer is B.\nAnswer: B. dog',
            None,
        ),
        (f'Explanation: {WHY}\nAnswer: E. goat', 'no_answer'),
        (f'Explanation: {FRENCH}\nAnswer: B. dog', 'wrong_language'),
    ],
)
def test_a_side_with_one_problem(chosen, expected):
  found = {f'{expected}/chosen': 1} if expected else {}
  assert _counts(_pair(chosen)) == found
  swapped = {f'{expected}/rejected': 1} if expected else {}
  assert _counts(_pair(BAD, chosen)) == swapped


def test_repetitions_are_counted_and_say_where():
  result = lint_checks.lint([_pair(), _pair(GOOD, GOOD), _pair()])
  assert result['duplicate'] == {'pair': {'count': 1, 'rows': [3]}}
  assert result['same_text'] == {'pair': {'count': 1, 'rows': [2]}}


def test_a_prompt_without_options_is_counted():
  result = lint_checks.lint([_pair(prompt='Who barks?', chosen='Woof')])
  assert (result['options_unread'], result['pairs']) == (1, 1)
  assert result['no_answer']['chosen']['count'] == 0


def test_the_ratio_of_lengths():
  pairs = [_pair('x' * n, 'x' * 10) for n in (5, 10, 40)]
  assert lint_checks.lint(pairs)['length_ratio']['median'] == 1.0
  assert lint_checks.lint(pairs[2:])['length_ratio']['p95'] == 4.0


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (WHY, 'en'),
        (FRENCH, 'fr'),
        ('Il cane è un animale che abbaia, e non è una mucca.', 'it'),
        ('Der Hund ist ein Tier, das bellt, und nicht die Kuh.', 'de'),
        ('El perro es un animal que ladra, y la vaca no.', 'es'),
        ('狗是会叫的动物，牛不会叫。', 'zh'),
        ('犬は吠える動物ですが、牛は吠えません。', 'ja'),
        ('狗是一种 dog, which is the animal that barks at the man', 'en'),
        ('dog', None),
        ('犬', None),
        ('', None),
    ],
)
def test_languages(text, expected):
  assert lint_language.guess(text) == expected


def _drawn(count, worded, seed=0):
  """Pairs of two random texts; `worded` gives the style of both sides."""
  rng = random.Random(seed)
  words = 'the dog barks and a cow moos, while Cats (two) sleep. It is so'
  text = lambda: ' '.join(rng.choices(words.split(), k=rng.randint(5, 30)))
  return [
      _pair(*worded(text(), text(), rng), name=f'q{n // 3}')
      for n in range(count)
  ]


def test_a_style_of_its_own_is_found():
  worded = lambda a, b, rng: (f'{a}\nAnswer:B', f'{b}\n\nAnswer: C')
  found = lint_style.measure(_drawn(120, worded))
  assert found['accuracy'] == 100.0
  assert 'blank lines' in {t['feature'] for t in found['tells']}


def test_a_weak_leak_is_measured():
  """Of chosen sides 80 % end a line in a blank, of rejected ones 20 %."""
  blank = lambda rng, p: ' \n' if rng.random() < p else '\n'
  worded = lambda a, b, rng: (a + blank(rng, 0.8), b + blank(rng, 0.2))
  found = lint_style.measure(_drawn(900, worded))
  # 64 % differ in favour, 4 % against; of the other 32 % half are right.
  assert found['low'] < 80.0 < found['high']
  assert found['low'] > 50.0


def test_where_nothing_tells_the_interval_holds_50():
  found = lint_style.measure(_drawn(900, lambda a, b, rng: (a, b)))
  assert found['low'] < 50.0 < found['high']
  assert found['high'] - found['low'] < 12.0
  same = lint_style.measure(_drawn(60, lambda a, b, rng: (a, a)))
  assert (same['accuracy'], same['low'], same['high']) == (50.0, 50.0, 50.0)
  assert same['tells'] == []


def test_the_questions_of_a_fold_are_not_trained_on():
  """Each question has a sign of its own, which other questions never show."""
  ids, question = np.array(list('abcdefghij')), np.repeat(np.arange(10), 3)
  fold = lint_style._folds(ids, 0)
  assert sorted(np.bincount(fold)) == [2] * 5
  signs = np.eye(10)[question]
  apart = lint_style._cross_validated(signs, fold[question])
  assert set(apart) == {0.5}
  mixed = lint_style._cross_validated(signs, np.arange(30) % 5)
  assert set(mixed) == {1.0}


def test_an_interval_is_over_questions_and_not_over_pairs():
  right = np.repeat([1.0, 0.0], 500)
  few = lint_style._interval(right, np.repeat(np.arange(4), 250), 0)
  many = lint_style._interval(right, np.arange(1000), 0)
  assert few == (0.0, 100.0)
  assert 46.0 < many[0] < 48.0 < 52.0 < many[1] < 54.0


def test_too_few_questions_to_say():
  pairs = [_pair(name=f'q{n % 9}') for n in range(90)]
  assert lint_style.measure(pairs) is None


def _run(*args):
  return subprocess.run(
      [sys.executable, '-m', 'tools.lint_pairs', *args],
      cwd=ROOT,
      capture_output=True,
      text=True,
  )


def test_the_command_reads_every_format(tmp_path):
  records.write_jsonl(tmp_path / 'own.jsonl', [_pair()])
  formats.write_trl(tmp_path / 'trl.jsonl', [_pair(name='r')])
  bare = {'instruction': PROMPT, 'input': '', 'chosen': GOOD, 'rejected': BAD}
  (tmp_path / 'factory.json').write_text(json.dumps([bare]))
  files = ('own.jsonl', 'trl.jsonl', 'factory.json')
  out = _run('--pairs=' + ','.join(str(tmp_path / f) for f in files))
  result = json.loads(out.stdout)
  assert (result['pairs'], result['questions']) == (3, 3)
  assert result['languages'] == {'en': 3}  # the last one's is guessed
  assert result['duplicate']['pair'] == {'count': 2, 'rows': [2, 3]}
  assert result['style'] is None
  assert 'too few questions' in out.stderr
  assert 'duplicate' in out.stderr


@pytest.mark.parametrize(
    ('content', 'said'),
    [('', 'holds no pairs'), ('{"prompt": "a"}', "lacks 'chosen'")],
)
def test_the_command_names_a_file_that_it_cannot_use(tmp_path, content, said):
  path = tmp_path / 'x.jsonl'
  path.write_text(content)
  out = _run(f'--pairs={path}')
  assert out.returncode
  assert said in out.stderr
  assert 'Traceback' not in out.stderr


@pytest.mark.slow
def test_the_authors_pairs_leak_headers_and_style(real_data):
  folder = real_data / 'calm_authors' / 'xcsqa' / 'dpo'
  pairs = [
      p for f in sorted(folder.glob('*.json')) for p in lint_checks.read(f)
  ]
  result = lint_checks.lint(pairs)
  # The languages are guessed from the prompts: as many as the files hold.
  assert result['languages'] == {
      'zh': 913,
      'de': 739,
      'en': 140,
      'fr': 611,
      'it': 693,
      'ja': 920,
  }
  assert result['options_unread'] == 0
  leaked = {k: v['count'] for k, v in result['leaked_header'].items()}
  assert leaked == {'chosen': 999, 'rejected': 19}
  # Chosen texts are translated, rejected ones as the model wrote them.
  assert result['wrong_language']['chosen']['count'] == 0
  assert result['wrong_language']['rejected']['count'] == 82
  assert result['style']['low'] > 99.0
  rng = random.Random(0)
  swapped = [
      msgspec.structs.replace(p, chosen=p.rejected, rejected=p.chosen)
      if rng.random() < 0.5
      else p
      for p in pairs
  ]
  control = lint_style.measure(swapped)
  assert control is not None
  assert control['low'] < 50.0 < control['high']
