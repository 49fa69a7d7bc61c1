"""The align stage on a tiny model: what it writes, and that it resumes."""

from __future__ import annotations

import json
import math
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from calm_jax import align, guard, records
from calm_jax.lm import capacity, decoder, policy, training
from calm_jax.lm import journal as journal_lib
from calm_jax.lm import lora as lora_lib
from configs import base

CFG = decoder.DecoderConfig(
    vocab_size=100,
    num_layers=1,
    model_dim=16,
    ffn_dim=16,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    norm_eps=1e-5,
    rope_theta=1e4,
    max_positions=128,
)
STEPS = 6  # 2 epochs of 9 pairs: 4 devices x 1 row x 1 micro-batch


class Letters:
  """A tokenizer whose tokens are characters."""

  fingerprint = 'letters'

  def chat_completion(self, user, answer, *, opening=(), marks=()):
    ids = lambda text: [3 + ord(c) % 97 for c in text]
    return [2, *ids(user)], [*ids(answer), 1]


def load(model, revision, *, dtype, template, place):
  """In place of policy.load: a random model of a fixed seed."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    array = 0.3 * rng.standard_normal(leaf.shape)
    return place(name, np.asarray(array, jnp.dtype(dtype)))

  like = decoder.abstract(CFG, jnp.dtype(dtype))
  params = jax.tree_util.tree_map_with_path(draw, like)
  return policy.Policy(CFG, params, Letters(), 'tiny', pathlib.Path(model))


def config(**train):
  cfg = base.get_config()
  cfg.model, cfg.dtype, cfg.seed = 'org/tiny', 'float32', 3
  cfg.lora.rank = 2
  cfg.train.update(
      {
          'learning_rate': 1e-2,
          'warmup_ratio': 0.0,
          'epochs': 2,
          'accumulation': 1,
          'max_length': 30,
          'eval_every': 2,
          'keep': 1,
          **train,
      }
  )
  return cfg


def write_pairs(workdir, *, train=9, val=3):
  pair = lambda i: records.Pair(
      f'q{i}', 'en', f'ask {i}', f'yes {i * i}', f'no, {i}', 'en', 1.0
  )
  folder = workdir / 'pair'
  records.write_jsonl(folder / 'train.jsonl', map(pair, range(train)))
  records.write_jsonl(folder / 'val.jsonl', map(pair, range(50, 50 + val)))
  return workdir


def lines(workdir):
  text = (workdir / 'align' / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def adapter(workdir, name='adapter'):
  return (workdir / 'align' / name / lora_lib.WEIGHTS).read_bytes()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  if jax.device_count() != 4:
    pytest.skip('needs XLA_FLAGS=--xla_force_host_platform_device_count=4')
  monkeypatch.setattr(policy, 'load', load)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run that nobody stopped."""
  workdir = write_pairs(tmp_path_factory.mktemp('whole'))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(policy, 'load', load)
    counts = align.run(config(), workdir)
  return types.SimpleNamespace(workdir=workdir, counts=counts)


def test_what_a_run_counts(whole):
  counts = whole.counts
  assert counts['train_rows'] == 9
  assert counts['val_rows'] == 3
  assert counts['steps'] == STEPS
  assert counts['train_loss'] < math.log(2)
  assert 0 <= counts['val_rewards/accuracies'] <= 1
  assert counts['best_step'] in (2, 4, 6)


def test_every_step_has_one_line(whole):
  found = lines(whole.workdir)
  train = [line for line in found if line['split'] == 'train']
  assert [line['step'] for line in train] == list(range(1, STEPS + 1))
  assert [x['step'] for x in found if x['split'] == 'val'] == [2, 4, 6]
  # No step taken yet: the policy is the reference.
  assert train[0]['loss'] == pytest.approx(math.log(2), abs=1e-6)
  assert train[0]['learning_rate'] == pytest.approx(1e-2)
  assert train[2]['epoch'] == 1.0
  assert {'grad_norm', 'tokens_per_second', 'logps/chosen'} <= train[0].keys()
  assert list((whole.workdir / 'align' / 'tensorboard').glob('events*'))


def test_the_adapter_is_the_last_state_and_the_best_is_beside_it(whole):
  folder = whole.workdir / 'align'
  lora, lora_cfg = lora_lib.load_peft(folder / 'adapter', CFG)
  assert lora_cfg == lora_lib.LoraConfig(2, 16.0, ('q_proj', 'v_proj'))
  assert np.abs(lora['layers'][0]['v_proj']['b']).max() > 1e-3
  losses = {
      x['step']: x['loss'] for x in lines(whole.workdir) if x['split'] == 'val'
  }
  assert whole.counts['best_step'] == min(losses, key=losses.get)
  same = adapter(whole.workdir) == adapter(whole.workdir, 'adapter_best')
  assert same == (whole.counts['best_step'] == STEPS)


