"""Strictness for every test: warnings fail, ranks never promote silently."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

# Before jax is imported anywhere: four CPU devices for the mesh tests, and
# little optimisation, since most of a test's time is compilation.
os.environ.setdefault(
    'XLA_FLAGS',
    '--xla_force_host_platform_device_count=4'
    ' --xla_backend_optimization_level=0'
    ' --xla_llvm_disable_expensive_passes=true',
)
os.environ.setdefault('JAX_NUMPY_RANK_PROMOTION', 'raise')
os.environ.setdefault('HF_HUB_OFFLINE', '1')
# Tests, and the processes that they start, share what is compiled. A worker of
# pytest-xdist has it from the process that started it.
if 'PYTEST_XDIST_WORKER' not in os.environ:
  _COMPILED = tempfile.TemporaryDirectory(prefix='calm_jax_compiled_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _COMPILED.name
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='session')
def real_data() -> pathlib.Path:
  """The folder of real data beside a checkout, where there is one."""
  default = ROOT.parent / 'shared' / 'data'
  folder = pathlib.Path(os.environ.get('CALM_JAX_DATA', default))
  if not folder.is_dir():
    pytest.skip(f'the real data ({folder}) is not on this machine')
  return folder


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    '<|im_end|>\n{% endfor %}'
    '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
)


@pytest.fixture(scope='session')
def tiny_model(tmp_path_factory) -> pathlib.Path:
  """A random model and a tokenizer as a Hugging Face folder: read only."""
  import jax
  import jax.numpy as jnp

  from calm_jax.lm import decoder, weights

  tokenizer = _byte_tokenizer()
  cfg = decoder.DecoderConfig(
      vocab_size=tokenizer.get_vocab_size(),
      num_layers=2,
      model_dim=32,
      ffn_dim=64,
      num_heads=4,
      num_kv_heads=2,
      head_dim=8,
      norm_eps=1e-5,
      rope_theta=1e4,
      max_positions=2048,
  )
  params = decoder.init(cfg, jax.random.key(0), jnp.float32)
  # Larger than at initialisation, so that prompts matter.
  params = jax.tree.map(lambda w: 5 * w if w.ndim > 1 else w, params)
  folder = tmp_path_factory.mktemp('models') / 'tiny'
  weights.save(folder, cfg, params)
  tokenizer.save(str(folder / 'tokenizer.json'))
  settings = {
      'eos_token': '<|im_end|>',
      'pad_token': '<|endoftext|>',
      'chat_template': TEMPLATE,
  }
  (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  return folder


@pytest.fixture(scope='session')
def ending_model(tiny_model, tmp_path_factory) -> pathlib.Path:
  """The tiny model, but that some of its texts come to an end: read only."""
  from safetensors import numpy as safetensors

  folder = tmp_path_factory.mktemp('models') / 'ending'
  shutil.copytree(tiny_model, folder)
  path = folder / 'model.safetensors'
  weights = safetensors.load_file(path)
  weights['lm_head.weight'][-1] *= 3  # of the last token, <|im_end|>
  safetensors.save_file(weights, path)
  return folder


@pytest.fixture(scope='session')
def selfrag_model(tiny_model, tmp_path_factory) -> pathlib.Path:
  """The tiny model with Self-RAG's reflection tokens: read only."""
  from tools import add_reflection_tokens

  folder = tmp_path_factory.mktemp('models') / 'selfrag'
  add_reflection_tokens.add(tiny_model, folder, seed=0)
  return folder


class Joint:
  """Two processes that run the stages of tests/fakes/joint in `folder`."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    (folder / 'store').mkdir()
    model = folder / 'model'
    model.mkdir()
    for name in ('config.json', 'model.safetensors', 'tokenizer.json'):
      (model / name).touch()

  def start(self, what: str, *, limit: int = 4) -> list[subprocess.Popen]:
    """Both processes, the leader first; the store is empty."""
    for path in (self.folder / 'store').iterdir():
      path.unlink()
    paths = [str(ROOT / 'tests' / 'fakes'), str(ROOT)]
    call = f'joint.main({what!r}, {str(self.folder)!r}, {{}}, {limit})'
    return [
        subprocess.Popen(
            [sys.executable, '-c', f'import joint; {call.format(index)}'],
            env=os.environ | {'PYTHONPATH': os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]

  def end(self, processes) -> list[tuple[int, str, str]]:
    """The exit status, output and errors of each."""
    try:
      said = [process.communicate(timeout=240) for process in processes]
    finally:
      for process in processes:
        process.kill()
    return [
        (process.returncode, out, err)
        for process, (out, err) in zip(processes, said, strict=True)
    ]

  def run(self, what: str, *, limit: int = 4) -> list[tuple[int, str, str]]:
    return self.end(self.start(what, limit=limit))

  def logs(self) -> list[list[str]]:
    """What stages each process ran, ever."""
    paths = [self.folder / f'log{index}' for index in range(2)]
    return [p.read_text().split() if p.exists() else [] for p in paths]


@pytest.fixture
def joint(tmp_path) -> Joint:
  return Joint(tmp_path)


def _byte_tokenizer():
  """One id per byte, so that every text and every option letter has ids."""
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers

  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  built = tokenizers.Tokenizer(
      models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[])
  )
  built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  built.decoder = decoders.ByteLevel()
  built.add_special_tokens(['<|endoftext|>', '<|im_start|>', '<|im_end|>'])
  return built
