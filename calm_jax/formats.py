"""Preferences and targets in the formats of TRL and LLaMA-Factory.

Columns that only this project knows (question_id, lang, chosen_lang,
vote_share, changed) travel along: both programs ignore them. A file without
them gets an id made from the prompt, so that one question still stays on one
side of a split, and a vote share of 1. What both answers go on from (opening)
ends the prompt, as neither program has a place for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import hashlib
import json
import pathlib
from typing import Any

from calm_jax import records

Row = dict[str, Any]
Record = records.Pair | records.Target

_PAIR_EXTRAS = ('question_id', 'lang', 'chosen_lang', 'vote_share')
_TARGET_EXTRAS = ('question_id', 'lang', 'vote_share')
_BEFORE_OPENING = '\n\n'


def to_trl(record: Record, *, conversational: bool = False) -> Row:
  """A row for TRL's DPOTrainer or SFTTrainer, as texts or as messages."""
  say = _message if conversational else lambda role, text: text
  row = {'prompt': say('user', _asked(record))}
  if isinstance(record, records.Target):
    row['completion'] = say('assistant', record.completion)
  else:
    row['chosen'] = say('assistant', record.chosen)
    row['rejected'] = say('assistant', record.rejected)
  return row | _extras(record)


def to_llamafactory(record: Record) -> Row:
  """An alpaca row: `ranking: true` for a pair, plain for a target."""
  row = {'instruction': _asked(record), 'input': ''}
  if isinstance(record, records.Target):
    row['output'] = record.completion
  else:
    row['chosen'], row['rejected'] = record.chosen, record.rejected
  return row | _extras(record)


def write_trl(
    path: pathlib.Path,
    rows: Iterable[Record],
    *,
    conversational: bool = False,
) -> int:
  """Writes JSON lines; returns how many."""
  return records.write_jsonl(
      path, (to_trl(row, conversational=conversational) for row in rows)
  )


def write_llamafactory(path: pathlib.Path, rows: Iterable[Record]) -> int:
  """Writes a JSON array, and beside it the dataset_info.json to name it."""
  count, pairs = 0, False
  with records.replacing(path) as f:
    for count, row in enumerate(rows, 1):
      pairs = isinstance(row, records.Pair)
      f.write(b',\n' if count > 1 else b'[\n')
      f.write(records.to_json(to_llamafactory(row)))
    f.write(b'\n]\n' if count else b'[]\n')
  columns = {'prompt': 'instruction', 'query': 'input'}
  entry: Row = {'file_name': path.name, 'columns': columns}
  if pairs:
    entry['ranking'] = True
    columns |= {'chosen': 'chosen', 'rejected': 'rejected'}
  else:
    columns['response'] = 'output'
  info = json.dumps({path.stem: entry}, indent=2)
  records.write_text(path.with_name('dataset_info.json'), info + '\n')
  return count


def read_pairs(path: pathlib.Path, *, lang: str = 'und') -> list[records.Pair]:
  """Preferences of either program, from JSON lines or a JSON array.

  `lang` is for rows that do not say theirs.

  Raises:
    ValueError: a row is not a single-turn preference; names file and row.
  """
  return [_pair(row, lang, where) for where, row in _rows(path)]


def read_targets(
    path: pathlib.Path, *, lang: str = 'und'
) -> list[records.Target]:
  """SFT rows of either program; otherwise as `read_pairs`."""
  return [_target(row, lang, where) for where, row in _rows(path)]


def _asked(record: Record) -> str:
  if not record.opening:
    return record.prompt
  return record.prompt + _BEFORE_OPENING + ''.join(record.opening)


def _message(role: str, text: str) -> list[Row]:
  return [{'role': role, 'content': text}]


def _extras(record: Record) -> Row:
  names = _PAIR_EXTRAS if isinstance(record, records.Pair) else _TARGET_EXTRAS
  lists = {'opening': [*record.opening], 'changed': [*record.changed]}
  return {name: getattr(record, name) for name in names} | {
      name: pieces for name, pieces in lists.items() if pieces
  }


def _rows(path: pathlib.Path) -> Iterator[tuple[str, Row]]:
  """The objects of a file, each with the words that say where it stands."""
  text = path.read_text(encoding='utf-8-sig')
  if text.lstrip().startswith('['):
    try:
      rows = json.loads(text)
    except ValueError as e:
      raise ValueError(f'{path}: not a JSON array: {e}') from e
    numbered = [(f'{path}: row {n}', row) for n, row in enumerate(rows, 1)]
  else:
    # Not splitlines: it would cut rows at U+2028.
    numbered = [
        (f'{path}:{n}', _line(line, f'{path}:{n}'))
        for n, line in enumerate(text.split('\n'), 1)
        if line.strip()
    ]
  for where, row in numbered:
    if not isinstance(row, dict):
      raise ValueError(f'{where}: {row!r} is not an object')
    yield where, row


