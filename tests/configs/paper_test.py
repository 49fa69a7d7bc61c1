"""Every published table and ablation in miniature: the command fills its table.

The questions are the bundled ones in the layouts of the releases. The tables
are made once with a random tiny model, and all once more with stand-ins for the
three stages that need a model.
"""

from __future__ import annotations

import csv
import functools
import importlib
import itertools
import json
import pathlib
import random
import re

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from calm_jax import (
    align,
    evaluate,
    experiment,
    paper,
    records,
    sample,
    settings,
    systems,
)
from calm_jax.datasets import demo
from calm_jax.lm import sharding
from configs import base

FOLDER = pathlib.Path(base.__file__).parent
COMMANDS = sorted(
    f'{kind}.{path.stem}'
    for kind in ('paper', 'ablations')
    for path in (FOLDER / kind).glob('*.py')
)
SMALL = {
    'dtype': 'float32',
    'limit': 8,
    'data.train_split': 'train',
    'data.test_split': 'test',
    'sample.m': 3,
    'sample.max_new_tokens': 2,
    'sample.answer': 'two_stage',
    'sample.slots': 24,
    'vote.ties': 'seeded',
    'pair.cap': 1,
    'pair.val_size': 0.0,
    'lora.rank': 2,
    'train.learning_rate': 1e-2,
    # So that no program depends on the number of steps.
    'train.schedule': 'constant',
    'train.warmup_ratio': 0.0,
    'train.epochs': 1,
    'train.batch_size': 1,
    'train.accumulation': 1,
    'evaluate.max_new_tokens': 2,
    'evaluate.bootstrap': 10,
    'translate.backend': 'none',
}


@pytest.fixture(scope='module')
def _compiled_once(tmp_path_factory):
  """Every run compiles the same programs: keep them on disk."""
  names = (
      'jax_compilation_cache_dir',
      'jax_persistent_cache_min_compile_time_secs',
  )
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update(names[0], str(tmp_path_factory.mktemp('compiled')))
  jax.config.update(names[1], 0)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.fixture(scope='module')
def _one_device():
  """What is compiled for four simulated devices takes twice as long."""
  patch, make = pytest.MonkeyPatch(), sharding.make_mesh
  one = functools.partial(make, devices=jax.devices()[:1])
  patch.setattr(sharding, 'make_mesh', one)
  patch.setattr(sharding, 'make_local_mesh', one)
  yield
  patch.undo()


def questions(split, lang):
  path = demo.FOLDER / lang / f'{split}.jsonl'
  return [json.loads(line) for line in path.read_text('utf-8').splitlines()]


def four_options(row):
  """A bundled question as a row of MedQA: without its first wrong option."""
  options = {c['label']: c['text'] for c in row['question']['choices']}
  options.pop(next(k for k in options if k != row['answerKey']))
  return {
      'question': row['question']['stem'],
      'options': options,
      'answer_idx': row['answerKey'],
      'answer': options[row['answerKey']],
  }


@pytest.fixture(scope='module')
def medqa(tmp_path_factory):
  """MedQA's layout, and translations of its questions; US is not Mainland."""
  folder = tmp_path_factory.mktemp('medqa')
  for split in ('train', 'test'):
    for country, lang, name in (
        ('US', 'en', f'phrases_no_exclude_{split}'),
        ('Mainland', 'zh', split),
    ):
      half = questions(split, lang)[country == 'US' :: 2]
      path = folder / country / '4_options' / f'{name}.jsonl'
      write(path, [four_options(row) for row in half])
  for source, target in itertools.permutations(('en', 'zh', 'fr'), 2):
    pairs = {}
    for split in ('train', 'test'):
      for a, b in zip(
          questions(split, source), questions(split, target), strict=True
      ):
        a, b = a['question'], b['question']
        pairs[a['stem']] = b['stem']
        for x, y in zip(a['choices'], b['choices'], strict=True):
          pairs[x['text']] = y['text']
    rows = [{'text': t, 'translation': u} for t, u in pairs.items()]
    write(folder / 'translations' / f'{source}-{target}.jsonl', rows)
  return folder


def write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  path.write_text(''.join(lines), encoding='utf-8')


