"""Few shapes, each big enough, and their number known beforehand."""

from __future__ import annotations

import dataclasses

import pytest

from calm_jax.lm import shapes


def made(widths, lengths, room=10):
  return shapes.Shapes(widths, lengths, room, samples=3, suffix=1, choices=1)


def test_bucket_covers_every_length():
  assert [shapes.bucket(n) for n in (1, 32, 33, 1024, 1025)] == [
      32,
      32,
      64,
      1024,
      1536,
  ]


def test_widths_are_the_buckets_in_use():
  assert shapes.widths([3, 30, 100, 101]) == (32, 128)


def test_a_width_that_saves_little_padding_is_dropped():
  """Of 32, 64, 96, 128, 192, 256, 320: one prompt of 96 can be padded."""
  prompts = [32, 64, 128, 192, 256, 320] * 2 + [96]
  assert shapes.widths(prompts) == (32, 64, 128, 192, 256, 320)


def test_a_dropped_width_counts_with_the_next_one():
  """Dropping 32 makes 64 dear to drop, so that 96 goes next."""
  prompts = [32] + [64] * 2 + [96] * 2 + [128, 192, 256, 320, 384] * 9
  assert shapes.widths(prompts) == (64, 128, 192, 256, 320, 384)


@pytest.mark.parametrize(
    ('needs', 'expected'),
    [
        ({300: 1}, (320,)),
        ({300: 500, 310: 1, 200: 1}, (320,)),
        # A compilation is worth 2 ** 15 positions that nothing stands at.
        ({1000: 1, 500: 63}, (1024,)),
        ({1000: 1, 500: 64}, (512, 1024)),
        ({60 * n: 1000 for n in range(1, 9)}, (128, 256, 384, 512)),
    ],
)
def test_caches_are_few_and_each_pays(needs, expected):
  assert shapes.lengths(needs, on_cpu=True) == expected


def test_a_length_has_to_save_more_where_attention_costs_less():
  assert shapes.lengths({1000: 1, 500: 16_000}, on_cpu=False) == (1024,)
  assert shapes.lengths({1000: 1, 500: 17_000}, on_cpu=False) == (512, 1024)


def test_a_cache_holds_a_prompt_and_its_answer():
  s = made((32, 64), (64, 128))
  assert [s.width(n) for n in (1, 32, 33)] == [32, 32, 64]
  assert [s.length(n) for n in (32, 54, 55)] == [64, 64, 128]


def test_programs_are_counted_once_for_all_parts():
  s = made((32, 64), (64, 128))
  assert s.programs([[5, 40], [8, 50]]) == 3  # two widths, one cache
  # The same in a longer cache, too, and what cuts that one short.
  assert s.programs([[5, 40], [8, 60]]) == 6 + 2
  assert s.describe([[5, 40], [8, 50]]) == (
      'prefill widths 32 64, cache of 64 positions: 3 programs'
  )
  assert s.describe([[5], [60]]) == (
      'prefill widths 32 64, caches of 64 128 positions: at most 4 programs'
  )


def test_half_the_slots_take_programs_for_each_cache():
  s = made((32, 64), (64, 128))
  assert s.programs([[5], [60]], halves=True) == 12
  assert s.programs([[5, 60]], halves=True) == 12 + 1 + 4
  assert s.describe([[5]], halves=True).endswith(': 6 programs')


def test_few_slots_and_those_of_several_devices_are_not_halved():
  s = dataclasses.replace(made((32,), (64,)), halved=True)
  assert [s.halves(n, 1) for n in (15, 16)] == [False, True]
  assert not s.halves(64, 2)
  assert not made((32,), (64,)).halves(64, 1)
