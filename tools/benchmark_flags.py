"""The flags of tools.benchmark, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags
from ml_collections import ConfigDict

from tools import benchmark_config as config
from tools import benchmark_llama_server as servers
from tools import benchmark_sides as others
from tools import benchmark_work as work

_DEFAULT_SHAPE = 'smollm2-135m'

JOB = flags.DEFINE_enum('job', 'sampling', ['sampling', 'training'], 'What.')
DEVICE = flags.DEFINE_enum('device', 'cpu', ['cpu', 'gpu'], 'Where.')
COMPARE = flags.DEFINE_enum(
    'compare', 'none', [*others.JOBS, 'none'], 'trl trains, the others sample.'
)
JSON = flags.DEFINE_string('json', None, 'File to write.')
SYSTEM = flags.DEFINE_string(
    'system', None, 'Which of the systems, of a --config that has several.'
)
MODEL = flags.DEFINE_string('model', None, 'Folder of a model, or its hub id.')
SHAPE = flags.DEFINE_string(
    'shape',
    None,
    'Random weights instead: llama3-8b, mistral-7b, llama2-7b, smollm2-135m'
    ' (where no model is given) or tiny.',
)
LENGTHS = flags.DEFINE_enum(
    'lengths', 'short', list(work.LENGTHS), 'Of prompts, answers and pairs.'
)
REQUESTS = flags.DEFINE_integer('requests', 96, 'Answers to draw.', 1)
PAIRS = flags.DEFINE_integer('pairs', 16, 'Preference pairs.', 1)
ROW_SHAPES = flags.DEFINE_integer(
    'row_shapes',
    6,
    'Lengths of rows that training compiles, as many as in a long run; fewer'
    ' are compiled sooner and pad more.',
    1,
)
_SLOTS = flags.DEFINE_list(
    'slots',
    None,
    'Answers drawn at a time, or auto; of several the best is found. Without'
    ' --config: 48.',
)
PEER_BATCHES = flags.DEFINE_list(
    'peer_batches',
    ['16', '48', '96'],
    'Batches of hf, or slots of llama_cpp, of which the best is found.',
)
PROBE_EVERY = flags.DEFINE_integer(
    'probe_every',
    1,
    'The best is found by a pass over every so manieth question on both sides.',
    1,
)
LLAMA_SERVER = flags.DEFINE_string(
    'llama_server', 'llama-server', "llama.cpp's server: a name or a path."
)
GGUF = flags.DEFINE_string('gguf', None, 'The model as llama_cpp reads it.')
REPEATS = flags.DEFINE_integer('repeats', 3, 'Measurements of each side.', 1)
THREADS = flags.DEFINE_integer(
    'threads', 1, 'Cores for each side, one side at a time; 0: all.', 0
)

# Those of a config, for which they take the place of its fields.
flags.DEFINE_enum(
    'dtype',
    None,
    ['float32', 'bfloat16'],
    'Of weights and activations. Without --config: float32.',
)
flags.DEFINE_integer('seed', None, 'Of weights, work and draws.')
flags.DEFINE_integer('samples', None, 'Answers to each prompt; else 3.')
flags.DEFINE_float('temperature', None, 'Of draws; 0: greedy; else 1.')
flags.DEFINE_float('top_p', None, 'Of draws; else 0.9.')
flags.DEFINE_integer('top_k', None, 'Of draws; 0: off, as it is else.')
flags.DEFINE_integer('max_new_tokens', None, 'The longest answer; else 128.')
flags.DEFINE_integer('lora_rank', None, 'Of the adapter; else 8.')
flags.DEFINE_float('lora_alpha', None, 'Of the adapter; else 16.')
flags.DEFINE_list('lora_targets', None, 'Projections; else q_proj,v_proj.')
flags.DEFINE_integer('batch', None, 'Pairs of a device in a pass; else 1.')
flags.DEFINE_integer('accumulation', None, 'Passes in a step; else 1.')
flags.DEFINE_integer(
    'length_window', None, 'Steps that share pairs by length; else 1.'
)
flags.DEFINE_enum(
    'layout',
    None,
    ['auto', 'shared', 'apart'],
    'One sequence for a pair, or two; else auto.',
)
flags.DEFINE_enum(
    'remat',
    None,
    ['none', 'full', 'auto'],
    'Whether layers are computed twice; else none.',
)
flags.DEFINE_list('mesh', None, 'Devices: data,fsdp,tensor; else 1,1,1.')


def settings() -> ConfigDict:
  """The settings of this benchmark; its other flags are checked too.

  Raises:
    app.UsageError: something does not fit, or is not installed.
  """
  try:
    cfg = config.resolve(_config(), SYSTEM.value, _given())
    found = _misfits(cfg)
    lengths = work.LENGTHS[LENGTHS.value]
    found += config.problems(
        cfg, job=JOB.value, compare=COMPARE.value, lengths=lengths
    )
    if JOB.value == 'sampling':
      found += _too_few(cfg)
    elif PAIRS.value % (cfg.train.batch_size * cfg.train.accumulation):
      found.append(
          f'--pairs={PAIRS.value}: --batch times --accumulation must divide it'
      )
    if not found:
      others.check_installed(COMPARE.value)
    if COMPARE.value == 'llama_cpp' and not found:
      servers.find(LLAMA_SERVER.value)
      servers.check_gguf(GGUF.value or '')
  except ValueError as e:
    found = [str(e)]
  if found:
    raise app.UsageError('; '.join(found))
  return cfg


def shape(cfg: ConfigDict) -> str | None:
  """Whose dimensions the random weights have; None: there is a model."""
  return SHAPE.value or (None if cfg.model else _DEFAULT_SHAPE)


def slots() -> list[int]:
  """Those to choose from; none where it is said how many."""
  asked = _SLOTS.value or []
  return _numbers('slots', asked) if len(asked) > 1 else []


def peer_batches() -> list[int]:
  """Those that the other side chooses from."""
  return _numbers('peer_batches', PEER_BATCHES.value)


def sizes(tried: Sequence[int]) -> others.Sizes:
  """How a side's best number is found; on a CPU others may disturb."""
  by_clock = DEVICE.value == 'gpu'
  return others.Sizes(tried, PROBE_EVERY.value, by_clock)


