"""The floors of the paper's jobs, and what must move them."""

from __future__ import annotations

import dataclasses

import pytest

from calm_jax.lm import decoder, roofline

LLAMA3 = decoder.DecoderConfig(
    vocab_size=128256,
    num_layers=32,
    model_dim=4096,
    ffn_dim=14336,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    norm_eps=1e-5,
    rope_theta=5e5,
    max_positions=8192,
)
H100 = roofline.Device('H100', 3.0e12, 798e12)
A100 = roofline.Device('A100-80GB', 2.0e12, 312e12)

# 21.6k questions in 3 languages, 3 samples each; 17,244 pairs, 3 epochs.
QUESTIONS, PAIRS, EPOCHS = 21_600 * 3, 17_244, 3
PAIR = roofline.Pair(400, 300, 300)


@pytest.mark.parametrize(
    ('device', 'milliseconds', 'rate'), [(H100, 9.3, 27.5), (A100, 18.8, 13.6)]
)
def test_a_decode_step(device, milliseconds, rate):
  step = roofline.decode_step(LLAMA3, device, rows=256, context=375)
  assert 1e3 * step == pytest.approx(milliseconds, abs=0.07)
  assert 1e-3 * 256 / step == pytest.approx(rate, abs=0.08)


@pytest.mark.parametrize(('device', 'minutes'), [(H100, 23), (A100, 50)])
def test_the_sampling_job(device, minutes):
  one = [roofline.Question(300, (150, 150, 150))] * 256
  seconds = roofline.sampling(LLAMA3, device, one, slots=256)
  assert round(seconds * QUESTIONS / 256 / 60) == minutes


@pytest.mark.parametrize(('device', 'minutes'), [(H100, 79), (A100, 156)])
def test_a_static_batch_that_waits_for_the_longest(device, minutes):
  step = roofline.decode_step(LLAMA3, device, rows=256, context=300 + 512 / 2)
  seconds = QUESTIONS * 3 / 256 * 512 * step
  seconds += QUESTIONS * roofline.prefill(LLAMA3, device, [300])
  assert round(seconds / 60) == minutes


@pytest.mark.parametrize(
    ('h100', 'a100', 'references', 'shared'),
    [
        (67, 171, EPOCHS, False),  # the reference at every step
        (52, 133, 1, False),  # the reference once
        (38, 96, 1, True),
    ],
)
def test_the_dpo_job(h100, a100, references, shared):
  for device, minutes in ((H100, h100), (A100, a100)):
    step = roofline.dpo(LLAMA3, device, [PAIR], shared=shared)
    ref = roofline.reference(LLAMA3, device, [PAIR], shared=shared)
    seconds = PAIRS * (EPOCHS * step + references * ref)
    assert seconds / 60 == pytest.approx(minutes, abs=0.6)


def test_the_dpo_job_padded_with_remat():
  padded = [roofline.Pair(400, 624, 624)]
  for device, minutes in ((H100, 109), (A100, 279)):
    step = roofline.dpo(LLAMA3, device, padded, shared=False, remat=True)
    ref = roofline.reference(LLAMA3, device, padded, shared=False)
    assert round(PAIRS * (EPOCHS * step + ref) / 60) == minutes


def test_more_rows_cost_nothing_until_the_matmuls_do():
  """With no context: weights are read once, whatever the batch."""
  step = lambda rows: roofline.decode_step(
      dataclasses.replace(LLAMA3, vocab_size=1), A100, rows=rows, context=0
  )
  assert step(100) == pytest.approx(step(1), rel=1e-3)
  assert step(312) == pytest.approx(2 * step(156), rel=1e-3)


def test_wider_numbers_take_longer_to_read():
  wide = dataclasses.replace(H100, itemsize=4)
  args = {'rows': 8, 'context': 2000}
  ratio = roofline.decode_step(LLAMA3, wide, **args)
  ratio /= roofline.decode_step(LLAMA3, H100, **args)
  assert ratio == pytest.approx(2, abs=0.01)


def test_slots_beyond_the_answers_stay_empty():
  questions = [roofline.Question(10, (4, 4))]
  seconds = [
      roofline.sampling(LLAMA3, H100, questions, slots=slots)
      for slots in (1, 2, 64)
  ]
  assert seconds[0] > seconds[1] == seconds[2]
