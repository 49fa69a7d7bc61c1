"""The report of a made-up run, of broken runs, and of no run at all."""

from __future__ import annotations

import collections
import html.parser
import io
import json
import pathlib
import random
import re
import shutil
import subprocess

from ml_collections import ConfigDict
import pytest
import rich.console

from calm_jax import records, report
from calm_jax.html import summary
from calm_jax.qa import metrics

CHROMIUM = shutil.which('chromium')
KEYS = 'ABCDE'
SKILL = {'en': 0.73, 'zh': 0.52, 'fr': 0.61, 'it': 0.6, 'de': 0.57, 'ja': 0.49}
EVIL = '</script><img src=x onerror=alert(1)>\u2028{{ 7*7 }}'
STEMS = {
    'en': 'Where would you most likely put a wet coat, number {}?',
    'zh': '第{}题：湿外套最有可能放在哪里？',
    'fr': 'Où mettrait-on le plus souvent un manteau mouillé, numéro {} ?',
    'it': 'Dove si mette di solito un cappotto bagnato, numero {}?',
    'de': 'Wohin hängt man am ehesten einen nassen Mantel, Nummer {}?',
    'ja': '第{}問：濡れたコートはどこに置くことが多いですか。',
}
PLACES = {
    'en': ('hall', 'fridge', 'drawer', 'bed', 'oven'),
    'zh': ('门厅', '冰箱', '抽屉', '床', '烤箱'),
    'fr': ('entrée', 'frigo', 'tiroir', 'lit', 'four'),
    'it': ('ingresso', 'frigo', 'cassetto', 'letto', 'forno'),
    'de': ('Flur', 'Kühlschrank', 'Schublade', 'Bett', 'Ofen'),
    'ja': ('玄関', '冷蔵庫', '引き出し', 'ベッド', 'オーブン'),
}
WORDS = {
    'en': ('Explanation: A wet coat drips; hang it near the door. ', 'Answer'),
    'zh': ('解释：湿外套会滴水，所以挂在门边。', '答案'),
    'fr': ('Explication: Un manteau mouillé goutte. ', 'Réponse'),
    'it': ('Spiegazione: Un cappotto bagnato gocciola. ', 'Risposta'),
    'de': ('Erklärung: Ein nasser Mantel tropft. ', 'Antwort'),
    'ja': ('説明：濡れたコートは水が垂れるので入口に掛けます。', '答え'),
}


def config(langs=tuple(SKILL), method='dpo', parser='default') -> ConfigDict:
  return ConfigDict(
      {
          'model': 'models/tiny',
          'languages': langs,
          'data': {'name': 'xcsqa'},
          'sample': {'m': 3},
          'vote': {'parser': parser},
          'train': {'method': method, 'learning_rate': 5e-6},
      }
  )


def make_run(
    folder: pathlib.Path, *, langs=tuple(SKILL), train=60, test=80, stages=None
) -> pathlib.Path:
  """Writes a run folder as the stages would, always the same for a call."""
  rng = random.Random(0)
  steps = {
      'read': lambda: _read(folder, langs, train, test, rng),
      'sample': lambda: _sample(folder, langs, rng),
      'vote': lambda: _vote(folder),
      'pair': lambda: _pair(folder, rng),
      'align': lambda: _align(folder, rng),
      'evaluate': lambda: _evaluate(folder, langs, rng),
  }
  for i, name in enumerate(steps if stages is None else stages):
    counts = steps[name]()
    done = {
        'stage': name,
        'fingerprint': f'{i:064d}',
        'config': {'seed': 42, 'languages': list(langs)},
        'inputs': {'model': 'sha256 0123'} if name == 'sample' else {},
        'counts': counts,
        'seconds': 1.5 + 61.25 * i,
        'versions': {'jax': '0.10.2', 'flax': '0.12.8'},
        'upstream': {},
    }
    (folder / name / 'DONE.json').write_text(json.dumps(done))
  return folder


