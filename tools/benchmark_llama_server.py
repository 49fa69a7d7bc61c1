"""llama.cpp's server as a process that is started, asked and stopped."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Any

from tools import benchmark_work as work

_HOST = '127.0.0.1'
_START_SECONDS, _ANSWER_SECONDS = 120.0, 1800.0
_HOW = (
    "build llama.cpp's targets llama-server and llama-quantize (its sources are"
    ' also in the sdist of llama-cpp-python), and name the file in'
    ' --llama_server or put it on PATH'
)
_HOW_GGUF = (
    'make one of the same weights: llama-quantize --allow-requantize'
    ' MODEL.gguf MODEL-BF16.gguf BF16'
)


class Server:
  """A running llama-server."""

  def __init__(self, pid: int, port: int, slots: int):
    self.pid, self.slots, self._port = pid, slots, port

  def check(self, peer: work.Peer) -> str:
    """The server's version; ValueError where it holds another model."""
    (model,) = self.ask('GET', '/v1/models')['data']
    meta = model['meta']
    vocab_size = peer.config['vocab_size']
    if meta['n_vocab'] != vocab_size:
      raise ValueError(
          f'--gguf has a vocabulary of {meta["n_vocab"]}, the model one of'
          f' {vocab_size}: it must have the same weights'
      )
    wanted = {'float32': 4, 'bfloat16': 2}[peer.dtype]
    bytes_each = meta['size'] / meta['n_params']
    # Norms stay in float32.
    if not 0.95 * wanted < bytes_each < 1.05 * wanted:
      raise ValueError(
          f'--gguf has {bytes_each:.2f} bytes for each weight,'
          f' --dtype={peer.dtype} means {wanted}; {_HOW_GGUF}'
      )
    return self.ask('GET', '/props')['build_info']

  def ask(self, method: str, path: str, body: Any = None) -> Any:
    """The JSON that it answers; ValueError with its words on an error."""
    # Not urllib, which would go through a proxy.
    connection = http.client.HTTPConnection(
        _HOST, self._port, timeout=_ANSWER_SECONDS
    )
    with contextlib.closing(connection):
      text = None if body is None else json.dumps(body)
      connection.request(
          method, path, text, {'Content-Type': 'application/json'}
      )
      response = connection.getresponse()
      found = response.read()
    if response.status != http.client.OK:
      raise ValueError(
          f'llama.cpp says {response.status} to {path}:'
          f' {found[:500].decode(errors="replace")}'
      )
    return json.loads(found)


def find(program: str) -> str:
  """The path of llama-server; ValueError where there is none."""
  found = shutil.which(program)
  if found is None:
    raise ValueError(f'--llama_server={program} is not there: {_HOW}')
  return found


def check_gguf(path: str) -> str:
  """The same path; ValueError where there is no file."""
  if not pathlib.Path(path).is_file():
    raise ValueError(f'--gguf={path} is not a file: {_HOW_GGUF}')
  return path


def cpu_seconds(pid: int) -> float:
  """Of all threads of a process, in user and system mode, on Linux."""
  text = pathlib.Path(f'/proc/{pid}/stat').read_text()
  # The name in brackets may have spaces.
  fields = text.rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


@contextlib.contextmanager
def serve(
    program: str,
    gguf: str,
    *,
    slots: int,
    context: int,
    threads: int,
) -> Iterator[Server]:
  """Starts a server and stops it; ValueError with its words if it cannot."""
  port = _free_port()
  command = [program, '--model', gguf, '--host', _HOST]
  command += ['--port', str(port), '--parallel', str(slots)]
  command += ['--ctx-size', str(slots * context), '--no-webui', '--offline']
  if threads:
    command += ['--threads', str(threads), '--threads-batch', str(threads)]
  with tempfile.TemporaryFile() as log:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
      _wait(process, port, log)
      yield Server(process.pid, port, slots)
    finally:
      process.terminate()
      process.wait()


def _free_port() -> int:
  with socket.create_server((_HOST, 0)) as taken:
    return taken.getsockname()[1]


def _wait(process: subprocess.Popen, port: int, log) -> None:
  """Until the model is loaded."""
  deadline = time.monotonic() + _START_SECONDS
  while process.poll() is None and time.monotonic() < deadline:
    with contextlib.suppress(OSError, http.client.HTTPException):
      connection = http.client.HTTPConnection(_HOST, port, timeout=5)
      connection.request('GET', '/health')
      if connection.getresponse().status == http.client.OK:
        return
    time.sleep(0.1)
  log.seek(0)
  words = log.read()[-1000:].decode(errors='replace')
  raise ValueError(f'llama-server did not start: {words}')