@pytest.fixture(scope='module')
def selfrag_model(tiny_model, tmp_path_factory):
  """The tiny model with Self-RAG's tokens."""
  from tools import add_reflection_tokens

  folder = tmp_path_factory.mktemp('models') / 'selfrag'
  add_reflection_tokens.add(tiny_model, folder, seed=0)
  return folder


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """Where the runs are: commands with systems in common share a folder."""
  root = tmp_path_factory.mktemp('runs')
  alone = ('selfrag', 'table3', 'table4', 'table7', 'ablations')

  def folder(name, cfg):
    own = any(word in name for word in alone)
    return root / (name if own else cfg.data.name)

  return folder


def load(name, model, medqa):
  """A config of configs/, shrunk; data sets in the places of the releases."""
  cfg = importlib.import_module(f'configs.{name}').get_config()
  paths = {'xcsqa': str(demo.FOLDER), 'medqa': str(medqa)}
  cfg.update_from_flattened_dict(SMALL)
  if 'table3' in name or 'gold' in name:
    cfg.limit = 18  # so that chance is right once
  cfg.model, cfg.data.path = str(model), paths[cfg.data.name]
  if cfg.data.name == 'medqa':
    cfg.translate.backend = 'files'
    cfg.translate.path = str(medqa / 'translations')
  if cfg.retrieve.backend != 'none':
    cfg.retrieve.mode, cfg.retrieve.top_k = 'text', 1
  for own in cfg.systems.values():
    if 'pair' in own and 'min_share' in own.pair:
      own.pair.min_share /= 4  # random answers seldom agree
    if 'pair' in own and 'min_margin' in own.pair:
      own.pair.min_margin /= 10
    if 'sample' in own and own.sample.get('m') == 1:
      own.sample.m = 2  # one needs a translator to be put before another
    if 'data' in own:
      own.data.path = paths[own.data.get('name', cfg.data.name)]
      for split in ('train', 'test'):
        if own.data.get(f'{split}_split'):
          own.data[f'{split}_split'] = split
      if own.data.get('name') == 'medqa':
        own.translate = {'backend': 'files'}
        own.translate.path = str(medqa / 'translations')
  return cfg


def winning(page):
  """Each language's part of the winning votes, from each table of the page."""
  for table in page.split('part of the winning votes</th>')[1:]:
    found = re.findall(
        r'<th scope="row">(\w+)</th><td>[\d,]+</td>\s*'
        r'<td>[\d.]+</td>\s*<td>([\d.]+)</td>',
        table.partition('</table>')[0],
    )
    yield {lang: float(part) for lang, part in found}


def rows(workdir):
  with (workdir / 'compare' / 'table.csv').open(encoding='utf-8') as f:
    return list(csv.DictReader(f))


def _sample(cfg, workdir):
  """Random letters."""
  path = workdir / 'translate' / 'train.jsonl'
  langs = cfg.sample.languages or cfg.languages
  drawn = [
      records.Sample(
          q.id, q.lang, i, f'As {i}.', key, 'letter', -1.0, 3, 'stop'
      )
      for q in records.read_jsonl(path, records.Question)
      if q.lang in langs
      for i in range(cfg.sample.m)
      for key in [_letter(q, i, cfg.adapter)]
  ]
  records.write_jsonl(workdir / 'sample' / '00000.jsonl', drawn)
  return {}


def _letter(question, *of):
  seed = f'{question.id} {question.lang} {of}'
  return random.Random(seed).choice(question.options).key


def _align(cfg, workdir):
  """An adapter that no two systems have."""
  folder = workdir / 'align' / 'adapter'
  targets = list(cfg.lora.targets)
  shape = {'r': cfg.lora.rank, 'lora_alpha': cfg.lora.alpha}
  folder.mkdir()
  text = json.dumps(shape | {'target_modules': targets, 'of': workdir.name})
  (folder / 'adapter_config.json').write_text(text)
  (folder / 'adapter_model.safetensors').touch()
  return {}