def _read(folder, langs, train, test, rng):
  for split, n in (('train', train), ('test', test)):
    rows = []
    for i in range(n):
      gold = rng.choice(KEYS)
      for lang in langs:
        options = tuple(
            records.Option(k, w)
            for k, w in zip(KEYS, PLACES[lang], strict=True)
        )
        stem = STEMS[lang].format(i + 1)
        rows.append(
            records.Question(
                f'{split}-{i:04d}', 'xcsqa', split, lang, stem, options, gold
            )
        )
    records.write_jsonl(folder / 'read' / f'{split}.jsonl', rows)
  return {'train': train, 'test': test}


def _questions(folder, split):
  return list(
      records.read_jsonl(folder / 'read' / f'{split}.jsonl', records.Question)
  )


def _draw(question, skill, rng):
  """An answer and its text; one in twenty names no option."""
  words, header = WORDS[question.lang]
  if rng.random() < 0.05:
    return None, 'no_answer', words * 3
  own = random.Random(question.id).choice(KEYS)  # the trap of this question
  key = question.gold if rng.random() < skill else rng.choice((own, own, 'A'))
  text = question.options[KEYS.index(key)].text
  return key, 'header', f'{words * rng.randint(1, 3)}\n{header}: {key}. {text}'


def _sample(folder, langs, rng):
  rows = []
  for q in _questions(folder, 'train'):
    for index in range(3):
      answer, parse, text = _draw(q, SKILL[q.lang], rng)
      if q.id == 'train-0000' and index == 0:
        text = EVIL + text
      stop = 'length' if answer is None else 'eos'
      rows.append(
          records.Sample(
              q.id, q.lang, index, text, answer, parse, -9.5, 60, stop
          )
      )
  rows.sort(key=lambda s: (len(s.text), s.question_id, s.lang, s.index))
  for i in range(0, len(rows), 500):
    path = folder / 'sample' / f'{i // 500:05d}.jsonl'
    records.write_jsonl(path, rows[i : i + 500])
  return {'samples': len(rows), 'unparsed': sum(r.answer is None for r in rows)}


def _samples(folder):
  return records.read_all(folder / 'sample', '*.jsonl', records.Sample)


def _vote(folder):
  by_question = collections.defaultdict(list)
  for s in sorted(_samples(folder), key=lambda s: (s.question_id, s.index)):
    by_question[s.question_id].append(s)
  rows = []
  for name, given in sorted(by_question.items()):
    total = collections.Counter(s.answer for s in given if s.answer)
    counts, unparsed = {}, {}
    for s in given:
      counts.setdefault(s.lang, {})
      unparsed.setdefault(s.lang, 0)
      if s.answer is None:
        unparsed[s.lang] += 1
      else:
        counts[s.lang][s.answer] = counts[s.lang].get(s.answer, 0) + 1
    best = total.most_common(2)
    tie = len(best) == 2 and best[0][1] == best[1][1]
    winner = best[0][0] if best and not tie else None
    share = best[0][1] / total.total() if winner else 0.0
    rows.append(records.Vote(name, winner, share, counts, unparsed))
  records.write_jsonl(folder / 'vote' / 'votes.jsonl', rows)
  return {'votes': len(rows)}


def _pair(folder, rng):
  votes = records.read_jsonl(folder / 'vote' / 'votes.jsonl', records.Vote)
  winner = {v.question_id: v for v in votes}
  pairs = {'train': [], 'val': []}
  good = {}
  for s in _samples(folder):
    if s.answer and s.answer == winner[s.question_id].winner:
      good[s.question_id] = s
  for s in _samples(folder):
    chosen = good.get(s.question_id)
    if chosen and s.answer and s.answer != chosen.answer:
      split = 'val' if s.question_id.endswith('7') else 'train'
      pairs[split].append(
          records.Pair(
              s.question_id,
              s.lang,
              f'Question {s.question_id} ({s.lang})? {EVIL}',
              chosen.text * rng.randint(1, 2),
              s.text,
              chosen.lang,
              winner[s.question_id].share,
          )
      )
  for split, rows in pairs.items():
    records.write_jsonl(folder / 'pair' / f'{split}.jsonl', rows)
  return {'pairs': len(pairs['train']), 'dropped_no_winner': 3}


