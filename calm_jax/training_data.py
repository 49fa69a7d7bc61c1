"""What align trains on: rows of token ids, and what the reference thinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import pathlib

import numpy as np

from calm_jax import console, records
from calm_jax.lm import batches, loop, reference
from calm_jax.lm import tokenizer as tokenizer_lib

Counts = dict[str, int | float]
Rows = dict[str, list[batches.Row]]  # of each split


def encode(
    items: Iterable[records.Pair | records.Target],
    tokenizer: tokenizer_lib.Tokenizer,
    *,
    max_length: int,
    weighting: str = 'none',
    marks: Sequence[str] = (),
) -> tuple[list[batches.Row], Counts]:
  """Rows of token ids, and how many items did not fit or were cut.

  A row weighs 1, or with `weighting` share what its winner had of the vote.
  `marks` are special tokens that stay special in answers.

  An answer that is too long is cut at its end, as TRL does; an item whose
  prompt leaves no room is dropped.
  """
  rows, dropped = [], 0
  for item in items:
    if isinstance(item, records.Pair):
      answers = (item.chosen, item.rejected)
    else:
      answers = (item.completion,)
    both = [
        tokenizer.chat_completion(
            item.prompt, a, opening=item.opening, marks=marks
        )
        for a in answers
    ]
    row = batches.fit(
        both[0][0],
        [ids for _, ids in both],
        max_length=max_length,
        weight=item.vote_share if weighting == 'share' else 1.0,
    )
    if row is None:
      dropped += 1
    else:
      rows.append(row)
  counts: Counts = {
      'rows': len(rows),
      'dropped_prompt_too_long': dropped,
      'cut_answers': sum(row.cut for row in rows),
  }
  return rows, counts


def read(
    folder: pathlib.Path,
    tokenizer: tokenizer_lib.Tokenizer,
    *,
    method: str,
    max_length: int,
    weighting: str,
    marks: Sequence[str],
) -> tuple[Rows, Counts]:
  """The rows of both splits and their counts, 'train_rows' and so on.

  Raises:
    ValueError: there is nothing to train on.
  """
  record = records.Target if method == 'sft' else records.Pair
  rows: Rows = {}
  counts: Counts = {}
  for split in ('train', 'val'):
    rows[split], found = encode(
        records.read_jsonl(folder / f'{split}.jsonl', record),
        tokenizer,
        max_length=max_length,
        weighting=weighting,
        marks=marks,
    )
    counts |= {f'{split}_{name}': value for name, value in found.items()}
  if not rows['train']:
    raise ValueError(
        f'{folder / "train.jsonl"}: nothing to train on:'
        f' {counts["train_dropped_prompt_too_long"]} prompts leave no room in'
        f' config.train.max_length = {max_length}. More questions,'
        ' or a lower config.pair.min_share, make more pairs'
    )
  return rows, counts


def with_reference(
    score: Callable[[batches.Batch], np.ndarray],
    rows: Rows,
    layouts: Mapping[str, Sequence[batches.Part]],
    folder: pathlib.Path,
    *,
    identity: str,
    dtype: str,
) -> dict[str, loop.Data]:
  """The rows with what the reference thinks of them, kept in `folder`.

  `score` is that of one batch, under the model that `identity` names; the
  batches are those of each split's layout.
  """
  data = {}
  total = sum(len(found) for found in rows.values())
  with console.progress('reference', total) as bar:
    for split, found in rows.items():
      key = reference.key(
          found, identity=identity, dtype=dtype, layout=layouts[split]
      )
      ref_N2 = reference.logprobs(
          score,
          found,
          folder / key,
          layout=layouts[split],
          advance=bar.advance,
      )
      data[split] = loop.Data(found, ref_N2)
  return data
