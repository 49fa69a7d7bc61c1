"""Tests of the real stages' table: no result hides from its fingerprint."""

from __future__ import annotations

import ast
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from calm_jax import guard, ledger, pipeline, settings
from calm_jax.datasets import demo
from configs import tiny

PACKAGE = pathlib.Path(__file__).parent.parent / 'calm_jax'
FLAT = settings.flatten(tiny.get_config())

# Where a stage computes is free to change between two runs.
FREE = {
    'mesh.data',
    'mesh.fsdp',
    'mesh.tensor',
    'retrieve.index',
    # What a translation costs, and who pays.
    'translate.max_cost',
    'translate.price',
    'translate.project',
}


class _Chains(ast.NodeVisitor):
  """Collects cfg.a.b, whole, from functions that are given the config."""

  def __init__(self):
    self.found = set()

  def visit_FunctionDef(self, node):
    kinds = {a.arg: a.annotation for a in node.args.args}
    if 'cfg' in kinds:
      kind = kinds['cfg']
      if kind is None or 'ConfigDict' in ast.unparse(kind):
        self.generic_visit(node)

  def visit_Attribute(self, node):
    chain = ast.unparse(node)
    if chain.startswith('cfg.'):
      self.found.add(chain.removeprefix('cfg.'))
    else:
      self.generic_visit(node)


def fields_read(path):
  """The settings that a file reads; all of a group that it hands on."""
  visitor = _Chains()
  visitor.visit(ast.parse(path.read_text('utf-8')))
  return {field for chain in visitor.found for field in _fields(chain)}


def _fields(chain):
  while chain:  # languages.index is the field languages
    if found := [f for f in FLAT if f == chain or f.startswith(chain + '.')]:
      return found
    chain = chain.rpartition('.')[0]
  return []