def _config() -> ConfigDict | None:
  # Only the tool itself has this flag: calm_jax.main has one of its name.
  return flags.FLAGS.config if 'config' in flags.FLAGS else None


def _given() -> dict[str, object]:
  """The fields that flags have set."""
  values = {name: flags.FLAGS[name].value for name in config.FIELDS}
  given = {name: value for name, value in values.items() if value is not None}
  if SHAPE.value:
    given['model'] = ''
  if (targets := given.get('lora_targets')) is not None:
    given['lora_targets'] = tuple(targets)
  if (mesh := given.get('mesh')) is not None:
    given['mesh'] = _numbers('mesh', mesh)
    if len(mesh) != 3:
      raise ValueError(f'--mesh={",".join(mesh)}: must be data,fsdp,tensor')
  if (asked := given.pop('slots', None)) is not None:
    auto = asked == ['auto']
    # Of several the best takes its place.
    given['slots'] = 'auto' if auto else min(_numbers('slots', asked))
  return given


def _misfits(cfg: ConfigDict) -> list[str]:
  """Flags that exclude each other, or need another one."""
  found = []
  if MODEL.value and SHAPE.value:
    found.append('give either --model or --shape')
  fits = others.JOBS.get(COMPARE.value, JOB.value)
  if JOB.value != fits:
    found.append(f'--compare={COMPARE.value} needs --job={fits}')
  if COMPARE.value == 'llama_cpp' and (
      shape(cfg) or not GGUF.value or DEVICE.value != 'cpu'
  ):
    found.append(
        '--compare=llama_cpp needs --model, --gguf (the same weights for'
        ' llama.cpp) and --device=cpu'
    )
  return found


def _too_few(cfg: ConfigDict) -> list[str]:
  """Numbers of slots or batches that a probe would not fill."""
  samples = cfg.sample.m
  questions = -(-REQUESTS.value // samples)
  answers = -(-questions // PROBE_EVERY.value) * samples
  sizes = {'slots': slots()}
  if COMPARE.value in ('hf', 'llama_cpp') and len(peer_batches()) > 1:
    sizes['peer_batches'] = peer_batches()
  return [
      f'--{name}={max(found)}: a probe of {answers} answers does not fill it;'
      ' lower it or --probe_every, or raise --requests'
      for name, found in sizes.items()
      if found and max(found) > answers and PROBE_EVERY.value > 1
  ]


def _numbers(name: str, texts: Sequence[str]) -> list[int]:
  try:
    return [int(text) for text in texts]
  except ValueError as e:
    raise ValueError(
        f'--{name}={",".join(texts)}: must be whole numbers'
    ) from e
