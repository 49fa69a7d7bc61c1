"""Finding a model, and telling one model from another."""

from __future__ import annotations

import shutil
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
from safetensors import numpy as safetensors

from calm_jax.lm import hub

SINGLE = 'model.safetensors'


@pytest.fixture
def folder(tmp_path):
  path = tmp_path / 'model'
  path.mkdir()
  (path / 'config.json').write_text('{}')
  (path / 'tokenizer.json').write_text('{"a": 1}')
  _write(path, _tensors())
  return path


def _tensors():
  rng = np.random.default_rng(0)
  big = rng.standard_normal((200, 300)).astype(np.float32)
  return {'big': big, 'small': np.arange(4, dtype=np.float32)}


def _write(path, tensors):
  safetensors.save_file(tensors, path / SINGLE)


def test_a_moved_model_is_the_same(folder, tmp_path):
  before = hub.identity(folder)
  assert len(before) == 64
  moved = shutil.copytree(folder, tmp_path / 'elsewhere')
  (moved / 'README.md').write_text('not part of what it computes')
  assert hub.identity(moved) == before


def test_files_of_another_split_are_the_same_model(folder):
  before = hub.identity(folder)
  (folder / SINGLE).unlink()
  weight_map = {}
  for name, array in _tensors().items():
    weight_map[name] = f'part-{name}.safetensors'
    safetensors.save_file({name: array}, folder / weight_map[name])
  index = str({'weight_map': weight_map}).replace("'", '"')
  (folder / 'model.safetensors.index.json').write_text(index)
  assert hub.identity(folder) == before


@pytest.mark.parametrize('name', ['config.json', 'tokenizer.json'])
def test_another_text_file_is_another_model(folder, name):
  before = hub.identity(folder)
  (folder / name).write_text('{"a": 2}')
  assert hub.identity(folder) != before


@pytest.mark.parametrize(
    'change',
    [
        lambda t: t['small'].__setitem__(2, 9),
        lambda t: t.update(big=t['big'] + np.float32(1e-6)),
        lambda t: t['big'].__setitem__((0, 0), 9),
        lambda t: t['big'].__setitem__((-1, -1), 9),
        lambda t: t.update(big=t['big'].reshape(300, 200)),
        lambda t: t.update(other=t.pop('small')),
        lambda t: t.update(small=t['small'].view(np.int32)),
    ],
    ids=['small', 'all', 'first', 'last', 'shape', 'name', 'type'],
)
def test_other_weights_are_another_model(folder, change):
  before = hub.identity(folder)
  tensors = _tensors()
  change(tensors)
  _write(folder, tensors)
  assert hub.identity(folder) != before


def test_a_damaged_file_is_named(folder):
  (folder / SINGLE).write_bytes(b'\x80\x02' * 20)
  with pytest.raises(ValueError, match=r'model\.safetensors: not a safetens'):
    hub.identity(folder)


def test_asking_needs_no_jax(folder):
  code = (
      'import pathlib, sys; from calm_jax.lm import hub;'
      f' hub.identity(pathlib.Path({str(folder)!r}));'
      " sys.exit('jax' in sys.modules)"
  )
  assert (
      subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
  )


def test_a_folder_is_found_as_it_is(folder):
  assert hub.resolve(str(folder), 'main') == folder


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('/no/such/folder', 'no such folder, and it cannot be the name'),
        ('some/where/else', 'no such folder, and it cannot be the name'),
        ('someone/a-model', 'has not been downloaded.*give the path'),
    ],
)
def test_a_model_that_is_nowhere_is_explained(model, message):
  with pytest.raises(ValueError, match=f'{model}: .*{message}'):
    hub.resolve(model, 'main')


@pytest.mark.parametrize(
    'failure', [OSError(28, 'No space left'), EOFError('cut off')]
)
def test_a_download_that_fails_says_what_to_do(monkeypatch, failure):
  def download(*args, **kwargs):
    raise failure

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  with pytest.raises(ValueError, match='org/name: was not downloaded') as e:
    hub.resolve('org/name', 'main')
  assert str(failure) in str(e.value)


def test_text_files_are_copied(folder, tmp_path):
  target = tmp_path / 'target'
  target.mkdir()
  hub.copy_text_files(folder, target)
  assert [path.name for path in target.iterdir()] == ['tokenizer.json']
