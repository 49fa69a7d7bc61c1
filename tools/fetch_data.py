"""Fetches the data sets that the readers in calm_jax/datasets read.

python -m tools.fetch_data                                   lists the sources
python -m tools.fetch_data --source=xcsqa --out=data/xcsqa

Every file is checked: by the checksum that the source publishes or --sha256
gives, else by the one that was seen at the first download and is kept in
MANIFEST.json. A download that broke off is resumed. Running this again checks
what is there and downloads nothing that is sound. Data keeps its own licence.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import fnmatch
import json
import os
import pathlib
import re
import shutil
import sys
from typing import Any
import urllib.parse
import zipfile

from calm_jax import console, records
from tools import data_sources, download

MANIFEST = 'MANIFEST.json'
HUB = 'https://huggingface.co'


def fetch(
    name: str,
    source: data_sources.Source,
    out: pathlib.Path,
    *,
    sha256: str = '',
) -> bool:
  """Makes `out` hold the source; False where it already did.

  Raises:
    ValueError: `out` is not ours to write, or what came is not the data.
    DownloadError: something could not be downloaded.
  """
  manifest = _manifest(out)
  if manifest and manifest['source'] != name:
    raise ValueError(f'{out} holds {manifest["source"]}: choose another --out')
  if manifest and is_complete(out, manifest):
    return False
  if not manifest and out.exists() and any(out.iterdir()):
    raise ValueError(
        f'{out} exists and this tool did not make it; remove it or choose'
        ' another --out'
    )
  work = out.parent / f'.{out.name}.fetch'
  tree = work / 'tree'
  shutil.rmtree(tree, ignore_errors=True)
  digests = {}
  for remote in _remotes(source, sha256, manifest):
    path = _inside(work, remote.name)
    digests[remote.name] = _download(remote, path)
    if source.members:
      unpack(path, tree, source.members)
    else:
      (tree / remote.name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copyfile(path, tree / remote.name)
  _install(tree, out, _described(name, source, digests))
  shutil.rmtree(work)
  return True


def is_complete(out: pathlib.Path, manifest: Mapping[str, Any]) -> bool:
  """Whether every file is there and as it was."""
  return all(
      (out / name).is_file() and download.sha256(out / name) == digest
      for name, digest in manifest['files'].items()
  )


def unpack(archive: pathlib.Path, tree: pathlib.Path, members: str) -> None:
  """Unpacks what is below the folder `members` of a zip file."""
  try:
    with zipfile.ZipFile(archive) as found:
      names = [n for n in found.namelist() if n.startswith(members)]
      wanted = [n for n in names if not n.endswith(('/', '.DS_Store'))]
      if not wanted:
        raise ValueError(f'{archive.name} has nothing below {members}')
      for name in wanted:
        target = _inside(tree, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with found.open(name) as source, target.open('wb') as f:
          shutil.copyfileobj(source, f, 1 << 20)
  except zipfile.BadZipFile as e:
    archive.unlink()
    raise ValueError(
        f'{archive.name} is no sound zip file ({e}) and was removed: run this'
        ' again'
    ) from e


def list_hub(source: data_sources.Source) -> list[download.Remote]:
  """The source's files on the Hub, with the checksums that it publishes."""
  hub = os.environ.get('HF_ENDPOINT', HUB).rstrip('/')
  revision = urllib.parse.quote(source.revision, safe='')
  url = f'{hub}/api/datasets/{source.repo}/tree/{revision}?recursive=true'
  entries = []
  while url:
    page, url = download.read_json(url)
    entries += page
  resolve = f'{hub}/datasets/{source.repo}/resolve/{revision}'
  remotes = [
      download.Remote(
          url=f'{resolve}/{urllib.parse.quote(entry["path"])}',
          name=entry['path'],
          # Large files are known by content, small ones by git's id of it.
          sha256=entry.get('lfs', {}).get('oid', ''),
          git='' if entry.get('lfs') else entry['oid'],
          size=entry['size'],
      )
      for entry in entries
      if entry['type'] == 'file'
      and any(fnmatch.fnmatch(entry['path'], p) for p in source.patterns)
  ]
  if not remotes:
    raise ValueError(
        f'{source.repo} at {source.revision} has no file like'
        f' {", ".join(source.patterns)} any more: see {source.home}'
    )
  return remotes