def _align(folder, rng):
  rows = []
  for step in range(240):
    part = step / 240
    rows.append(
        {
            'step': step,
            'split': 'train',
            'loss': 0.6931 - 0.2 * part + rng.gauss(0, 0.03) * (step > 0),
            'rewards/chosen': 0.4 * part + rng.gauss(0, 0.02),
            'rewards/rejected': -0.3 * part + rng.gauss(0, 0.02),
            'rewards/margins': 0.7 * part + rng.gauss(0, 0.04),
            'rewards/accuracies': min(
                1.0, 0.5 + 0.4 * part + rng.gauss(0, 0.05)
            ),
            'grad_norm': 4 - 2 * part + rng.random(),
            'learning_rate': 5e-6 * min(step / 24, 1) * (1 - part),
            'tokens/s': 2100 + rng.gauss(0, 30),
        }
    )
    if step % 40 == 39:
      rows.append(
          {
              'step': step,
              'split': 'val',
              'loss': 0.69 - 0.15 * part,
              'rewards/margins': 0.5 * part,
              'rewards/accuracies': 0.5 + 0.3 * part,
          }
      )
  (folder / 'align').mkdir()
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'align' / 'metrics.jsonl').write_text(text)
  return {'steps': 240}


def _evaluate(folder, langs, rng):
  rows = {'base': [], 'aligned': []}
  for system, gain in (('base', 0.0), ('aligned', 0.06)):
    for q in _questions(folder, 'test'):
      answer, parse, text = _draw(q, SKILL[q.lang] + gain, rng)
      rows[system].append(
          records.Prediction(system, q.id, q.lang, text, answer, parse, q.gold)
      )
    path = folder / 'evaluate' / system / '00000.jsonl'
    records.write_jsonl(path, rows[system])
  records.write_jsonl(
      folder / 'evaluate' / 'scores.jsonl', _scores(rows, langs)
  )
  return {'predictions': sum(map(len, rows.values()))}


def _scores(rows, langs):
  found = {}
  for system, predictions in rows.items():
    answers = metrics.collect(predictions, langs)
    times = metrics.resample(len(answers.question_ids), count=200, seed=0)
    found[system] = metrics.estimates(answers, times)
  found['aligned-base'] = {
      name: metrics.difference(before, found['aligned'][name])
      for name, before in found['base'].items()
  }
  return [
      records.Score(system, 'test', lang, metric, e.value, e.n, *e.interval())
      for system, estimates in found.items()
      for (lang, metric), e in estimates.items()
  ]


class Tables(html.parser.HTMLParser):
  """The tables of a page: caption, then row heading, then <data> values."""

  def __init__(self, text):
    super().__init__()
    self.found = {}
    self._caption = self._text = self._inside = ''
    self._values = []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    if tag == 'data':
      self._values.append((float(dict(attrs)['value']), ''))
    self._inside = tag if tag in ('caption', 'th', 'data') else self._inside
    if tag in ('caption', 'th'):
      self._values, self._text = [], ''

  def handle_data(self, data):
    if self._inside == 'data' and self._values:
      self._values[-1] = (self._values[-1][0], data)
    if self._inside in ('caption', 'th'):
      self._text += data

  def handle_endtag(self, tag):
    if tag == 'caption':
      self._caption = self._text
    elif tag == 'th':
      rows = self.found.setdefault(self._caption, {})
      rows[self._text] = self._values
    self._inside = '' if tag in ('caption', 'th', 'data') else self._inside


def embedded(text):
  found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
  return json.loads(found[1])