def changed(value):
  """Another value of the same kind; a folder becomes one of other files."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, (int, float)):
    return value + 1
  if isinstance(value, tuple):
    return value[:1] or ('en',)
  return value + 'x'


def fingerprint(stage, folder, backend, field=None, own=''):
  c = tiny.get_config()
  c.model = 'org/name'
  c.data.name = 'medqa_us'  # not parallel: its questions are translated
  c.data.path = c.translate.path = str(folder)
  c.translate.backend = backend
  c.translate.project = 'project'
  c.retrieve.backend, c.retrieve.encoder = 'lancedb', 'onnx'
  c.retrieve.corpus = c.retrieve.model = str(folder)
  c.pair.file = own
  if field is not None:
    value = changed(settings.flatten(c)[field])
    if field == 'translate.backend':
      value = 'none' if backend != 'none' else 'google'
    if field == 'pair.file' and not own:
      value = str(folder / 'model.bin')
    c.update_from_flattened_dict({field: value})
  plans = ledger.plan(c, folder / 'run', pipeline.STAGES)
  return {p.stage.name: p.fingerprint for p in plans}[stage.name]


@pytest.mark.parametrize(
    'backend', ['none', 'model', 'files', 'google', 'nllb']
)
@pytest.mark.parametrize('stage', pipeline.STAGES, ids=lambda s: s.name)
def test_what_a_stage_reads_is_in_its_fingerprint(stage, backend, tmp_path):
  path = PACKAGE / f'{stage.name}.py'
  read = fields_read(path) - FREE
  if 'translators.build(cfg' in path.read_text('utf-8'):
    read.add('translate.backend')
    read |= fields_read(PACKAGE / 'translators' / f'{backend}.py') - FREE
  for name in ('data', 'datax'):
    (tmp_path / name).mkdir()
    (tmp_path / name / 'en-fr.jsonl').write_text(name)
    (tmp_path / name / 'model.bin').write_text(name)
  folder = tmp_path / 'data'
  now = fingerprint(stage, folder, backend)
  hidden = [f for f in read if fingerprint(stage, folder, backend, f) == now]
  assert not hidden, f'{stage.name} reads {sorted(hidden)}: add them to its row'


# With a file of pairs there are no samples and votes to depend on.
UNUSED_WITH_A_FILE = {
    'pair': {'prompt.style', 'prompt.shots', 'sample.languages', 'vote.parser'},
    'report': {'sample.m', 'vote.parser'},
}


@pytest.mark.parametrize('name', ['pair', 'align', 'evaluate', 'report'])
def test_what_is_read_beside_a_file_of_pairs_is_in_its_fingerprint(
    name, tmp_path
):
  (stage,) = (s for s in pipeline.STAGES if s.name == name)
  read = fields_read(PACKAGE / f'{name}.py') - FREE
  read -= UNUSED_WITH_A_FILE.get(name, set())
  own = tmp_path / 'mine.json'
  for path in (own, tmp_path / 'mine.jsonx'):
    path.write_text(path.name)
  (tmp_path / 'data').mkdir()
  (tmp_path / 'datax').mkdir()
  (tmp_path / 'datax' / 'train.jsonl').write_text('')
  print_of = lambda field=None: fingerprint(
      stage, tmp_path / 'data', 'none', field, own=str(own)
  )
  now = print_of()
  hidden = [field for field in read if print_of(field) == now]
  assert not hidden, f'{name} reads {sorted(hidden)}: add them to its row'
  own.rename(tmp_path / 'moved.json')
  own = tmp_path / 'moved.json'
  assert print_of() == now


def plans_of(**changes):
  c = tiny.get_config()
  c.model = 'org/name'
  c.update_from_flattened_dict(changes)
  return {
      p.stage.name: p
      for p in ledger.plan(c, pathlib.Path('none'), pipeline.STAGES)
  }


def test_settings_switch_stages_off(tmp_path):
  own = tmp_path / 'mine.jsonl'
  own.write_text('{}')
  off = lambda **c: {name for name, p in plans_of(**c).items() if p.idle}
  assert off() == {'retrieve'}
  assert off(**{'pair.file': str(own)}) == {'retrieve', 'sample', 'vote'}
  on = {'retrieve.backend': 'lancedb'}
  assert off(**on) == set()
  assert off(**{'pair.file': str(own)}, **on) == {'sample', 'vote'}


def test_an_idle_stage_is_the_same_under_all_settings():
  one, other = plans_of(), plans_of(seed=7, **{'retrieve.top_k': 5})
  assert one['retrieve'].fingerprint == other['retrieve'].fingerprint
  on = plans_of(**{'retrieve.backend': 'lancedb'})
  assert one['sample'].fingerprint != on['sample'].fingerprint


def test_bundled_data_is_its_questions_alone(tmp_path, monkeypatch):
  for name in ('en/train.jsonl', 'fr/train.jsonl', 'de/train.jsonl'):
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text('{}')
  monkeypatch.setattr(demo, 'FOLDER', tmp_path)
  before = plans_of()['read'].fingerprint
  # The run asks in English and French.
  for name in ('README.md', 'textbooks', 'de/train.jsonl'):
    (tmp_path / name).write_text('changed')
    assert plans_of()['read'].fingerprint == before
  (tmp_path / 'fr' / 'train.jsonl').write_text('changed')
  assert plans_of()['read'].fingerprint != before


@pytest.mark.parametrize('parallel', [True, False])
def test_samples_depend_on_the_translator_where_questions_are(parallel):
  prints = []
  for backend in ('none', 'google'):
    c = tiny.get_config()
    c.model, c.translate.backend = 'org/name', backend
    c.data.name = 'xcsqa' if parallel else 'medqa_us'
    plans = ledger.plan(c, pathlib.Path('none'), pipeline.STAGES)
    prints.append({p.stage.name: p.fingerprint for p in plans})
  same = {name for name in prints[0] if prints[0][name] == prints[1][name]}
  always = {'read', 'retrieve'}  # the second is switched off
  kept = {'translate', 'sample', 'vote'} if parallel else set()
  assert same == always | kept


def test_the_reader_of_settings_sees_them():
  # Otherwise the test above would pass for want of anything to check.
  read = fields_read(PACKAGE / 'read.py')
  assert read >= {'data.name', 'data.train_split', 'languages', 'limit'}


def test_every_stage_needs_only_stages_before_it():
  before = set()
  for stage in pipeline.STAGES:
    assert set(stage.needs) <= before, stage.name
    before.add(stage.name)


def test_every_field_of_the_table_is_a_setting():
  for stage in pipeline.STAGES:
    for field in stage.fields:
      assert _fields(field), f'{stage.name} declares {field}'


def model_folder(folder, weights):
  folder.mkdir()
  (folder / 'config.json').write_text('{}')
  if weights is not None:
    array = np.array(weights, np.float32)
    safetensors.numpy.save_file({'w': array}, folder / 'model.safetensors')
  return folder


def model_fingerprint(folder):
  c = tiny.get_config()
  c.model = str(folder)
  plans = ledger.plan(c, folder / 'run', pipeline.STAGES)
  return {p.stage.name: p.fingerprint for p in plans}


def test_a_model_is_its_content_and_not_its_place(tmp_path):
  one = model_fingerprint(model_folder(tmp_path / 'one', [1.0, 2.0]))
  moved = model_fingerprint(model_folder(tmp_path / 'moved', [1.0, 2.0]))
  other = model_fingerprint(model_folder(tmp_path / 'other', [1.0, 3.0]))
  assert one == moved
  assert one['read'] == other['read']
  assert one['sample'] != other['sample']
  assert one['report'] != other['report']


def test_a_model_without_weights_is_told_before_any_work(tmp_path):
  folder = model_folder(tmp_path / 'empty', None)
  with pytest.raises(guard.Refusal, match=r'config\.model = .*safetensors'):
    model_fingerprint(folder)
