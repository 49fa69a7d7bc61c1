"""Tools can be imported, all in one process: no flag is defined twice."""

from __future__ import annotations

import importlib
import pathlib

TOOLS = pathlib.Path(__file__).parents[2] / 'tools'


def test_all_tools_import_together():
  # benchmark_peers needs torch, and is only imported where it is compared.
  names = {path.stem for path in TOOLS.glob('*.py')} - {'benchmark_peers'}
  assert len(names) > 8
  for name in sorted(names):
    importlib.import_module(f'tools.{name}')
