"""A question's page with its evidence and what reflection tokens said of it."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess

from ml_collections import ConfigDict
import pytest

from calm_jax import records, report

NODE = shutil.which('node')
OPTIONS = (records.Option('A', 'the heart'), records.Option('B', 'the liver'))
EVIL = '</script><img src=x onerror=alert(1)>'


def config():
  return ConfigDict(
      {
          'model': 'models/tiny',
          'languages': ('en', 'fr'),
          'data': {'name': 'demo'},
          'sample': {'m': 1, 'languages': ()},
          'vote': {'parser': 'default'},
          'train': {'method': 'dpo', 'learning_rate': 5e-6},
      }
  )


def question(split, lang):
  return records.Question(
      f'{split}-1', 'demo', split, lang, 'What pumps?', OPTIONS, 'A'
  )


def passage(number, **changes):
  fields = {'id': f'en/Heart@{number}', 'source': 'en/Heart', 'score': 0.5}
  fields |= {'text': f'Text {number}. {EVIL}'} | changes
  return records.Passage(**fields)


def reflection(split, number, system='', **changes):
  fields = {
      'question_id': f'{split}-1',
      'lang': 'en',
      'index': 0,
      'system': system,
      'retrieve': 0.75,
      'passage': f'en/Heart@{number}',
      'text': f'[Relevant]{EVIL}[Utility:5]',
      'answer': 'A',
      'relevance': 0.875,
      'support': None,
      'utility': -0.25,
      'sequence': 0.125,
      'score': 0.750,
      'elected': number == 0,
      'probabilities': {'[Relevant]': 0.5},
  }
  return records.Reflection(**(fields | changes))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  for split in ('train', 'test'):
    asked = [question(split, lang) for lang in ('en', 'fr')]
    records.write_jsonl(folder / 'read' / f'{split}.jsonl', asked)
    found = (passage(0), passage(9, kind='random'))
    evidence = [
        records.Evidence(f'{split}-1', 'en', found),
        records.Evidence(f'{split}-1', 'fr', ()),
    ]
    records.write_jsonl(folder / 'retrieve' / f'{split}.jsonl', evidence)
  sample = records.Sample(
      'train-1', 'en', 0, 'Answer: A', 'A', 'header', -1.0, 3, 'stop'
  )
  records.write_jsonl(folder / 'sample' / '00000.jsonl', [sample])
  records.write_jsonl(
      folder / 'sample' / 'reflections' / '00000.jsonl',
      [reflection('train', 0), reflection('train', 9, answer=None)],
  )
  for system in ('base', 'aligned'):
    answer = records.Prediction(
        system, 'test-1', 'en', 'Answer: A', 'A', 'header', 'A'
    )
    place = folder / 'evaluate' / system
    records.write_jsonl(place / '00000.jsonl', [answer])
    records.write_jsonl(
        place / 'reflections' / '00000.jsonl', [reflection('test', 0, system)]
    )
  report.run(config(), folder)
  return folder


def page(folder):
  return (folder / 'report' / 'questions.html').read_text('utf-8')


def items(folder):
  found = re.search(r'id="data">(.*?)</script>', page(folder), re.DOTALL)
  assert found is not None
  return {item['id']: item for item in json.loads(found[1])['items']}


def test_evidence_stands_beside_its_question(folder):
  for name in ('train-1', 'test-1'):
    english, french = items(folder)[name]['evidence']
    assert (english['lang'], french['lang']) == ('en', 'fr')
    assert [p['id'] for p in english['passages']] == [
        'en/Heart@0',
        'en/Heart@9',
    ]
    assert [p['kind'] for p in english['passages']] == ['retrieved', 'random']
    assert english['passages'][0]['score'] == 0.5
    assert french['passages'] == []


def test_every_score_of_every_passage_is_there(folder):
  trained, tested = (items(folder)[f'{s}-1'] for s in ('train', 'test'))
  first, second = trained['reflections']
  assert (first['elected'], second['elected']) == (True, False)
  assert (first['relevance'], first['support']) == (0.875, None)
  assert (first['utility'], first['sequence']) == (-0.25, 0.125)
  assert [r['system'] for r in tested['reflections']] == ['base', 'aligned']


# As much of a browser as the page's script needs: it prints what it shows.
BROWSER = """
class Node {
  constructor(tag) { this.tag = tag; this.attributes = {}; this.inner = []; }
  setAttribute(name, value) { this.attributes[name] = value; }
  append(...children) { this.inner.push(...children); }
  replaceChildren(...children) { this.inner = children; }
  addEventListener() {}
  text() {
    return this.inner.map((c) => c instanceof Node ? c.text() : c).join('|');
  }
}
const byId = {};
globalThis.document = {
  createElement: (tag) => new Node(tag),
  getElementById: (id) => byId[id] ||= new Node(id),
};
globalThis.window = {addEventListener() {}};
globalThis.location = {hash: '#' + process.argv[2]};
const page = require('fs').readFileSync(process.argv[1], 'utf8');
byId.data = {textContent: page.match(/id="data">(.*?)<\\/script>/s)[1]};
byId.search = Object.assign(new Node('input'), {value: ''});
byId.filter = Object.assign(new Node('select'), {value: ''});
eval(page.match(/<script>('use strict'.*?)<\\/script>/s)[1]);
console.log(byId.question.text());
"""


@pytest.mark.skipif(not NODE, reason='needs node, to run the script')
def test_the_script_shows_evidence_and_scores(folder):
  html = pathlib.Path(folder / 'report' / 'questions.html')
  shown = {
      name: subprocess.run(
          [str(NODE), '-e', BROWSER, str(html), f'{name}%2F{name}-1'],
          capture_output=True,
          text=True,
          timeout=60,
          check=True,
      ).stdout
      for name in ('train', 'test')
  }
  for text in shown.values():
    assert 'Evidence|EN|en/Heart| |score 0.500||Text 0.' in text
    assert 'random noise' in text
    assert 'No passage was found.' in text
    assert EVIL in text  # as text
  row = 'EN 1|en/Heart@0|0.750|0.875|–|-0.250|0.125|0.750|A|elected'
  assert row in shown['train']
  row = 'EN 1|en/Heart@9|0.750|0.875|–|-0.250|0.125|0.750|unparsed||'
  assert row.rstrip('|') in shown['train']
  assert 'EN base|en/Heart@0' in shown['test']
  assert 'EN aligned|en/Heart@0' in shown['test']


def test_without_retrieval_nothing_is_said_of_it(tmp_path):
  asked = [question('train', lang) for lang in ('en', 'fr')]
  for split in ('train', 'test'):
    records.write_jsonl(tmp_path / 'read' / f'{split}.jsonl', asked)
  report.run(config(), tmp_path)
  (item,) = items(tmp_path).values()
  assert item['evidence'] == item['reflections'] == []