def pages(folder):
  return {
      p.name: p.read_text('utf-8')
      for p in sorted((folder / 'report').glob('*.html'))
  }


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  folder = make_run(tmp_path_factory.mktemp('run'))
  counts = report.run(config(), folder)
  return folder, counts


def test_counts_say_what_was_read(made):
  folder, counts = made
  assert counts == {
      'questions': 140,
      'samples': 60 * 6 * 3,
      'pairs': sum(
          len((folder / 'pair' / f'{s}.jsonl').read_text('utf-8').split('\n'))
          - 1
          for s in ('train', 'val')
      ),
      'question_pages': 1,
  }
  assert counts['pairs'] > 100


def test_what_a_model_wrote_stays_text(made):
  written = pages(made[0])
  for text in written.values():
    assert '<img' not in text
    assert '{{ 7*7 }}' in text  # and was not run as a template
  assert '&lt;/script&gt;&lt;img src=x' in written['report.html']
  assert '<script' not in written['report.html']
  listed = written['questions.html']
  assert listed.count('<script') == listed.count('</script>') == 2
  assert '\\u003c/script\\u003e\\u003cimg' in listed
  first = embedded(listed)['items'][0]
  assert first['samples'][0]['text'].startswith(EVIL)
  assert first['prompts']['en'].endswith(EVIL)


def test_pages_load_nothing_from_elsewhere(made):
  for name, text in pages(made[0]).items():
    assert not re.search(r'https?:|//[a-z]|@import|url\(', text), name
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) <= {
        'report.html',
        'questions.html',
        *(f'#{s}' for s in ('scores', 'languages', 'agreement', 'samples')),
        *(f'#{s}' for s in ('votes', 'pairs', 'training', 'run')),
    }


def test_tables_show_the_scores(made):
  scores = {
      (s.system, s.lang, s.metric): s for s in report.read_scores(made[0])
  }
  tables = Tables(pages(made[0])['report.html']).found

  def check(row, lang, metric):
    expected = [
        scores[system, lang, metric].value
        for system in ('base', 'aligned', 'aligned-base')
    ]
    assert [value for value, _ in row] == expected
    told = [text.replace('−', '-') for _, text in row]
    assert [float(t) for t in told] == [round(v, 1) for v in expected]
    assert told[2] == '0.0' or told[2][0] in '+-'

  headline = next(rows for name, rows in tables.items() if 'bold' in name)
  for label, metric in (
      ('Mean accuracy', 'accuracy'),
      ('Mean accuracy of EN, ZH, FR', 'accuracy_en_zh_fr'),
      ('Consistency', 'consistency_2'),
      ('Consistency of parsed answers', 'consistency_2_parsed'),
      ('AC3', 'ac3_2'),
      ('AC3, accuracy of EN, ZH, FR', 'ac3_2_en_zh_fr'),
      ('Unparsed', 'unparsed'),
  ):
    check(headline[label], 'all', metric)
  for lang in SKILL:
    check(tables['Accuracy'][lang.upper()], lang, 'accuracy')
    check(tables['Unparsed answers'][lang.upper()], lang, 'unparsed')
  subsets = next(rows for name, rows in tables.items() if 'all sets' in name)
  for size in range(2, 7):
    check(subsets[str(size)], 'all', f'consistency_{size}')


def test_heat_maps_average_to_the_consistency(made):
  text = pages(made[0])['report.html']
  cells = re.findall(r'[A-Z]{2} and [A-Z]{2}: ([\d.]+) %', text)
  scores = {(s.system, s.metric): s.value for s in report.read_scores(made[0])}
  assert len(cells) == 2 * 30
  for i, system in enumerate(('base', 'aligned')):
    own = [float(c) for c in cells[i * 30 : (i + 1) * 30]]
    expected = scores[system, 'consistency_2']
    assert sum(own) / 30 == pytest.approx(expected, abs=0.05)


