"""Data sets on the Hugging Face Hub, as folders like those on this machine.

`hub:OWNER/NAME`, or `hub:OWNER/NAME@REVISION`, stands for the files of rows
that a repository holds. Nothing else of it is fetched, and no code of it run.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import pathlib
import re

_NAMED = re.compile(r'hub:([\w-][\w.-]*/[\w-][\w.-]*)(?:@(\S+))?')
# Where the Hub keeps what it has converted, as of repositories of scripts.
_TABLES = 'refs/convert/parquet'
_KINDS = ('*.parquet', '*.jsonl', '*.json')
# What tells of a data set, and has no rows.
_ABOUT = ('dataset_infos.json', 'dataset_info.json')


def is_named(path: str) -> bool:
  """Whether a path means the Hub."""
  return path.startswith('hub:')


def problem(path: str) -> str | None:
  """What is wrong with how a path names a data set, if it means the Hub."""
  if not is_named(path) or _NAMED.fullmatch(path):
    return None
  return (
      'names no data set of the Hub: write hub:OWNER/NAME, or'
      ' hub:OWNER/NAME@REVISION with a branch, tag or commit'
  )


def folder(path: str) -> pathlib.Path:
  """The folder of a path, downloaded if the Hub is meant.

  Raises:
    ValueError: the data set cannot be had, why, and what to do.
  """
  if not is_named(path):
    return pathlib.Path(path)
  found = _fetched(path)
  if isinstance(found, str):
    raise ValueError(found)
  return found


def identity(path: str) -> str:
  """The repository and the commit of it that `folder` is."""
  name = path.removeprefix('hub:').partition('@')[0]
  return f'{name} at {folder(path).name}'


# A run asks several times: a branch must not move, or a time-out be waited
# for, in between.
@functools.cache
def _fetched(path: str) -> pathlib.Path | str:
  """The folder, or why there is none."""
  named = _NAMED.fullmatch(path)
  if named is None:
    return f'{path!r} {problem(path)}'
  name, revision = named.groups()
  return _first_with_rows(name, (revision,) if revision else ('main', _TABLES))


def _first_with_rows(name: str, revisions: Sequence[str]) -> pathlib.Path | str:
  """The folder of the first revision that has rows; else what is wrong.

  One that cannot be had is not passed over: it may be there the next time.
  """
  without = ''
  for revision in revisions:
    found = _download(name, revision)
    if isinstance(found, str):
      return without + found
    files = (file for kind in _KINDS for file in found.rglob(kind))
    if any(file.name not in _ABOUT for file in files):
      return found
    without += (
        f'{name} at {revision} has no file of rows like {", ".join(_KINDS)}; '
    )
  return without.removesuffix('; ')


def _download(name: str, revision: str) -> pathlib.Path | str:
  # Late: it takes a while to import, and a local folder needs none of it.
  import huggingface_hub
  from huggingface_hub import errors

  try:
    found = huggingface_hub.snapshot_download(
        name,
        repo_type='dataset',
        revision=revision,
        allow_patterns=list(_KINDS),
    )
  except errors.HFValidationError as e:
    return f'{name!r} cannot be the name of a data set on the Hub: {e}'
  except errors.GatedRepoError:
    return (
        f'{name} asks for its terms to be accepted on its page of the Hub; then'
        ' log in here with `hf auth login`'
    )
  except errors.RevisionNotFoundError:
    return f'{name} has no revision {revision!r} on the Hub'
  except errors.RepositoryNotFoundError:
    return (
        f'there is no data set {name} on the Hub (or it is private:'
        ' `hf auth login`); check the name'
    )
  except (
      errors.LocalEntryNotFoundError,
      errors.HfHubHTTPError,
      ConnectionError,
  ) as e:
    return (
        f'{name} at {revision} was not downloaded before, and the Hub cannot be'
        f' reached ({type(e).__name__}; is HF_HUB_OFFLINE set?). Where there is'
        ' a network `python -m tools.fetch_data` makes a folder of it to copy'
        ' here: name that'
    )
  # The client's transport has errors of its own, by the client's version.
  except Exception as e:
    return f'{name} at {revision} was not downloaded: {type(e).__name__}: {e}'
  return pathlib.Path(found)
