"""Data sets of the Hub: by the real client, from what it has downloaded."""

from __future__ import annotations

import json
import re

import datasets as library
import huggingface_hub
from huggingface_hub import constants
import pytest

from calm_jax import ledger, read, rules, settings, stages
from calm_jax.datasets import hub
from configs import tiny

COMMIT, TABLES = '0' * 40, '1' * 40


def row(number, lang):
  return {
      'id': f'q{number}',
      'lang': lang,
      'question': {
          'stem': f'{lang} {number}?',
          'choices': {'label': ['A', 'B'], 'text': ['red', 'blue']},
      },
      'answerKey': 'A',
  }


@pytest.fixture
def repository(tmp_path, monkeypatch):
  """What the client keeps of one: its README, and what the Hub converted."""
  hub._fetched.cache_clear()
  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
  folder = tmp_path / 'cache' / 'datasets--org--name'
  for ref, commit in (('main', COMMIT), ('refs/convert/parquet', TABLES)):
    (folder / 'snapshots' / commit).mkdir(parents=True)
    (folder / 'refs' / ref).parent.mkdir(parents=True, exist_ok=True)
    (folder / 'refs' / ref).write_text(commit)
  (folder / 'snapshots' / COMMIT / 'README.md').write_text('')
  yield folder / 'snapshots'
  hub._fetched.cache_clear()


def write_tables(folder):
  for lang, config in (('en', 'X-CSQA-en'), ('ja', 'X-CSQA-jap')):
    for split in ('validation', 'test'):
      path = folder / config / f'{split}-00000-of-00001.parquet'
      path.parent.mkdir(parents=True, exist_ok=True)
      rows = [row(n, {'ja': 'jap'}.get(lang, lang)) for n in range(2)]
      library.Dataset.from_list(rows).to_parquet(path)


def config(path, **changes):
  c = tiny.get_config()
  c.model = 'org/model'
  c.data.name, c.data.path = 'xcsqa', str(path)
  c.data.train_split, c.data.test_split = 'test', 'dev'
  c.languages = ('en', 'ja')
  c.update_from_flattened_dict(changes)
  return c


def made(cfg, folder):
  read.run(cfg, folder)
  return [
      (folder / 'read' / f'{part}.jsonl').read_text('utf-8')
      for part in ('train', 'test')
  ]


@pytest.mark.parametrize(
    ('path', 'commit'),
    [
        ('hub:org/name', TABLES),  # main has no rows
        ('hub:org/name@main', COMMIT),
        ('hub:org/name@refs/convert/parquet', TABLES),
        (f'hub:org/name@{TABLES}', TABLES),
    ],
)
def test_it_reads_as_a_folder_does(repository, tmp_path, path, commit):
  write_tables(repository / commit)
  write_tables(tmp_path / 'local')
  cfg = config(path)
  assert settings.problems(cfg) == []
  found = made(cfg, tmp_path / 'hub')
  assert found == made(config(tmp_path / 'local'), tmp_path / 'folder')
  assert [len(text.splitlines()) for text in found] == [4, 4]
  # `datasets` itself finds the same questions there.
  theirs = library.load_dataset(
      str(repository / commit),
      data_dir='X-CSQA-jap',
      split='validation',
      streaming=True,
  )
  stems = [json.loads(line)['stem'] for line in found[1].splitlines()]
  assert [r['question']['stem'] for r in theirs] == stems[1::2]


def test_its_commit_is_in_the_fingerprint(repository, tmp_path):
  write_tables(repository / TABLES)

  def plan(path):
    return ledger.plan(config(path), tmp_path / 'run', stages.STAGES)[0]

  first = plan('hub:org/name')
  assert first.inputs == {'data': f'org/name at {TABLES}'}
  same = plan('hub:org/name@refs/convert/parquet')
  assert same.fingerprint == first.fingerprint
  moved = repository / ('2' * 40)
  write_tables(moved)
  ref = repository.parent / 'refs' / 'refs' / 'convert' / 'parquet'
  ref.write_text(moved.name)
  # Within a run it stands still; in the next one it has moved.
  assert plan('hub:org/name').fingerprint == first.fingerprint
  hub._fetched.cache_clear()
  assert plan('hub:org/name').fingerprint != first.fingerprint


def test_a_split_that_it_lacks_is_told_before_any_work(repository):
  write_tables(repository / TABLES)
  cfg = config('hub:org/name', **{'data.train_split': 'train'})
  (problem,) = settings.problems(cfg)
  assert 'splits in en: test, validation' in problem


@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('hub:org/other', r'cannot be reached .* `python -m tools.fetch_data`'),
        ('hub:org/name@v2', r'org/name at v2 was not downloaded before'),
        (
            'hub:org/name',
            r'at main has no file .* at refs/convert/parquet has no',
        ),
        ('hub:org/a--b', r'cannot be the name of a data set'),
    ],
)
def test_what_cannot_be_had_is_said_once(repository, path, words):
  (problem,) = settings.problems(config(path))
  assert problem.startswith(f"config.data.path = '{path}': ")
  assert re.search(words, problem)
  with pytest.raises(ValueError, match=words):
    hub.folder(path)


def test_what_only_describes_a_data_set_has_no_rows(repository):
  (repository / COMMIT / 'dataset_infos.json').write_text('{}')
  write_tables(repository / TABLES)
  assert hub.folder('hub:org/name').name == TABLES


def test_what_fails_for_now_is_not_passed_over(repository, monkeypatch):
  """Else the next run would find another revision, and other data."""
  write_tables(repository / TABLES)
  real, failures = huggingface_hub.snapshot_download, []

  class ProxyError(Exception):
    """As the client's transport has them."""

  def download(name, **how):
    if how['revision'] == 'main' and not failures:
      failures.append(how)
      raise ProxyError('403 Forbidden')
    return real(name, **how)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  (problem,) = settings.problems(config('hub:org/name'))
  assert 'at main was not downloaded: ProxyError: 403 Forbidden' in problem


def test_only_rows_are_fetched_and_once(repository, monkeypatch):
  asked = []

  def download(name, **how):
    asked.append((name, how['repo_type'], how['revision']))
    assert how['allow_patterns'] == ['*.parquet', '*.jsonl', '*.json']
    return str(repository / TABLES)

  write_tables(repository / TABLES)
  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  assert settings.problems(config('hub:org/name@v1')) == []
  assert hub.identity('hub:org/name@v1') == f'org/name at {TABLES}'
  assert asked == [('org/name', 'dataset', 'v1')]


@pytest.mark.parametrize(
    'path', ['hub:', 'hub:name', 'hub:a/b/c', 'hub:a/b@', 'hub:a/b@c d']
)
def test_a_name_that_is_none(path):
  assert 'hub:OWNER/NAME' in rules.RULES['data.path'](path)
  with pytest.raises(ValueError, match='names no data set'):
    hub.folder(path)


def test_a_folder_is_itself(tmp_path):
  assert rules.RULES['data.path'](str(tmp_path)) is None
  assert hub.folder(str(tmp_path)) == tmp_path