def _line(line: str, where: str) -> Any:
  try:
    return json.loads(line)
  except ValueError as e:
    raise ValueError(f'{where}: not JSON: {e}') from e


def _pair(row: Row, lang: str, where: str) -> records.Pair:
  if 'instruction' in row:
    prompt = _instruction(row, where)
  elif 'prompt' in row:
    prompt = _turn(row, 'prompt', 'user', where)
  else:
    prompt, row = _implicit(row, where)
  prompt, opening = _opened(prompt, row, where)
  lang = _known(row, 'lang', lang, where)
  return records.Pair(
      question_id=_known(row, 'question_id', _id(prompt), where),
      lang=lang,
      prompt=prompt,
      chosen=_turn(row, 'chosen', 'assistant', where),
      rejected=_turn(row, 'rejected', 'assistant', where),
      chosen_lang=_known(row, 'chosen_lang', lang, where),
      vote_share=_share(row, where),
      opening=opening,
      changed=_strings(row, 'changed', where),
  )


def _target(row: Row, lang: str, where: str) -> records.Target:
  if 'instruction' in row:
    prompt = _instruction(row, where)
    completion = _turn(row, 'output', 'assistant', where)
  else:
    prompt = _turn(row, 'prompt', 'user', where)
    completion = _turn(row, 'completion', 'assistant', where)
  prompt, opening = _opened(prompt, row, where)
  return records.Target(
      question_id=_known(row, 'question_id', _id(prompt), where),
      lang=_known(row, 'lang', lang, where),
      prompt=prompt,
      completion=completion,
      vote_share=_share(row, where),
      opening=opening,
      changed=_strings(row, 'changed', where),
  )


def _instruction(row: Row, where: str) -> str:
  """The user message that LLaMA-Factory makes of an alpaca row."""
  for field in ('system', 'history'):
    if row.get(field):
      raise ValueError(
          f'{where}: {field!r} is not supported; a row is one question'
      )
  parts = [_turn(row, 'instruction', 'user', where)]
  if row.get('input'):
    parts.append(_turn(row, 'input', 'user', where))
  return '\n'.join(part for part in parts if part)


def _turn(row: Row, field: str, role: str, where: str) -> str:
  """The text of a string or of a list of one message."""
  value = row.get(field)
  if isinstance(value, str):
    return value
  if field not in row:
    raise ValueError(f'{where}: lacks {field!r}; it has {sorted(row)}')
  if isinstance(value, list) and len(value) == 1:
    message = value[0]
    if isinstance(message, dict) and message.get('role') == role:
      if isinstance(message.get('content'), str):
        return message['content']
  raise ValueError(
      f'{where}: {field!r} must be a string or one {role} message,'
      f' not {value!r:.200}'
  )


def _implicit(row: Row, where: str) -> tuple[str, Row]:
  """TRL's rows without a prompt: both sides start with the same message."""
  sides = {}
  for field in ('chosen', 'rejected'):
    value = row.get(field)
    if not isinstance(value, list) or len(value) != 2:
      raise ValueError(
          f"{where}: lacks 'prompt', and {field!r} is not a user and an"
          f' assistant message but {value!r:.200}'
      )
    sides[field] = value[1:]
  if row['chosen'][0] != row['rejected'][0]:
    raise ValueError(f'{where}: chosen and rejected answer different prompts')
  prompt = {'prompt': row['chosen'][:1]}
  return _turn(prompt, 'prompt', 'user', where), row | sides


def _opened(prompt: str, row: Row, where: str) -> tuple[str, tuple[str, ...]]:
  """The prompt without the opening that it was written with."""
  opening = _strings(row, 'opening', where)
  end = _BEFORE_OPENING + ''.join(opening) if opening else ''
  if not prompt.endswith(end):
    raise ValueError(
        f"{where}: the prompt does not end in its 'opening'; of a run's own"
        ' pairs give the file that tools.export_pairs writes'
    )
  return prompt.removesuffix(end), opening


def _strings(row: Row, field: str, where: str) -> tuple[str, ...]:
  values = row.get(field) or []
  if not isinstance(values, list) or any(
      not isinstance(value, str) for value in values
  ):
    raise ValueError(f'{where}: {field!r} must be a list of strings')
  return tuple(values)


def _known(row: Row, field: str, default: str, where: str) -> str:
  value = row.get(field, default)
  if not isinstance(value, str):
    raise ValueError(f'{where}: {field!r} must be a string, not {value!r}')
  return value


def _share(row: Row, where: str) -> float:
  value = row.get('vote_share', 1.0)
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise ValueError(f"{where}: 'vote_share' must be a number, not {value!r}")
  return float(value)


def _id(prompt: str) -> str:
  return 'prompt-' + hashlib.sha256(prompt.encode()).hexdigest()[:16]
