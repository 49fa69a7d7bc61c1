"""Looks for what a model should not learn from preference pairs.

python -m tools.lint_pairs --pairs=FILE[,FILE]

takes pair/train.jsonl of a run, or files for TRL or LLaMA-Factory; prints one
JSON object, and a table on stderr. Languages that a file does not name are
guessed from the prompts. Row numbers run over all files and begin at 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import pathlib
import sys
from typing import Any

from tools import lint_checks


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  files = 'files of pairs, with commas between'
  parser.add_argument('--pairs', type=_files, required=True, help=files)
  args = parser.parse_args(argv)
  try:
    pairs = [pair for file in args.pairs for pair in lint_checks.read(file)]
    result = lint_checks.lint(pairs)
  except (OSError, ValueError) as e:
    sys.exit(f'lint_pairs: {e}')
  print(json.dumps(result, indent=2, allow_nan=False))
  print(_table(result), file=sys.stderr)


def _files(text: str) -> list[pathlib.Path]:
  return [pathlib.Path(name) for name in text.split(',')]


def _table(result: dict[str, Any]) -> str:
  """The result for a person."""
  lines = [
      f'{result["pairs"]} pairs of {result["questions"]} questions',
      f'{"":16}{"chosen":>8}{"rejected":>10}{"pair":>6}',
  ]
  for name, meaning in lint_checks.CHECKS.items():
    n = {side: v['count'] for side, v in result[name].items()}
    cells = f'{n.get("chosen", ""):>8}{n.get("rejected", ""):>10}'
    lines.append(f'{name:16}{cells}{n.get("pair", ""):>6}  {meaning}')
  if result['options_unread']:
    lines.append(
        f'{result["options_unread"]} prompts show no options that can be read:'
        ' their answers were not checked'
    )
  ratio = result['length_ratio']
  lines.append(
      f'length of chosen / rejected: median {ratio["median"]:.2f}, 90 % in'
      f' {ratio["p5"]:.2f} to {ratio["p95"]:.2f}'
  )
  return '\n'.join([*lines, *_style_lines(result['style'])])


def _style_lines(style: dict[str, Any] | None) -> list[str]:
  if style is None:
    return ['style: too few questions to say whether it tells the sides apart']
  verdict = 'it leaks' if style['low'] > 50 else 'no leak found'
  tells = ', '.join(
      f'{t["feature"]} ({t["weight"]:+.1f})' for t in style['tells']
  )
  return [
      f'told apart by style alone: {style["accuracy"]:.1f} %'
      f' [{style["low"]:.1f}, {style["high"]:.1f}], chance is 50: {verdict}',
      f'  by {tells}',
  ]


if __name__ == '__main__':
  main()