def _remotes(
    source: data_sources.Source, sha256: str, manifest: Mapping[str, Any]
) -> list[download.Remote]:
  """What to download, each with a checksum if any is known."""
  if source.url:
    name = source.url.rpartition('/')[2]
    remotes = [download.Remote(url=source.url, name=name)]
  else:
    remotes = list_hub(source)
  if sha256 and len(remotes) > 1:
    raise ValueError(f'--sha256 is of one file; this is {len(remotes)} files')
  seen = manifest.get('downloads', {})
  # The first download is trusted, and every later one must be the same.
  return [
      dataclasses.replace(r, sha256=sha256 or seen.get(r.name) or r.sha256)
      for r in remotes
  ]


def _download(remote: download.Remote, path: pathlib.Path) -> str:
  console.say(f'  {remote.url}')
  if remote.size is None:
    return download.download(remote, path)
  with console.progress(remote.name, remote.size) as bar:
    return download.download(remote, path, advance=bar.advance)


def _install(
    tree: pathlib.Path, out: pathlib.Path, described: Mapping[str, Any]
) -> None:
  """Moves the files into `out`; the manifest, first, says what is to come."""
  files = {
      path.relative_to(tree).as_posix(): download.sha256(path)
      for path in sorted(tree.rglob('*'))
      if path.is_file()
  }
  text = json.dumps({**described, 'files': files}, indent=2)
  records.write_text(out / MANIFEST, text + '\n')
  for name in files:
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    os.replace(tree / name, out / name)


def _described(
    name: str, source: data_sources.Source, digests: Mapping[str, str]
) -> dict[str, Any]:
  return {
      'source': name,
      'about': source.about,
      'licence': source.licence,
      'home': source.home,
      'from': source.url or f'{source.repo} at {source.revision}',
      'downloads': dict(digests),
  }


def _manifest(out: pathlib.Path) -> dict[str, Any]:
  """What is known of `out`, {} where nothing is."""
  path = out / MANIFEST
  if not path.is_file():
    return {}
  try:
    manifest = json.loads(path.read_text(encoding='utf-8'))
    _ = manifest['source'], manifest['downloads'], manifest['files'].items()
  except (ValueError, KeyError, TypeError, AttributeError) as e:
    raise ValueError(f'{path} is damaged ({e!r}): remove {out}') from e
  return manifest


def _inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """folder / name, which must not lead out of the folder."""
  parts = pathlib.PurePosixPath(name).parts
  if not parts or parts[0] == '/' or '..' in parts or re.search(r'[\\:]', name):
    raise ValueError(f'{name!r} leads out of the folder: refused')
  return folder / name


def _list() -> None:
  for name, source in data_sources.SOURCES.items():
    console.say(f'--source={name}: {source.about}')
    console.say(f'    {source.home}; licence: {source.licence}')
    console.say(f'    data.name: {source.readers}')


def main(argv: Sequence[str] | None = None) -> None:
  parser = _parser()
  args = parser.parse_args(argv)
  if args.source is None:
    _list()
    return
  if args.out is None:
    parser.error('--out is missing: the folder to write')
  source, out = data_sources.SOURCES[args.source], args.out
  console.say(f'{source.about}\n  {source.home}\n  licence: {source.licence}')
  try:
    made = fetch(args.source, source, out, sha256=args.sha256)
  except (OSError, RuntimeError, ValueError) as e:
    sys.exit(f'fetch_data: {e}')
  console.say(f'wrote {out}' if made else f'{out} is complete')
  console.say(
      f'Read it with --config.data.path={out} and --config.data.name one of'
      f' {source.readers}'
  )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  names = list(data_sources.SOURCES)
  parser.add_argument('--source', choices=names, help='none: lists them')
  parser.add_argument('--out', type=pathlib.Path, help='the folder to write')
  parser.add_argument('--sha256', default='', help='of a single file, if known')
  return parser


if __name__ == '__main__':
  main()