def _evaluate(cfg, workdir):
  kind = 'base' if cfg.train.method == 'none' else 'aligned'
  path = workdir / 'translate' / 'test.jsonl'
  given = [
      records.Prediction(
          kind, q.id, q.lang, '', _letter(q, workdir.name), 'letter', q.gold
      )
      for q in records.read_jsonl(path, records.Question)
  ]
  records.write_jsonl(workdir / 'evaluate' / kind / '00000.jsonl', given)
  records.write_jsonl(workdir / 'evaluate' / 'scores.jsonl', [])
  return {}


@pytest.mark.slow  # some 20 seconds together
@pytest.mark.parametrize('name', COMMANDS)
def test_the_command_fills_its_table_with_stand_ins(
    name, tmp_path, model_folder, medqa, monkeypatch
):
  if 'selfrag' in name:
    pytest.importorskip('lancedb', reason='needs the extra retrieval')
  for module, verb in ((sample, _sample), (align, _align)):
    monkeypatch.setattr(module, 'run', verb)
  monkeypatch.setattr(evaluate, 'run', _evaluate)
  monkeypatch.setattr(settings, 'check_machine', lambda cfg: None)
  fill(name, tmp_path, load(name, model_folder, medqa))


@pytest.fixture(scope='module')
def model_folder(tmp_path_factory):
  """What the checks take for a model."""
  folder = tmp_path_factory.mktemp('models') / 'none'
  folder.mkdir()
  array = {'w': np.zeros(1, np.float32)}
  safetensors.save_file(array, folder / 'model.safetensors')
  for name in ('config.json', 'tokenizer.json'):
    (folder / name).write_text('{}')
  return folder


@pytest.mark.slow
@pytest.mark.usefixtures('_compiled_once', '_one_device')
@pytest.mark.parametrize('name', [n for n in COMMANDS if 'paper' in n])
def test_the_command_fills_its_table(name, folders, tiny_model, medqa, request):
  if 'selfrag' in name:
    pytest.importorskip('lancedb', reason='needs the extra retrieval')
    tiny_model = request.getfixturevalue('selfrag_model')
  cfg = load(name, tiny_model, medqa)
  fill(name, folders(name, cfg), cfg)


def fill(name, workdir, cfg):
  """Runs a command's systems, and looks at all that it promises."""
  members = systems.expand(cfg)
  voting = 'table7_8' in name  # its command names stages
  stages = ('read', 'translate', 'sample', 'vote', 'pair', 'compare')
  experiment.run(cfg, workdir, stages if voting else ())
  page = (workdir / 'compare' / 'report.html').read_text('utf-8')
  for system in members:
    report = workdir / 'systems' / system / 'report' / 'report.html'
    assert f'../systems/{system}/report/report.html' in page
    assert report.exists() != voting
  if voting:
    assert rows(workdir) == []
    for system, parts in zip(members, winning(page), strict=True):
      path = workdir / 'systems' / system / 'vote' / 'votes.jsonl'
      votes = [v for v in records.read_jsonl(path, records.Vote) if v.winner]
      assert parts.keys() == {
          lang.upper() for lang in members[system].languages
      }
      for lang, part in parts.items():
        mine = sum(v.counts[lang.lower()].get(v.winner, 0) for v in votes)
        won = sum(c.get(v.winner, 0) for v in votes for c in v.counts.values())
        assert part == pytest.approx(100 * mine / won, abs=0.06)
    return
  found = {}
  for row in rows(workdir):  # a whole setting comes before its parts
    found.setdefault((row['system'], row['column']), row)
  for system, own in members.items():
    for column in (*own.languages, 'accuracy'):
      assert 0 <= float(found[system, column]['value']) <= 100
    assert found[system, 'consistency_2']['low']
  for system in paper.TABLES[cfg.paper].reported if cfg.paper else ():
    for column, told in paper.TABLES[cfg.paper].rows.get(system, {}).items():
      row = found[system, column]
      assert float(row['paper']) == told
      gap = float(row['value']) - told
      assert float(row['difference']) == pytest.approx(gap)
  chained = [
      own
      for own in members.values()
      if systems.parent(own) and own.train.method != 'none'
  ]
  assert ('id="forgetting"' in page) == bool(chained)
  assert ('id="languages"' in page) == ('10' in name or 'figure' in name)
