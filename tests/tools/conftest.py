"""A tiny model in GGUF, as llama.cpp would write it; a web server that lies."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import pathlib
import threading
from typing import Any
import urllib.parse

import numpy as np
import pytest
from tokenizers import pre_tokenizers

HEADS, KV_HEADS, DIM, FFN = 4, 2, 32, 64
SPECIALS = ('<|endoftext|>', '<|im_start|>', '<|im_end|>')


@dataclasses.dataclass(frozen=True)
class TinyGguf:
  """The file, and the weights that it was made from, by Hugging Face name."""

  path: pathlib.Path
  tensors: dict[str, np.ndarray]
  vocabulary: list[str]


def _interleaved(rows, heads):
  """llama.cpp's order: the two halves of a rotary head become pairs."""
  halves = rows.reshape(heads, 2, -1, rows.shape[1])
  return halves.swapaxes(1, 2).reshape(rows.shape)


def _tensors(arch):
  rng = np.random.default_rng(0)
  head_dim = DIM // HEADS
  shapes = {
      'self_attn.q_proj.weight': ('attn_q.weight', (DIM, DIM)),
      'self_attn.k_proj.weight': ('attn_k.weight', (KV_HEADS * head_dim, DIM)),
      'self_attn.v_proj.weight': ('attn_v.weight', (KV_HEADS * head_dim, DIM)),
      'self_attn.o_proj.weight': ('attn_output.weight', (DIM, DIM)),
      'mlp.gate_proj.weight': ('ffn_gate.weight', (FFN, DIM)),
      'mlp.up_proj.weight': ('ffn_up.weight', (FFN, DIM)),
      'mlp.down_proj.weight': ('ffn_down.weight', (DIM, FFN)),
      'input_layernorm.weight': ('attn_norm.weight', (DIM,)),
      'post_attention_layernorm.weight': ('ffn_norm.weight', (DIM,)),
  }
  if arch == 'qwen2':
    shapes |= {
        'self_attn.q_proj.bias': ('attn_q.bias', (DIM,)),
        'self_attn.k_proj.bias': ('attn_k.bias', (KV_HEADS * head_dim,)),
        'self_attn.v_proj.bias': ('attn_v.bias', (KV_HEADS * head_dim,)),
    }
  for theirs, (name, shape) in shapes.items():
    array = rng.standard_normal(shape).astype(np.float32)
    yield f'model.layers.0.{theirs}', f'blk.0.{name}', array


def _write(path, arch='llama', pre='smollm', extra=(), quantised=''):
  import gguf

  vocabulary = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
  vocabulary += ['he', 'Ġt', 'Ġthe', '12']
  writer = gguf.GGUFWriter(path, arch)
  writer.add_block_count(1)
  writer.add_context_length(512)
  writer.add_embedding_length(DIM)
  writer.add_feed_forward_length(FFN)
  writer.add_head_count(HEADS)
  writer.add_head_count_kv(KV_HEADS)
  writer.add_rope_freq_base(100000.0)
  writer.add_layer_norm_rms_eps(1e-5)
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre(pre)
  writer.add_token_list(vocabulary)
  writer.add_token_types([3] * len(SPECIALS) + [1] * (len(vocabulary) - 3))
  writer.add_token_merges(['h e', 'Ġ t', 'Ġt he', '1 2'])
  writer.add_unk_token_id(0)
  writer.add_bos_token_id(1)
  writer.add_eos_token_id(2)
  writer.add_pad_token_id(2)
  writer.add_chat_template('{{ messages[0].content }}')
  rng = np.random.default_rng(1)
  embed = rng.standard_normal((len(vocabulary), DIM)).astype(np.float32)
  tensors = {'model.embed_tokens.weight': embed}
  writer.add_tensor('token_embd.weight', embed)
  tensors['model.norm.weight'] = np.full(DIM, 0.5, np.float32)
  writer.add_tensor('output_norm.weight', tensors['model.norm.weight'])
  for theirs, name, array in _tensors(arch):
    tensors[theirs] = array
    heads = {'blk.0.attn_q.weight': HEADS, 'blk.0.attn_k.weight': KV_HEADS}
    if arch == 'llama' and name in heads:
      array = _interleaved(array, heads[name])
    array, kind = np.ascontiguousarray(array), None
    if name == quantised:
      kind = gguf.GGMLQuantizationType.Q8_0
      array = gguf.quants.quantize(array, kind)
    writer.add_tensor(name, array, raw_dtype=kind)
  for name in extra:
    writer.add_tensor(name, np.ones(4, np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return TinyGguf(path, tensors, vocabulary)


@pytest.fixture
def write_gguf():
  """A function that writes the file: (path, arch, pre, extra, quantised)."""
  pytest.importorskip('gguf', reason='needs the extra test or demo')
  return _write


class Site:
  """`files` by path; each item of `script` spoils one request, in order.

  An item is a status, or: 'cut' (the body stops half-way), 'whole' (the range
  is ignored), 'shifted' (another range), 'page' (a web page), a URL to redirect
  to. `log` has the path and Range of each request.
  """

  def __init__(self, url: str):
    self.url = url
    self.files: dict[str, bytes] = {}
    self.script: list[Any] = []
    self.headers: dict[str, str] = {}
    self.log: list[tuple[str, str | None]] = []
    self.validators = True


def _tag(body):
  return f'"{hashlib.sha256(body).hexdigest()[:8]}"'


class _Handler(http.server.BaseHTTPRequestHandler):
  site: Site

  def do_GET(self):
    site = self.site
    path = urllib.parse.unquote(self.path)
    asked = self.headers.get('Range')
    site.log.append((path, asked))
    step = site.script.pop(0) if site.script else 'sound'
    body = site.files.get(path.partition('?')[0])
    if isinstance(step, int):
      return self._answer(step, b'')
    if step == 'page':
      return self._answer(200, b'<html>', {'Content-Type': 'text/html'})
    if step.startswith('http'):
      return self._answer(302, b'', {'Location': step})
    if body is None:
      return self._answer(404, b'')
    self._send(body, asked, step)

  def _send(self, body, asked, step):
    start = int(asked.split('=')[1].strip('-')) if asked else 0
    same = self.headers.get('If-Range') in (None, _tag(body))
    headers = {'ETag': _tag(body)} if self.site.validators else {}
    if start and step != 'whole' and same:
      if start >= len(body):
        headers['Content-Range'] = f'bytes */{len(body)}'
        return self._answer(416, b'', headers)
      first = start + 1 if step == 'shifted' else start
      headers['Content-Range'] = f'bytes {first}-{len(body) - 1}/{len(body)}'
      return self._answer(206, body[first:], headers, cut=step == 'cut')
    self._answer(200, body, headers, cut=step == 'cut')

  def _answer(self, status, body, headers=None, *, cut=False):
    self.send_response(status)
    for name, value in (self.site.headers | (headers or {})).items():
      self.send_header(name, value)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body[: len(body) // 2] if cut else body)

  def log_message(self, format, *args):
    pass


@pytest.fixture
def site(monkeypatch):
  """A running Site; a wait between attempts takes no time."""
  monkeypatch.setattr('time.sleep', lambda seconds: None)
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  handler = type('Handler', (_Handler,), {})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  handler.site = Site(f'http://127.0.0.1:{server.server_port}')
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  yield handler.site
  server.shutdown()
  thread.join()
  server.server_close()
