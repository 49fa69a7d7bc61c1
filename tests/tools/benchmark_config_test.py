"""A run's settings as those of a benchmark, its flags before its config."""

from __future__ import annotations

import importlib.util

from absl import app, flags
from absl.testing import flagsaver
from ml_collections import ConfigDict
import pytest

from configs import base
from tools import benchmark, benchmark_config, benchmark_flags
from tools import benchmark_work as work

LENGTHS = work.LENGTHS['short']


@pytest.fixture
def config():
  c = base.get_config()
  c.model, c.sample.m, c.sample.slots = 'folder', 5, 24
  c.sample.temperature, c.sample.top_k, c.sample.top_p = 0.7, 20, 0.8
  c.lora.rank, c.lora.targets = 4, ('q_proj', 'o_proj')
  c.train.batch_size, c.train.accumulation, c.train.remat = 2, 4, 'full'
  c.mesh.data, c.mesh.tensor = 2, 2
  return c


@pytest.fixture(autouse=True)
def parsed():
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(['benchmark'])


def problems(cfg, job, compare='none', lengths=LENGTHS):
  return list(
      benchmark_config.problems(cfg, job=job, compare=compare, lengths=lengths)
  )


def test_a_config_says_what_is_not_given_by_hand(config):
  given = {'samples': 3, 'lora_rank': 16, 'mesh': [1, 1, 1]}
  cfg = benchmark_config.resolve(config, None, given)
  assert (cfg.model, cfg.sample.m, cfg.lora.rank) == ('folder', 3, 16)
  told = benchmark_config.told(cfg, 'sampling')
  assert told['mesh'] == {'data': 1, 'fsdp': 1, 'tensor': 1}
  sample = {'temperature': 0.7, 'top_k': 20, 'top_p': 0.8, 'slots': 24, 'm': 3}
  assert told['sample'].items() >= sample.items()
  told = benchmark_config.told(cfg, 'training')
  assert told['lora']['targets'] == ('q_proj', 'o_proj')
  train = {'batch_size': 2, 'accumulation': 4, 'remat': 'full', 'epochs': 1}
  assert told['train'].items() >= train.items()


def test_every_flag_of_a_field_reaches_it():
  texts = {
      'model': 'folder',
      'dtype': 'bfloat16',
      'slots': '7',
      'lora_targets': 'k_proj,v_proj',
      'layout': 'apart',
      'remat': 'auto',
      'mesh': '2,3,4',
      'temperature': '0.25',
      'top_p': '0.5',
      'lora_alpha': '2.5',
  }
  argv = [f'--{f}={texts.get(f, 9)}' for f in benchmark_config.FIELDS]
  with flagsaver.flagsaver():
    flags.FLAGS(['benchmark', *argv, '--pairs=81'])
    cfg = benchmark_flags.settings()
  flat = benchmark_config.settings.flatten(cfg)
  for flag, field in benchmark_config.FIELDS.items():
    wanted = texts.get(flag, '9')
    if flag == 'mesh':
      assert list(cfg.mesh.to_dict().values()) == [2, 3, 4]
    elif flag == 'lora_targets':
      assert flat[field] == ('k_proj', 'v_proj')
    else:
      assert flat[field] == type(flat[field])(wanted), flag


def test_without_a_config_there_are_defaults_of_its_own():
  cfg = benchmark_config.resolve(None, None, {})
  assert (cfg.model, cfg.dtype, cfg.seed) == ('', 'float32', 0)
  assert (cfg.sample.slots, cfg.train.accumulation) == (48, 1)
  assert cfg.mesh.data == 1


def test_of_several_systems_one_is_named(config):
  config.systems = ConfigDict(
      {'base': {'train': {'method': 'none'}}, 'wide': {'lora': {'rank': 64}}}
  )
  with pytest.raises(ValueError, match='has base, wide: choose one with'):
    benchmark_config.resolve(config, None, {})
  with pytest.raises(ValueError, match=r"--system=wyde.*did you mean 'wide'"):
    benchmark_config.resolve(config, 'wyde', {})
  cfg = benchmark_config.resolve(config, 'wide', {})
  assert cfg.lora.rank == 64


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'top_p': 1.5}, r'config.sample.top_p = 1.5 must be a number'),
        ({'lora_targets': ('q',)}, 'config.lora.targets = .* unknown'),
        ({'batch': 0}, 'config.train.batch_size = 0'),
        ({'mesh': [0, 1, 1]}, 'config.mesh.data = 0 must be a number of'),
    ],
)
def test_a_wrong_value_is_refused(given, message):
  with pytest.raises(ValueError, match=message):
    benchmark_config.resolve(None, None, given)


@pytest.mark.parametrize(
    ('edit', 'job', 'compare', 'message'),
    [
        (('adapter', 'x'), 'sampling', 'none', "--config.adapter=''"),
        (('selfrag.mode', 'always'), 'sampling', 'none', 'selfrag.mode=off'),
        (('sample.answer', 'two_stage'), 'sampling', 'hf', 'answer=free'),
        (('train.method', 'none'), 'training', 'none', 'train.method=dpo'),
        (('train.max_length', 200), 'training', 'none', 'have up to 400'),
        (('train.loss', 'ipo'), 'training', 'trl', 'train.loss=sigmoid'),
        (('train.method', 'sft'), 'training', 'trl', 'train.method=dpo'),
    ],
)
def test_what_cannot_be_honoured_is_refused(edit, job, compare, message):
  cfg = benchmark_config.resolve(None, None, {})
  assert problems(cfg, job, compare) == []
  found = problems(benchmark_config.edited(cfg, dict([edit])), job, compare)
  assert len(found) == 1
  assert found[0].startswith(f'config.{edit[0]} = ')
  assert message in found[0]


def test_our_side_alone_draws_in_two_stages_and_by_any_loss():
  cfg = benchmark_config.resolve(None, None, {})
  fields = {'sample.answer': 'two_stage', 'train.loss': 'ipo'}
  cfg = benchmark_config.edited(cfg, fields)
  assert problems(cfg, 'sampling') == problems(cfg, 'training') == []


@pytest.mark.parametrize(
    ('compare', 'lacking', 'named'),
    [
        ('hf', ('torch', 'trl'), 'torch'),
        ('trl', ('trl',), 'trl'),
        ('trl', ('peft', 'datasets'), 'peft datasets'),
    ],
)
def test_a_peer_that_is_not_installed_is_told_before_any_model_is_made(
    monkeypatch, compare, lacking, named
):
  monkeypatch.setattr(
      importlib.util,
      'find_spec',
      lambda name: None if name in lacking else name,
  )
  monkeypatch.setattr(benchmark, 'prepare_environment', pytest.fail)
  monkeypatch.setattr(benchmark, 'measure', pytest.fail)
  job = 'training' if compare == 'trl' else 'sampling'
  with flagsaver.flagsaver():
    flags.FLAGS(['benchmark', f'--job={job}', f'--compare={compare}'])
    with pytest.raises(app.UsageError) as refused:
      benchmark.main(['benchmark'])
  assert f'--compare={compare} needs {named}' in str(refused.value)
  assert f'pip install {named}' in str(refused.value)