def test_samples_are_marked_by_the_vote(made):
  votes = records.read_jsonl(made[0] / 'vote' / 'votes.jsonl', records.Vote)
  winner = {v.question_id: v.winner for v in votes}
  items = embedded(pages(made[0])['questions.html'])['items']
  seen = collections.Counter()
  for item in items:
    for sample in item['samples']:
      expected = (
          'unparsed'
          if sample['answer'] is None
          else 'undecided'
          if winner[item['id']] is None
          else 'won'
          if sample['answer'] == winner[item['id']]
          else 'lost'
      )
      assert sample['state'] == expected
      seen[expected] += 1
    langs = [s['lang'] for s in item['samples']]
    assert langs == sorted(langs, key=list(SKILL).index)
  assert set(seen) == {'won', 'lost', 'unparsed', 'undecided'}
  assert len(items[-1]['answers']) == 12
  assert not items[-1]['samples']


def test_same_input_same_bytes(made, tmp_path):
  again = make_run(tmp_path / 'elsewhere')
  report.run(config(), again)
  assert pages(again) == pages(made[0])


@pytest.mark.parametrize('count', range(6))
def test_stages_that_are_missing_are_named(tmp_path, count):
  stages = ('read', 'sample', 'vote', 'pair', 'align', 'evaluate')
  make_run(tmp_path, train=4, test=4, stages=stages[:count])
  report.run(config(), tmp_path)
  text = pages(tmp_path)['report.html']
  named = set(re.findall(r'the stage <code>(\w+)</code>', text))
  assert named == set(stages[max(1, count) :])
  listed = embedded(pages(tmp_path)['questions.html'])['index']
  assert len(listed) == (8 if count else 0)


def test_a_stage_that_only_began_is_named(tmp_path):
  make_run(tmp_path, train=2, test=2, stages=('read', 'sample'))
  (tmp_path / 'sample' / 'DONE.json').unlink()
  report.run(config(), tmp_path)
  assert 'Begun and not finished: sample.' in pages(tmp_path)['report.html']


def test_one_language_and_one_question(tmp_path):
  make_run(tmp_path, langs=('en',), train=1, test=1)
  report.run(config(langs=('en',)), tmp_path)
  text = pages(tmp_path)['report.html']
  assert 'One language only' in text
  assert 'No pairs' in text
  assert 'nan' not in re.sub(r'<style>.*?</style>', '', text, flags=re.DOTALL)


def test_targets_instead_of_pairs(tmp_path):
  make_run(tmp_path, train=8, test=2, stages=('read', 'sample', 'vote'))
  row = records.Target(
      'train-0001', 'fr', 'Question ?', EVIL, 0.5, changed=('units',)
  )
  records.write_jsonl(tmp_path / 'pair' / 'train.jsonl', [row])
  records.write_jsonl(tmp_path / 'pair' / 'val.jsonl', [])
  report.run(config(method='sft'), tmp_path)
  text = pages(tmp_path)['report.html']
  assert '<h2>Targets</h2>' in text
  assert 'rejected' not in Tables(text).found['Median characters']
  item = embedded(pages(tmp_path)['questions.html'])['items'][1]
  assert item['pairs'][0] | {'chosen': ''} == {
      'part': 'train',
      'lang': 'fr',
      'chosen_lang': 'fr',
      'chosen': '',
      'rejected': None,
      'share': 0.5,
      'opening': '',
      'changed': ['units'],
  }


def test_answers_are_shown_as_the_vote_read_them(tmp_path):
  make_run(tmp_path, langs=('en',), train=1, test=1, stages=('read',))
  sample = records.Sample(
      'train-0000', 'en', 0, 'I say\nAnswer: B', 'C', 'x', -1.0, 3, 'eos'
  )
  records.write_jsonl(tmp_path / 'sample' / '00000.jsonl', [sample])
  shown = {}
  for parser in ('default', 'authors'):
    report.run(config(langs=('en',), parser=parser), tmp_path)
    items = embedded(pages(tmp_path)['questions.html'])['items']
    shown[parser] = items[0]['samples'][0]['answer']
  assert shown == {'default': 'C', 'authors': 'B'}


