"""Tests of the real stages' table: no result hides from its fingerprint."""

from __future__ import annotations

import ast
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from calm_jax import guard, ledger, pipeline, settings
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
    return value[:1]
  return value + 'x'


def fingerprint(stage, folder, backend, field=None):
  c = tiny.get_config()
  c.model = 'org/name'
  c.data.name = 'medqa_us'  # not parallel: its questions are translated
  c.data.path = c.translate.path = str(folder)
  c.translate.backend = backend
  c.translate.project = 'project'
  c.retrieve.backend, c.retrieve.encoder = 'lancedb', 'onnx'
  c.retrieve.corpus = c.retrieve.model = str(folder)
  if field is not None:
    value = changed(settings.flatten(c)[field])
    if field == 'translate.backend':
      value = 'none' if backend != 'none' else 'google'
    c.update_from_flattened_dict({field: value})
  plans = ledger.plan(c, folder / 'run', pipeline.STAGES)
  return {p.stage.name: p.fingerprint for p in plans}[stage.name]


@pytest.mark.parametrize(
    'backend', ['none', 'model', 'files', 'google', 'nllb']
)
@pytest.mark.parametrize('stage', pipeline.STAGES, ids=lambda s: s.name)
def test_what_a_stage_reads_is_in_its_fingerprint(stage, backend, tmp_path):
  path = PACKAGE / f'{stage.name}.py'
  if not path.exists():
    pytest.skip(f'{path.name} is not written yet')
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
  always = {'read'}
  kept = {'translate', 'retrieve', 'sample', 'vote'} if parallel else set()
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
