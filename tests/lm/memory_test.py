"""Needs, and what a device has of a model."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from calm_jax.lm import decoder, memory, sharding
from tools import benchmark_model

TINY = benchmark_model.SHAPES['tiny']
GIB = 2**30


def test_the_largest_that_fits():
  assert memory.largest(lambda n: n <= 37, most=100) == 37
  assert memory.largest(lambda n: True, most=100) == 100
  assert memory.largest(lambda n: False, most=100) == 0


def test_a_need_names_its_parts():
  need = memory.Need.of({'weights': 3 * GIB, 'KV cache': GIB // 2})
  assert str(need) == '3.50 GiB (weights 3.00, KV cache 0.50)'


def test_tree_bytes_are_of_one_device():
  mesh = sharding.make_mesh(2, 1, 2, devices=jax.devices()[:4])
  tree = decoder.abstract(TINY, jnp.float32)
  whole = sum(4 * x.size for x in jax.tree.leaves(tree))
  norms = 4 * 64 * 5
  assert memory.tree_bytes(mesh, tree) == (whole - norms) // 2 + norms


def test_a_part_of_a_dimension_that_devices_do_not_divide_is_all_of_it():
  mesh = sharding.make_mesh(1, 1, 2, devices=jax.devices()[:2])
  model = memory.Model(TINY, 'float32', mesh)
  assert [model.part(size) for size in (8, 9)] == [4, 9]
