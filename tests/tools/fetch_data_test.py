"""Sources fetched from a server of our own: archives, and a small Hub."""

import hashlib
import io
import json
import re
import zipfile

import pytest

from calm_jax import datasets
from tools import data_sources, download, fetch_data

QUESTION = {
    'question': 'Which?',
    'options': {'A': 'left', 'B': 'right'},
    'answer_idx': 'A',
    'answer': 'left',
}


def archive(**files):
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w') as z:
    for name, text in files.items():
      z.writestr(name, text)
  return content.getvalue()


def source(**changes):
  fields = {
      'about': 'toy data',
      'licence': 'MIT',
      'home': 'https://example.org',
      'readers': 'medqa_us',
  }
  return data_sources.Source(**(fields | changes))


@pytest.fixture
def zipped(site):
  """An archive's source; the site's file may be changed."""
  site.files['/data.zip'] = archive(
      **{
          'data_clean/questions/US/test.jsonl': json.dumps(QUESTION),
          'data_clean/.DS_Store': 'x',
          '__MACOSX/data_clean/junk': 'x',
          'other/file': 'x',
      }
  )
  return source(url=f'{site.url}/data.zip', members='data_clean/')


@pytest.fixture
def hub(site, monkeypatch):
  """A Hub with one large and one small file, listed on two pages."""
  monkeypatch.setenv('HF_ENDPOINT', site.url)
  large, small = b'{"large": 1}', b'{"small": 1}'
  entries = [
      {'type': 'directory', 'path': 'a', 'oid': '0', 'size': 0},
      {
          'type': 'file',
          'path': 'a/large.jsonl',
          'oid': '0' * 40,
          'size': len(large),
          'lfs': {'oid': hashlib.sha256(large).hexdigest(), 'size': len(large)},
      },
      {'type': 'file', 'path': 'README.md', 'oid': '0' * 40, 'size': 3},
      {
          'type': 'file',
          'path': 'a/small é.jsonl',
          'oid': hashlib.sha1(b'blob %d\0' % len(small) + small).hexdigest(),
          'size': len(small),
      },
  ]
  site.files |= {
      '/api/datasets/me/toy/tree/refs/convert/parquet': _json(entries),
      '/datasets/me/toy/resolve/refs/convert/parquet/a/large.jsonl': large,
      '/datasets/me/toy/resolve/refs/convert/parquet/a/small é.jsonl': small,
  }
  return source(
      repo='me/toy', revision='refs/convert/parquet', patterns=('a/*.jsonl',)
  )


def _json(value):
  return json.dumps(value).encode()


def tree(folder):
  return {
      p.relative_to(folder).as_posix(): p.read_bytes()
      for p in folder.rglob('*')
      if p.is_file() and p.name != 'MANIFEST.json'
  }


def manifest(out):
  return json.loads((out / 'MANIFEST.json').read_text('utf-8'))


def test_an_archive(site, zipped, tmp_path):
  out = tmp_path / 'out'
  assert fetch_data.fetch('toy', zipped, out)
  assert list(tree(out)) == ['data_clean/questions/US/test.jsonl']
  assert [p.name for p in tmp_path.iterdir()] == ['out']
  (question,), _ = datasets.reader('medqa_us')(out, 'test', ['en'])
  assert question.stem == 'Which?'
  found = manifest(out)
  assert (found['source'], found['licence']) == ('toy', 'MIT')
  digest = hashlib.sha256(site.files['/data.zip']).hexdigest()
  assert found['downloads'] == {'data.zip': digest}
  # Whole: nothing more to do, and nobody is asked.
  site.log.clear()
  assert not fetch_data.fetch('toy', zipped, out)
  assert site.log == []


def test_a_hub(site, hub, tmp_path):
  out = tmp_path / 'out'
  fetch_data.fetch('toy', hub, out)
  assert tree(out) == {
      'a/large.jsonl': b'{"large": 1}',
      'a/small é.jsonl': b'{"small": 1}',
  }
  assert site.log[0][0].endswith('tree/refs/convert/parquet?recursive=true')


def test_every_page_of_a_listing_is_read(site, hub, tmp_path, monkeypatch):
  pages = {
      f'{site.url}/api/datasets/me/toy/tree/refs%2Fconvert%2Fparquet'
      '?recursive=true': ([], 'https://next'),
      'https://next': (
          [{'type': 'file', 'path': 'a/b.jsonl', 'oid': '1', 'size': 2}],
          '',
      ),
  }
  monkeypatch.setattr(download, 'read_json', pages.__getitem__)
  (remote,) = fetch_data.list_hub(hub)
  assert remote == download.Remote(
      url=f'{site.url}/datasets/me/toy/resolve/refs%2Fconvert%2Fparquet'
      '/a/b.jsonl',
      name='a/b.jsonl',
      git='1',
      size=2,
  )


def test_the_next_page_is_in_a_header(site):
  site.files['/page'] = b'[1]'
  site.headers = {'Link': f'<{site.url}/2>; rel="next"'}
  assert download.read_json(f'{site.url}/page') == ([1], f'{site.url}/2')
  site.headers = {}
  assert download.read_json(f'{site.url}/page') == ([1], '')
  site.files['/page'] = b'['
  with pytest.raises(download.DownloadError, match='is no JSON'):
    download.read_json(f'{site.url}/page')