def test_many_questions_make_several_pages(tmp_path, monkeypatch):
  monkeypatch.setattr('calm_jax.html.questions.PAGE_SIZE', 5)
  make_run(tmp_path, langs=('en', 'fr'), train=7, test=6)
  counts = report.run(config(langs=('en', 'fr')), tmp_path)
  assert counts['question_pages'] == 3
  texts = pages(tmp_path)
  held = {
      item['key']: name
      for name, text in texts.items()
      if name != 'report.html'
      for item in embedded(text)['items']
  }
  index = embedded(texts['questions.html'])['index']
  assert {row[0]: row[5] for row in index} == held
  assert len(held) == 13
  last = embedded(texts['questions-002.html'])['index']
  assert {row[0]: row[5] for row in last} == {
      key: name for key, name in held.items() if name == 'questions-002.html'
  }
  assert len(last) == 3
  assert 'href="questions-001.html"' in texts['questions.html']


def test_metrics_that_are_not_finite_or_not_finished(tmp_path):
  (tmp_path / 'align').mkdir()
  (tmp_path / 'align' / 'metrics.jsonl').write_text(
      '{"step": 0, "split": "train", "loss": 0.6931}\n'
      '{"step": 1, "split": "train", "loss": NaN}\n'
      '{"step": 2, "split": "tra'
  )
  report.run(config(), tmp_path)
  text = pages(tmp_path)['report.html']
  assert 'train ends at 0.6931' in text
  assert '1 values are not finite' in text


def test_a_damaged_line_is_named(tmp_path):
  (tmp_path / 'align').mkdir()
  path = tmp_path / 'align' / 'metrics.jsonl'
  path.write_text('{"step": 0, "loss": 1}\n{"loss": 1}\n')
  with pytest.raises(ValueError, match=r'metrics\.jsonl:2: .*step'):
    report.run(config(), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason='needs chromium, to run the script')
def test_a_browser_shows_a_question(made, tmp_path):
  page = (made[0] / 'report' / 'questions.html').as_uri()
  done = subprocess.run(
      [
          CHROMIUM,
          *('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic'),
          *('--no-first-run', '--disable-background-networking'),
          *(f'--user-data-dir={tmp_path}', '--dump-dom'),
          f'{page}#train%2Ftrain-0000',
      ],
      capture_output=True,
      text=True,
      timeout=120,
      check=True,
  )
  shown = done.stdout.partition('<article')[2].partition('</article>')[0]
  assert '<h2>train-0000 <small>train</small></h2>' in shown
  assert '&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;' in shown
  assert '<img' not in done.stdout
  item = embedded(done.stdout)['items'][0]
  states = collections.Counter(s['state'] for s in item['samples'])
  assert shown.count('</b> won</span>') == states['won'] > 0
  assert shown.count('class="chip won"') == states['won']
  assert shown.count('</b> lost</span>') == states['lost'] > 0
  assert shown.count('<mark>') == states['won'] + states['lost']
  assert shown.count('>rejected</p>') == len(item['pairs']) > 0
  assert done.stdout.count('<li><a') == 140


def test_summary_table(made):
  table = summary.table(report.read_scores(made[0]))
  out = io.StringIO()
  rich.console.Console(width=120, file=out).print(table)
  lines = out.getvalue().splitlines()
  scores = {
      (s.system, s.metric): s
      for s in report.read_scores(made[0])
      if s.lang == 'all'
  }
  for system in ('base', 'aligned'):
    (line,) = (x for x in lines if x.startswith(f'│ {system} '))
    for metric in ('accuracy', 'consistency_2', 'ac3_2', 'unparsed'):
      assert f' {scores[system, metric].value:.1f} ' in line
  change = scores['aligned-base', 'accuracy']
  assert f'{change.value:+.1f} ({change.low:+.1f} to' in line.replace('−', '-')


def test_summary_table_of_nothing():
  assert summary.table([]).row_count == 0
