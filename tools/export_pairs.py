"""Writes the pairs or targets of a run for TRL or LLaMA-Factory.

python -m tools.export_pairs --pairs=runs/a/pair/train.jsonl \\
    --format=llamafactory --out=mine.json

TRL reads pair/train.jsonl as it stands, but for two things that only this tool
does: --format=messages makes chat messages of the texts, and where answers go
on from an opening (Self-RAG), the prompt ends in it. For LLaMA-Factory a
dataset_info.json is written beside the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import json
import pathlib
import sys

from calm_jax import formats, records

FORMATS = ('trl', 'messages', 'llamafactory')


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
      '--pairs', type=pathlib.Path, required=True, help='train.jsonl of a run'
  )
  parser.add_argument('--format', choices=FORMATS, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  args = parser.parse_args(argv)
  try:
    count = export(args.pairs, args.out, format=args.format)
  except (OSError, ValueError) as e:
    sys.exit(f'export_pairs: {e}')
  print(f'{args.out}: {count} rows')


def export(path: pathlib.Path, out: pathlib.Path, *, format: str) -> int:
  """Writes the rows of `path` in a format; returns how many.

  Raises:
    ValueError: a line of `path` is neither a pair nor a target; names it.
  """
  rows = _rows(path)
  if format == 'llamafactory':
    return formats.write_llamafactory(out, rows)
  return formats.write_trl(out, rows, conversational=format == 'messages')


def _rows(path: pathlib.Path) -> Iterator[formats.Record]:
  with path.open('rb') as f:
    first = f.readline()
  try:
    targets = 'completion' in json.loads(first or b'{}')
  except ValueError as e:
    raise records.wrong_line(path, 1, records.Pair, e) from e
  return records.read_jsonl(path, records.Target if targets else records.Pair)


if __name__ == '__main__':
  main()
