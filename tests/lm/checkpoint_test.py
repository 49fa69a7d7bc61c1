"""Checkpoints: what comes back, what is kept, and damage."""

from __future__ import annotations

import gc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from calm_jax.lm import checkpoint, training

# Orbax drops the other reads of a step when one of them fails.
pytestmark = pytest.mark.filterwarnings(
    'ignore::pytest.PytestUnraisableExceptionWarning'
)


@pytest.fixture(autouse=True)
def _dropped_reads():
  yield
  gc.collect()


def _state(value, rank=2):
  """Integer keys, nested tuples and an empty state, as in a real run.

  The factors are noise, too large for Orbax to keep under its own checksums.
  """
  rng = np.random.default_rng(value)
  lora = {
      'layers': {
          i: {'q_proj': {'a': rng.random((4096, rank), np.float32)}}
          for i in (0, 1, 10)
      }
  }
  lora = jax.tree.map(jnp.asarray, lora)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))
  return training.TrainState(jnp.int32(value), lora, optimizer.init(lora))


def _open(folder, *, keep=2, fingerprint='f'):
  return checkpoint.Checkpoints(folder, keep=keep, fingerprint=fingerprint)


def _steps(folder):
  return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def _assert_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_state_comes_back_whole(tmp_path):
  with _open(tmp_path) as checkpoints:
    assert checkpoints.restore(_state(0)) is None
    checkpoints.save(7, _state(7), score=None)
  with _open(tmp_path) as checkpoints:
    restored = checkpoints.restore(_state(0))
  _assert_equal(restored, _state(7))
  assert set(restored.lora['layers']) == {0, 1, 10}


def test_a_state_lands_where_the_template_lies(tmp_path):
  device = jax.devices()[-1]
  with _open(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), score=None)
    restored = checkpoints.restore(jax.device_put(_state(0), device))
  assert restored.step.devices() == {device}


def test_the_newest_and_the_best_are_kept(tmp_path):
  losses = {5: 0.3, 10: 0.1, 15: 0.4, 20: None, 25: 0.2, 30: 0.5}
  with _open(tmp_path) as checkpoints:
    for step, loss in losses.items():
      checkpoints.save(step, _state(step), score=loss)
  assert _steps(tmp_path) == [10, 25, 30]
  # What is best survives a restart too.
  with _open(tmp_path) as checkpoints:
    assert checkpoints.best == 10
    _assert_equal(checkpoints.restore_best(_state(0)), _state(10))
    checkpoints.save(35, _state(35), score=0.05)
    checkpoints.save(40, _state(40), score=0.6)
  assert _steps(tmp_path) == [35, 40]


def test_what_was_validated_is_known_after_its_step_is_gone(tmp_path):
  with _open(tmp_path, keep=1) as checkpoints:
    assert checkpoints.waited == 0
    for step, score in ((1, 0.5), (2, 0.1), (3, 0.1), (4, None), (5, 0.2)):
      checkpoints.save(step, _state(step), score=score)
    assert checkpoints.waited == 2  # as good is no better
  assert _steps(tmp_path) == [2, 5]
  with _open(tmp_path, keep=1) as checkpoints:
    assert (checkpoints.best, checkpoints.waited) == (2, 2)
    # A run that goes on before a damaged step has not seen its validation.
    _flip(max(_files(tmp_path / '5' / 'state'), key=lambda p: p.stat().st_size))
    assert int(checkpoints.restore(_state(0)).step) == 2
    assert (checkpoints.best, checkpoints.waited) == (2, 1)


def test_no_validation_means_no_best(tmp_path):
  with _open(tmp_path, keep=1) as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, _state(step), score=None)
    assert checkpoints.restore_best(_state(0)) is None
  assert _steps(tmp_path) == [2]


def _files(folder):
  return sorted(
      p for p in folder.rglob('*') if p.is_file() and p.stat().st_size
  )


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _truncate(path):
  path.write_bytes(b'')


@pytest.mark.parametrize('damage', [_flip, _truncate])
def test_no_damage_restores_silently(tmp_path, damage, capsys):
  """Whatever file is damaged: the step is right, or the older one is used."""
  with _open(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), score=0.1)
    checkpoints.save(2, _state(2), score=0.2)
  backup = {p: p.read_bytes() for p in _files(tmp_path)}
  fallbacks = 0
  for path in _files(tmp_path / '2'):
    damage(path)
    with _open(tmp_path) as checkpoints:
      restored = checkpoints.restore(_state(0))
    _assert_equal(restored, _state(int(restored.step)))
    assert int(restored.step) in (1, 2), path
    fallbacks += int(restored.step) == 1
    for p, data in backup.items():
      p.parent.mkdir(parents=True, exist_ok=True)
      p.write_bytes(data)
  assert fallbacks >= 3
  assert capsys.readouterr().out.count('is damaged') == fallbacks


def test_a_damaged_step_can_be_saved_again(tmp_path):
  with _open(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), score=None)
  for path in _files(tmp_path / '1'):
    _flip(path)
  with _open(tmp_path) as checkpoints:
    assert checkpoints.restore(_state(0)) is None
    checkpoints.save(1, _state(3), score=None)
    _assert_equal(checkpoints.restore(_state(0)), _state(3))


def test_a_step_is_not_silently_left_out(tmp_path):
  with _open(tmp_path) as checkpoints:
    checkpoints.save(2, _state(2), score=None)
    with pytest.raises(ValueError, match='step 1 was not saved'):
      checkpoints.save(1, _state(1), score=None)


def test_other_data_is_refused(tmp_path):
  with _open(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), score=None)
  with (
      _open(tmp_path, fingerprint='g') as checkpoints,
      pytest.raises(ValueError, match='was trained on other data'),
  ):
    checkpoints.restore(_state(0))


def test_another_adapter_is_refused(tmp_path):
  with _open(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), score=None)
    message = (
        r'lora.layers.0.q_proj.a is float32\[4096, 2\].*float32\[4096, 3\]'
    )
    with pytest.raises(ValueError, match=message):
      checkpoints.restore(_state(0, rank=3))
  assert _steps(tmp_path) == [1]
