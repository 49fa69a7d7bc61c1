"""A data set, a language, a translator: each one file and a line in a table."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

DATASET = '''"""Riddles, one a line: question, right answer, wrong ones."""

from calm_jax import records


def find(path, split, languages):
  return {lang: [path / lang / f'{split}.tsv'] for lang in languages}


def read(path, split, languages):
  questions = []
  for lang, (file,) in find(path, split, languages).items():
    for i, line in enumerate(file.read_text('utf-8').strip().split('\\n')):
      stem, *texts = line.split('\\t')
      options = tuple(records.Option(k, t) for k, t in zip('ABC', texts))
      questions.append(
          records.Question(f'r{i}', 'riddles', split, lang, stem, options, 'A')
      )
  return questions, {}
'''

TRANSLATOR = '''"""Says everything louder."""

from calm_jax.translators import translator


def problem(path):
  return None


def depends(cfg):
  return {'translator': Loud().version}


def build(cfg, folder):
  return Loud()


class Loud(translator.Translator):
  version = '1'

  def supports(self, source, target):
    return True

  def translate(self, texts, source, target):
    return [text.upper() for text in texts]
'''

LANGUAGE = '''"""Dutch."""

from calm_jax.qa import language

ROW = language.Language(
    code='nl',
    name='Dutch',
    native='Nederlands',
    question='Vraag',
    explanation='Uitleg',
    answer='Antwoord',
    colon=': ',
    wording=language.Wording(
        instruction='Beantwoord de meerkeuzevraag met uitleg: {letters}.',
        your_explanation='<jouw uitleg>',
        letter_and_option='<letter>. <optie>',
        passages='Deze passages kunnen helpen:',
        comma=', ',
        last_comma=' of ',
    ),
    vocabulary=language.Vocabulary(
        answer=('antwoord', 'juiste optie'),
        explanation=('uitleg',),
        question=('vraag',),
        copula=('is', 'luidt'),
        lead=('optie', 'de', 'het'),
        join=('en', 'of'),
        right=('juist', 'goed'),
        no=('niet', 'geen'),
        choose=('ik kies',),
    ),
    shots=(
        language.Shot('Wat blaft?', 'hond', ('kat', 'koe'), 'Honden blaffen.'),
    ),
    codes=language.Codes('nl', 'nld_Latn', ('nld', 'nl'), ('nld', 'nl')),
    spaced=True,
    lexicon=language.Lexicon(
        numbers=(
            *('een', 'twee', 'drie', 'vier', 'vijf'),
            *('zes', 'zeven', 'acht', 'negen', 'tien'),
        ),
        units=(('l', 'liter liters'),),
        option='optie antwoord',
    ),
)
'''

# Where each goes, and the one line that names it.
NEW = {
    'datasets/riddles.py': DATASET,
    'translators/loud.py': TRANSLATOR,
    'qa/tongues/nl.py': LANGUAGE,
}
LINES = {
    'datasets/__init__.py': (
        'READERS = {\n',
        "    'riddles': 'calm_jax.datasets.riddles',\n",
    ),
    'translators/__init__.py': (
        'BACKENDS = {\n',
        "    'loud': 'calm_jax.translators.loud',\n",
    ),
    'qa/languages.py': ('MODULES = (\n', "    'calm_jax.qa.tongues.nl',\n"),
}

# What a user then does; run beside the copied package, by a new Python.
USE = """
import pathlib, sys

from calm_jax import pair, read, records, settings, translate, vote
from calm_jax.qa import answers, prompts
from configs import base

workdir = pathlib.Path('run')
cfg = base.get_config()
cfg.model, cfg.languages = 'org/name', ('nl', 'en')
cfg.data.name, cfg.data.path = 'riddles', 'riddles'
cfg.translate.backend = 'loud'
problems = settings.problems(cfg)
assert not problems, problems

print(read.run(cfg, workdir))
print(translate.run(cfg, workdir))
path = workdir / 'translate' / 'train.jsonl'
questions = {q.lang: q for q in records.read_jsonl(path, records.Question)}
asked = prompts.render(questions['nl'], style='default', shots=1)
assert 'A, B of C.' in asked and 'Vraag: Wie miauwt?' in asked, asked
assert 'Uitleg: Honden blaffen.' in asked, asked
for said in ('Uitleg: Zo is het.\\nAntwoord: B. hond', 'De juiste optie is B.'):
  assert answers.parse(said, questions['nl']).answer == 'B', said
assert answers.explanation('Uitleg: Zo.\\nAntwoord: B', 'nl') == 'Zo.'

sample = lambda lang, index, text: records.Sample(
    'r0', lang, index, text, answers.parse(text, questions[lang]).answer,
    '', -1.0, 9, 'stop',
)
records.write_jsonl(
    workdir / 'sample' / '00000.jsonl',
    [
        sample('nl', 0, 'Uitleg: Een poes.\\nAntwoord: A'),
        sample('nl', 1, 'Uitleg: Een kat.\\nAntwoord: A'),
        sample('en', 0, 'Explanation: It barks.\\nAnswer: B'),
    ],
)
print(vote.run(cfg, workdir))
print(pair.run(cfg, workdir))
(row,) = records.read_jsonl(workdir / 'pair' / 'train.jsonl', records.Pair)
assert row.chosen == 'Explanation: EEN KAT.\\nAnswer: A. cat', row
assert (row.lang, row.chosen_lang) == ('en', 'nl')
assert 'jax' not in sys.modules

from calm_jax.translators import guards

told = '3 cups of 2 liters: option E', 'Drie van 2 liter: optie E'
assert not guards.changed_facts(*told), guards.changed_facts(*told)
assert guards.changed_facts('3 cups', 'Vier koppen') == ['number 3 is lost']

# A language whose stop words the linter lacks is not taken for a like one.
from tools import lint_checks

why = 'Die hond is van mij, die man zit in het huis, die kat was in de tuin.'
said = f'Explanation: {why}\\nAnswer: B. hond'
mine = records.Pair('r0', 'nl', asked, said, said + ' ', 'nl', 1.0)
told = lint_checks.lint([mine])['wrong_language']
assert told['chosen']['count'] == 0, told
"""


def test_one_file_and_one_line_each(tmp_path):
  """The package with three new files and three new lines does all of it."""
  for name in ('calm_jax', 'configs', 'tools'):
    shutil.copytree(
        ROOT / name,
        tmp_path / name,
        ignore=shutil.ignore_patterns('__pycache__'),
    )
  package = tmp_path / 'calm_jax'
  for name, text in NEW.items():
    assert not (package / name).exists()
    (package / name).write_text(text, encoding='utf-8')
  for name, (before, line) in LINES.items():
    table = (package / name).read_text('utf-8')
    assert table.count(before) == 1
    (package / name).write_text(table.replace(before, before + line), 'utf-8')
  for lang, row in {
      'nl': 'Wie miauwt?\tkat\thond\tkoe',
      'en': 'Who mews?\tcat\tdog\tcow',
  }.items():
    (tmp_path / 'riddles' / lang).mkdir(parents=True)
    for split in ('train', 'test'):
      (tmp_path / 'riddles' / lang / f'{split}.tsv').write_text(row + '\n')
  done = subprocess.run(
      [sys.executable, '-c', USE],
      cwd=tmp_path,
      capture_output=True,
      text=True,
      env={'PATH': '', 'PYTHONPATH': str(tmp_path)},
      check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