@pytest.mark.parametrize('name', ['large', 'small é'])
def test_what_the_hub_publishes_is_checked(site, hub, tmp_path, name):
  url = f'/datasets/me/toy/resolve/refs/convert/parquet/a/{name}.jsonl'
  site.files[url] = site.files[url].replace(b'1', b'2')
  with pytest.raises(download.DownloadError, match=r'has the (sha256|git id)'):
    fetch_data.fetch('toy', hub, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_given_checksum(site, zipped, hub, tmp_path):
  with pytest.raises(download.DownloadError, match='not 1111'):
    fetch_data.fetch('toy', zipped, tmp_path / 'out', sha256='1' * 64)
  digest = hashlib.sha256(site.files['/data.zip']).hexdigest()
  assert fetch_data.fetch('toy', zipped, tmp_path / 'out', sha256=digest)
  with pytest.raises(ValueError, match='of one file; this is 2 files'):
    fetch_data.fetch('toy', hub, tmp_path / 'hub', sha256=digest)


def test_a_damaged_file_is_fetched_again(zipped, tmp_path):
  out = tmp_path / 'out'
  fetch_data.fetch('toy', zipped, out)
  file = out / 'data_clean/questions/US/test.jsonl'
  sound = tree(out)
  file.write_text('{}')
  mine = out / 'mine.txt'
  mine.write_text('kept')
  assert fetch_data.fetch('toy', zipped, out)
  assert mine.read_text() == 'kept'
  mine.unlink()
  assert tree(out) == sound


def test_a_later_download_must_be_the_first(site, zipped, tmp_path):
  out = tmp_path / 'out'
  fetch_data.fetch('toy', zipped, out)
  first = manifest(out)
  site.files['/data.zip'] = archive(**{'data_clean/other': 'x'})
  (out / 'data_clean/questions/US/test.jsonl').unlink()
  with pytest.raises(
      download.DownloadError, match=f'not {first["downloads"]["data.zip"]}'
  ):
    fetch_data.fetch('toy', zipped, out)
  assert manifest(out) == first


def test_a_download_that_broke_off_goes_on(site, hub, tmp_path):
  site.script = ['sound', 'sound', 'cut'] + [500] * 4
  with pytest.raises(download.DownloadError, match='500'):
    fetch_data.fetch('toy', hub, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()
  site.log.clear()
  assert fetch_data.fetch('toy', hub, tmp_path / 'out')
  assert [(path[-6:], asked) for path, asked in site.log] == [
      ('e=true', None),
      ('.jsonl', 'bytes=6-'),
  ]


def test_a_folder_of_somebody_else_is_left_alone(site, zipped, tmp_path):
  (tmp_path / 'mine').write_text('x')
  with pytest.raises(ValueError, match='this tool did not make it'):
    fetch_data.fetch('toy', zipped, tmp_path)
  fetch_data.fetch('toy', zipped, tmp_path / 'out')
  with pytest.raises(ValueError, match='out holds toy: choose another'):
    fetch_data.fetch('other', zipped, tmp_path / 'out')
  (tmp_path / 'out' / 'MANIFEST.json').write_text('[]')
  with pytest.raises(ValueError, match='is damaged'):
    fetch_data.fetch('toy', zipped, tmp_path / 'out')


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'no archive', 'no sound zip file'),
        (archive(other='x'), 'nothing below data_clean/'),
        (archive(**{'data_clean/../../x': 'x'}), 'leads out of the folder'),
        (archive(**{'data_clean/a\\..\\x': 'x'}), 'leads out of the folder'),
    ],
)
def test_a_bad_archive(site, zipped, tmp_path, content, words):
  site.files['/data.zip'] = content
  with pytest.raises(ValueError, match=words):
    fetch_data.fetch('toy', zipped, tmp_path / 'new' / 'out')
  assert not (tmp_path / 'new' / 'out').exists()
  assert not (tmp_path / 'x').exists()
  assert not (tmp_path / 'new' / 'x').exists()


def test_names_from_a_hub_stay_inside(site, hub, tmp_path):
  listing = '/api/datasets/me/toy/tree/refs/convert/parquet'
  entry = {'type': 'file', 'path': 'a/../../x.jsonl', 'oid': '0', 'size': 1}
  site.files[listing] = _json([entry])
  with pytest.raises(ValueError, match='leads out of the folder'):
    fetch_data.fetch('toy', hub, tmp_path / 'out')


def test_a_hub_without_the_files(site, hub, tmp_path):
  site.files['/api/datasets/me/toy/tree/refs/convert/parquet'] = b'[]'
  with pytest.raises(ValueError, match='has no file like a/'):
    fetch_data.fetch('toy', hub, tmp_path / 'out')


def test_the_sources():
  for name, found in data_sources.SOURCES.items():
    assert bool(found.url) != bool(found.repo), name
    assert found.licence
    assert found.home.startswith('https://')
    assert not found.url or found.url.startswith('https://')
    assert found.repo == '' or re.fullmatch(r'[\w-]+/[\w-]+', found.repo)
    for reader in found.readers.replace('(_4)', '').split(', '):
      assert reader in datasets.READERS
  named = ', '.join(s.readers for s in data_sources.SOURCES.values())
  whole = {name.removesuffix('_4') for name in datasets.READERS} - {'demo'}
  assert whole <= set(named.replace('(_4)', '').split(', '))
