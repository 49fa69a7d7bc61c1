"""Every published table and ablation in miniature: the command fills its table.

The commands are those of the configs' docstrings, made small by further flags.
The questions are the bundled ones in the layouts of the releases; the model is
a random tiny one. Commands share a folder where they may, as a user's would,
so that what two of them have in common is trained once.
"""

from __future__ import annotations

import csv
import functools
import importlib
import itertools
import json
import math
import pathlib
import re
import shlex
import shutil
import sys

from absl import flags
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from calm_jax import paper, records, systems
from calm_jax.datasets import demo
from calm_jax.html import winners
from calm_jax.lm import batches, compilation, pages, shapes, sharding
from configs import base
from tools import add_reflection_tokens

FOLDER = pathlib.Path(base.__file__).parent
COMMANDS = sorted(
    f'{kind}.{path.stem}'
    for kind in ('paper', 'ablations')
    for path in (FOLDER / kind).glob('*.py')
)
SMALL = {
    'dtype': 'float32',
    'limit': 8,  # of which chance is right in some, as gold labels need
    'data.train_split': 'train',
    'data.test_split': 'test',
    'data.test_limit': 0,  # else tables of one dataset could share no folder
    'sample.max_new_tokens': 2,
    'sample.answer': 'two_stage',
    'sample.slots': 12,
    'vote.ties': 'seeded',
    'pair.cap': 1,
    'pair.val_size': 0.0,
    'lora.rank': 2,
    'train.learning_rate': 1e-2,
    # So that no program depends on the number of steps.
    'train.schedule': 'constant',
    'train.warmup_ratio': 0.0,
    'train.epochs': 1,
    'train.accumulation': 1,
    'evaluate.max_new_tokens': 2,
    'evaluate.bootstrap': 10,
    'translate.backend': 'none',
}


@pytest.fixture(scope='module')
def _few_shapes():
  """Prompts, caches and rows have lengths that most systems share."""
  patch, lengths = pytest.MonkeyPatch(), shapes.lengths
  patch.setattr(batches, '_MULTIPLE', 256)
  patch.setattr(shapes, '_BUCKETS', (512, 768))
  coarse = lambda needs, on_cpu, multiple: lengths(
      needs, on_cpu=on_cpu, multiple=256
  )
  patch.setattr(shapes, 'lengths', coarse)
  yield
  patch.undo()


@pytest.fixture(scope='module')
def _one_device():
  """What is compiled for four simulated devices takes twice as long."""
  patch, make = pytest.MonkeyPatch(), sharding.make_mesh
  one = functools.partial(make, devices=jax.devices()[:1])
  patch.setattr(sharding, 'make_mesh', one)
  patch.setattr(sharding, 'make_local_mesh', one)
  yield
  patch.undo()