def test_a_finished_run_is_not_trained_again(whole, monkeypatch):
  before = lines(whole.workdir), adapter(whole.workdir)
  fail = lambda *args: pytest.fail('the reference was computed again')
  monkeypatch.setattr(training, 'make_reference', lambda *args: fail)
  assert align.run(config(), whole.workdir) == whole.counts
  assert (lines(whole.workdir), adapter(whole.workdir)) == before


def _interrupt(monkeypatch, step, action):
  """Does something in the middle of a step, after its line is written."""
  write = journal_lib.Journal.write

  def interrupted(self, at, split, metrics):
    write(self, at, split, metrics)
    if (at, split) == (step, 'train'):
      action()

  monkeypatch.setattr(journal_lib.Journal, 'write', interrupted)


def _same(a, b):
  strip = lambda found: [{**x, 'tokens_per_second': 0} for x in lines(found)]
  return adapter(a) == adapter(b) and strip(a) == strip(b)


def _crash():
  raise KeyError('a crash')


@pytest.mark.parametrize('step', [1, 3])
def test_a_crashed_run_goes_on_and_ends_the_same(
    whole, tmp_path, monkeypatch, step
):
  """A crash before any checkpoint, and one after the checkpoint of step 2."""
  write_pairs(tmp_path)
  with monkeypatch.context() as patch:
    _interrupt(patch, step, _crash)
    with pytest.raises(KeyError, match='a crash'):
      align.run(config(), tmp_path)
  assert lines(tmp_path)[-1]['step'] == step
  # It takes no step of before its checkpoint again.
  if step == 3:
    _interrupt(monkeypatch, 2, lambda: pytest.fail('step 2 was repeated'))
  counts = align.run(config(), tmp_path)
  assert _same(tmp_path, whole.workdir)
  assert counts == whole.counts


def test_a_run_that_goes_on_keeps_what_it_chose(whole, tmp_path, monkeypatch):
  """However much memory is free by then; what cannot be read is chosen anew."""
  write_pairs(tmp_path)
  with monkeypatch.context() as patch:
    _interrupt(patch, 3, _crash)
    patch.setattr(capacity, 'room', lambda mesh: 2**40)
    with pytest.raises(KeyError, match='a crash'):
      align.run(config(packing=0), tmp_path)
  path = tmp_path / 'align' / 'choice.json'
  chosen = path.read_text()
  assert json.loads(chosen)['choice'] == {'packing': 0, 'remat': 'none'}
  path.write_text(chosen.replace('none', 'full'))
  assert align.run(config(packing=0), tmp_path)['remat'] == 1
  for other in ('', '{', chosen.replace('none', 'half'), chosen[:-9]):
    path.write_text(other)
    assert align.run(config(packing=0), tmp_path)['remat'] == 0
    assert path.read_text() == chosen
  other = json.dumps({**json.loads(chosen), 'fingerprint': 'of others'})
  path.write_text(other.replace('none', 'full'))
  assert align.run(config(packing=0), tmp_path)['remat'] == 0