@pytest.fixture(scope='module')
def model(tiny_model, tmp_path_factory):
  """One layer of the tiny model, two of its heads: a fourth of its work."""
  folder = tmp_path_factory.mktemp('model') / 'tinier'
  shutil.copytree(tiny_model, folder)
  cfg = json.loads((folder / 'config.json').read_text('utf-8'))
  heads, kept = cfg['num_attention_heads'], 2
  cfg |= {'num_hidden_layers': 1, 'num_attention_heads': kept}
  cfg['num_key_value_heads'] = kept * cfg['num_key_value_heads'] // heads
  (folder / 'config.json').write_text(json.dumps(cfg), encoding='utf-8')
  path = folder / 'model.safetensors'
  weights = {
      name: weight
      for name, weight in safetensors.load_file(path).items()
      if '.layers.' not in name or '.layers.0.' in name
  }
  for part in 'qkvo':
    name = f'model.layers.0.self_attn.{part}_proj.weight'
    axis = 1 if part == 'o' else 0
    weights[name] = np.split(weights[name], heads // kept, axis)[0].copy()
  safetensors.save_file(weights, path)
  return folder


@pytest.fixture(scope='module')
def selfrag_model(model, tmp_path_factory):
  folder = tmp_path_factory.mktemp('model') / 'selfrag'
  add_reflection_tokens.add(model, folder, seed=0)
  return folder


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


@pytest.fixture(scope='module')
def authors(tmp_path_factory):
  """The bundled questions as the CALM authors' files of X-CSQA have them."""
  folder = tmp_path_factory.mktemp('authors')
  for lang in ('en', 'zh', 'fr', 'it', 'de', 'ja'):
    found = []
    for row in questions('train', lang):
      options = [
          f'{c["label"]}. {c["text"]}' for c in row['question']['choices']
      ]
      text = '\n'.join([row['question']['stem'], *options])
      found.append({'input': text, 'output': row['answerKey']})
    name = f'x_csqa_{"cn" if lang == "zh" else lang}_train_sampled.json'
    (folder / name).write_text(json.dumps(found), encoding='utf-8')
  return folder


def write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  path.write_text(''.join(lines), encoding='utf-8')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """Where the runs are: commands with systems in common share a folder."""
  root = tmp_path_factory.mktemp('runs')

  def folder(name, cfg):
    # Systems of the same names as others on these questions, set otherwise.
    if 'selfrag' in name or name in ('paper.table7_8_votes', 'paper.replay'):
      return root / name
    return root / cfg.data.name

  return folder


@pytest.fixture
def command(monkeypatch):
  """Runs calm_jax.main in this process; returns the config that it ran."""
  monkeypatch.chdir(FOLDER.parent)
  # What it sets up for a process of its own.
  monkeypatch.setattr(compilation, 'keep', lambda: None)
  monkeypatch.setattr(pages, 'keep', lambda: None)

  # Its flags, some of them required, and those of the config's fields are for
  # these tests alone.
  before = set(flags.FLAGS)
  main = importlib.import_module('calm_jax.main')

  def run(arguments):
    monkeypatch.setattr(sys, 'argv', ['main', *arguments])
    assert main.main(main.parse(sys.argv)) == 0
    return flags.FLAGS.config

  yield run
  for name in {*flags.FLAGS} - before:
    delattr(flags.FLAGS, name)
  flags.FLAGS.unparse_flags()
  del sys.modules['calm_jax.main']


def told(name):
  """The arguments of the command that a config's docstring gives."""
  said = importlib.import_module(f'configs.{name}').__doc__
  line = said[said.index('python -m calm_jax.main') :].partition('\n\n')[0]
  return shlex.split(line.replace('\\\n', ' '))[3:]


def small(name, cfg, paths):
  """What makes a command small; data sets in the places of the releases."""
  fields = SMALL | {'data.path': paths[cfg.data.name]}
  translated = {
      'translate.backend': 'files',
      'translate.path': paths['medqa'] / 'translations',
  }
  if cfg.data.name == 'xcsqa_authors':
    fields['data.test_split'] = 'train'  # the one split that it has
  if cfg.data.name == 'medqa':
    fields |= translated
  if cfg.retrieve.backend != 'none':
    fields |= {'retrieve.mode': 'text', 'retrieve.top_k': 1}
    fields['retrieve.corpus'] = ''
  for system, own in cfg.systems.items():
    mine = {}
    if 'pair' in own and 'min_share' in own.pair:
      # Random answers seldom agree.
      mine['pair.min_share'] = own.pair.min_share / 2.5
    if 'pair' in own and 'min_margin' in own.pair:
      mine['pair.min_margin'] = own.pair.min_margin / 10
    if 'sample' in own and own.sample.get('m') == 1:
      mine['sample.m'] = 2  # one needs a translator to be put before another
    if 'data' in own:
      mine['data.path'] = paths[own.data.get('name', cfg.data.name)]
      for split in ('train', 'test'):
        if own.data.get(f'{split}_split'):
          mine[f'data.{split}_split'] = split
      if own.data.get('name') == 'medqa':
        mine |= translated
    fields |= {f'systems.{system}.{name}': v for name, v in mine.items()}
  return [f'--config.{field}={value}' for field, value in fields.items()]


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


def has_the_ballots(workdir, members):
  """Who won each vote is in a table, with a place for the paper's numbers."""
  with (workdir / 'compare' / 'votes.csv').open(encoding='utf-8') as f:
    found = list(csv.DictReader(f))
  assert list(found[0]) == list(winners.CSV_HEAD)
  cells = [(row['systems'], row['lang'], row['column']) for row in found]
  assert sorted(cells) == sorted(
      (system, lang, column)
      for system, own in members.items()
      for lang in own.languages
      for column in winners.COLUMNS
  )
  told = paper.TABLES['table7_8_votes'].rows
  for row in found:
    known = told.get(row['systems'], {}).get(f'{row["column"]}_{row["lang"]}')
    assert row['paper'] == ('' if known is None else str(known))
    if known is not None and row['value']:
      gap = float(row['value']) - known
      assert float(row['difference']) == pytest.approx(gap, abs=0.06)
  for system in members:
    parts = [
        float(row['value'])
        for row in found
        if (row['systems'], row['column']) == (system, 'won')
    ]
    assert sum(parts) == pytest.approx(100)
  text = (workdir / 'compare' / 'table.md').read_text('utf-8')
  assert [line for line in text.splitlines() if line.startswith('## ')] == [
      f'## Votes: {system}' for system in members
  ]
  assert text.count('EN, paper') == text.count('EN, difference') == 2


@pytest.mark.slow
# ml_collections loads a config's file so.
@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')
@pytest.mark.usefixtures('_few_shapes', '_one_device')
@pytest.mark.parametrize('name', COMMANDS)
def test_the_command_fills_its_table(
    name, folders, command, model, medqa, authors, request
):
  if 'selfrag' in name:
    pytest.importorskip('lancedb', reason='needs the extra retrieval')
    model = request.getfixturevalue('selfrag_model')
  cfg = importlib.import_module(f'configs.{name}').get_config()
  paths = {'xcsqa': demo.FOLDER, 'medqa': medqa, 'xcsqa_authors': authors}
  workdir = folders(name, cfg)
  cfg = command(
      [
          *told(name),
          *small(name, cfg, paths),
          f'--config.model={model}',
          f'--workdir={workdir}',
      ]
  )
  fill(name, workdir, cfg)


def fill(name, workdir, cfg):
  """Looks at all that a command promises."""
  members = systems.expand(cfg)
  voting = 'table7_8' in name  # its command names stages
  page = (workdir / 'compare' / 'report.html').read_text('utf-8')
  for system in members:
    report = workdir / 'systems' / system / 'report' / 'report.html'
    assert f'../systems/{system}/report/report.html' in page
    assert report.exists() != voting
  if voting:
    assert rows(workdir) == []  # nothing is evaluated
    has_the_ballots(workdir, members)
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
  if 'table4' in name:
    changes_are_from_the_base(workdir, page)
  found = {}
  for row in rows(workdir):  # a whole setting comes before its parts
    found.setdefault((row['system'], row['column']), row)
  for system, own in members.items():
    for column in (*own.languages, 'accuracy'):
      assert 0 <= float(found[system, column]['value']) <= 100
    assert found[system, 'consistency_2']['low']
  table = paper.TABLES[cfg.paper] if cfg.paper else None
  if table and not table.parts:
    beside(rows(workdir), table)
  for part in table.parts if table else ():
    mine = [r for r in rows(workdir) if r['setting'].endswith(f': {part}')]
    assert mine
    beside(mine, table.of(part))
  if table:
    text = (workdir / 'compare' / 'table.md').read_text('utf-8')
    titles = [f'{table.title}, {part}' for part in table.parts]
    assert all(f'## {title}\n' in text for title in titles or [table.title])
  chained = {
      system: own
      for system, own in members.items()
      if systems.parent(own) and own.train.method != 'none'
  }
  for system, own in chained.items():
    goes_on(workdir / 'systems' / system, own)
  assert ('id="forgetting"' in page) == bool(chained)
  assert ('id="languages"' in page) == ('10' in name or 'figure' in name)


def beside(found, table):
  """Each of the paper's numbers is in our table's row of that name."""
  cells = {}
  for row in found:  # a whole setting comes before its parts
    cells.setdefault((row['system'], row['column']), row)
  for system, told in table.rows.items():
    for column, number in told.items():
      row = cells[system, column]
      assert float(row['paper']) == number
      gap = float(row['value']) - number
      assert float(row['difference']) == pytest.approx(gap)


def changes_are_from_the_base(workdir, page):
  """Of each data set: the model that was trained on none is its first row."""
  path = workdir / 'compare' / 'scores.jsonl'
  names = {score.system for score in records.read_jsonl(path, records.Score)}
  for first, others in (
      ('base', ('medqa', 'xcsqa_on_medqa')),
      ('base_on_xcsqa', ('medqa_on_xcsqa', 'xcsqa')),
  ):
    assert f'Change from {first},' in page
    assert {f'{system}-{first}' for system in others} <= names
  shown = re.findall(r'Change from (\w+),', page)
  assert set(shown) == {'base', 'base_on_xcsqa'}


def goes_on(folder, own):
  """A system was sampled from, and trained from, what another had trained."""
  assert not (folder / 'sample').is_symlink()
  path = folder / 'align' / 'metrics.jsonl'
  first = json.loads(path.read_text('utf-8').partition('\n')[0])
  same = math.isclose(first['loss'], math.log(2), rel_tol=1e-5)
  assert same == (own.train.reference == 'start')
  start = folder.parent / systems.parent(own)
  name = 'align/adapter/adapter_model.safetensors'
  assert (folder / name).read_bytes() != (start / name).read_bytes()