def test_pairs_apart_train_the_same_and_go_on(whole, tmp_path, monkeypatch):
  """In two sequences each, and with a crash after the checkpoint of step 2."""
  write_pairs(tmp_path)
  with monkeypatch.context() as patch:
    _interrupt(patch, 3, _crash)
    with pytest.raises(KeyError, match='a crash'):
      align.run(config(layout='apart'), tmp_path)
  counts = align.run(config(layout='apart'), tmp_path)
  assert counts['sequences_per_row'] == 2
  assert whole.counts['sequences_per_row'] == 1
  found, expected = lines(tmp_path), lines(whole.workdir)
  assert found[0]['loss'] == pytest.approx(math.log(2), abs=1e-6)
  for one, two in zip(found, expected, strict=True):
    assert one.pop('split') == two.pop('split')
    for name in one.keys() - {'tokens_per_second'}:
      assert one[name] == pytest.approx(two[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_before_it_ends_the_run(
    whole, tmp_path, monkeypatch, number
):
  write_pairs(tmp_path)
  with monkeypatch.context() as patch:
    _interrupt(patch, 3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as e, guard.stoppable():
      align.run(config(), tmp_path)
  assert e.value.code == 128 + number
  assert (tmp_path / 'align' / 'checkpoints' / '3').is_dir()
  assert not (tmp_path / 'align' / 'adapter').exists()
  align.run(config(), tmp_path)
  assert _same(tmp_path, whole.workdir)


_KILLED = """
import importlib.util, os, pathlib, signal, sys
spec = importlib.util.spec_from_file_location('align_test', sys.argv[1])
align_test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(align_test)
align_test.policy.load = align_test.load
write = align_test.journal_lib.Journal.write
def kill(self, step, split, metrics):
  write(self, step, split, metrics)
  if (step, split) == (5, 'train'):
    os.kill(os.getpid(), signal.SIGKILL)
align_test.journal_lib.Journal.write = kill
align_test.align.run(align_test.config(), pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_bits(whole, tmp_path):
  write_pairs(tmp_path)
  command = [sys.executable, '-c', _KILLED, __file__, str(tmp_path)]
  root = pathlib.Path(__file__).parent.parent
  result = subprocess.run(
      command, cwd=root, capture_output=True, text=True, check=False
  )
  assert result.returncode == -signal.SIGKILL, result.stderr
  assert (tmp_path / 'align' / 'checkpoints' / '4').is_dir()
  assert not (tmp_path / 'align' / 'adapter').exists()
  align.run(config(), tmp_path)
  assert _same(tmp_path, whole.workdir)


def test_sft_without_validation_rows(tmp_path):
  target = lambda i: records.Target(f'q{i}', 'en', f'ask {i}', f'yes {i}', 1.0)
  folder = tmp_path / 'pair'
  records.write_jsonl(folder / 'train.jsonl', map(target, range(4)))
  records.write_jsonl(folder / 'val.jsonl', [])
  counts = align.run(config(method='sft', epochs=4), tmp_path)
  losses = [line['loss'] for line in lines(tmp_path)]
  assert len(losses) == 4
  assert losses == sorted(losses, reverse=True)
  assert counts['val_rows'] == 0
  assert 'best_step' not in counts
  assert not (tmp_path / 'align' / 'adapter_best').exists()
  assert not (tmp_path / 'align' / 'reference').exists()


def test_simpo_needs_no_reference(tmp_path):
  write_pairs(tmp_path, train=4, val=0)
  align.run(config(loss='simpo', weighting='share', remat='full'), tmp_path)
  losses = [line['loss'] for line in lines(tmp_path)]
  assert losses[-1] < losses[0] != pytest.approx(math.log(2), abs=1e-3)
  assert not (tmp_path / 'align' / 'reference').exists()


def goes_on(workdir, whole, **train):
  """Trains on from the adapter of a whole run; the lines of its journal."""
  cfg = config(**train)
  cfg.adapter = str(whole.workdir / 'align' / 'adapter')
  align.run(cfg, write_pairs(workdir))
  return lines(workdir)


def test_it_goes_on_from_an_adapter_against_the_plain_model(whole, tmp_path):
  first, *_ = goes_on(tmp_path, whole)
  # The policy has moved away already: beyond where the adapter's run ended.
  assert first['loss'] < whole.counts['train_loss'] + 0.05
  assert first['loss'] != pytest.approx(math.log(2), abs=1e-2)
  assert adapter(tmp_path) != adapter(whole.workdir)


def test_a_reference_that_starts_where_the_run_does(whole, tmp_path):
  first, *_ = goes_on(tmp_path, whole, reference='start', keep=1)
  assert first['loss'] == pytest.approx(math.log(2), abs=1e-6)
  assert first['rewards/margins'] == pytest.approx(0, abs=1e-6)
  # Of another start neither the reference nor a checkpoint is of use.
  other = tmp_path / 'other'
  shutil.copytree(tmp_path / 'align' / 'adapter', other)
  cfg = config(reference='start')
  cfg.adapter = str(other)
  with pytest.raises(ValueError, match='was trained on other data'):
    align.run(cfg, tmp_path)
  references = list((tmp_path / 'align' / 'reference').iterdir())
  assert len(references) == 4  # of both splits, under both adapters


def test_what_the_settings_ask_the_training_for(whole, monkeypatch):
  seen = []

  def stop(cfg, objective, *args):
    seen.append(objective)
    raise KeyboardInterrupt

  monkeypatch.setattr(training, 'make_step', stop)
  asked = {
      'loss': 'robust',
      'beta': 0.2,
      'label_smoothing': 0.3,
      'sft_weight': 0.4,
      'simpo_gamma': 0.6,
  }
  with pytest.raises(KeyboardInterrupt):
    align.run(config(**asked, remat='full'), whole.workdir)
  assert seen == [training.Objective('dpo', 8.0, **asked, remat=True)]


def test_checkpoints_of_other_pairs_are_refused(whole, tmp_path):
  write_pairs(tmp_path, train=8)
  folder = tmp_path / 'align' / 'checkpoints'
  folder.parent.mkdir()
  os.symlink(whole.workdir / 'align' / 'checkpoints', folder)
  with pytest.raises(ValueError, match='was trained on other data'):
    align.run(config(), tmp_path)


def test_nothing_to_train_on_says_why(tmp_path):
  write_pairs(tmp_path, train=2)
  with pytest.raises(ValueError, match=r'train.jsonl: nothing .* 2 prompts'):
    align.run(config(max_length=3), tmp_path)


def test_the_adapter_has_the_tensors_of_peft(whole):
  tensors = safetensors.load(adapter(whole.workdir))
  assert tensors[
      'base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight'
  ].shape == (8, 2)
