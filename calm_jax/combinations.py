"""What settings may be together."""

from __future__ import annotations

from collections.abc import Callable
import json
import pathlib


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


def _slots(m: int, slots: int | str) -> str | None:
  if isinstance(slots, int) and m > slots:
    return (
        f'config.sample.slots = {slots} does not hold all config.sample.m ='
        f' {m} answers to a question, which are drawn together: raise slots'
    )
  return None


def _paper_shots(style: str, shots: int) -> str | None:
  if style == 'paper' and shots:
    return (
        f'config.prompt.shots = {shots}, but config.prompt.style=paper has no'
        ' worked examples: set shots to 0, or style to default'
    )
  return None


def _paper(style: str, parser: str, langs: tuple[str, ...]) -> str | None:
  if 'es' in langs and (style == 'paper' or parser == 'authors'):
    return (
        'config.prompt.style=paper and config.vote.parser=authors know no'
        ' Spanish: leave es out of config.languages, or use default'
    )
  return None


def _paper_medqa(style: str, name: str, langs: tuple[str, ...]) -> str | None:
  others = [lang for lang in langs if lang not in ('en', 'zh', 'fr')]
  if style != 'paper' or not name.startswith('medqa') or not others:
    return None
  return (
      'config.prompt.style=paper knows MEDQA in en, zh and fr: leave'
      f' {", ".join(others)} out of config.languages, or use default'
  )


def _english(
    positives: str,
    gold: str,
    langs: tuple[str, ...],
    sampled: tuple[str, ...],
) -> str | None:
  langs = sampled or langs
  if 'en' in langs or (positives != 'english' and gold != 'released'):
    return None
  return (
      'config.pair.positives=english and config.pair.gold=released choose an'
      ' English answer: add en to config.languages, and to'
      ' config.sample.languages where that is set'
  )


def _sampled(sampled: tuple[str, ...], langs: tuple[str, ...]) -> str | None:
  if others := [lang for lang in sampled if lang not in langs]:
    return (
        f'config.sample.languages has {", ".join(others)}, which'
        f' config.languages ({", ".join(langs)}) lacks: add them there'
    )
  return None


def _start(method: str, reference: str, adapter: str) -> str | None:
  if reference == 'base' or (method == 'dpo' and adapter):
    return None
  return (
      'config.train.reference=start is the adapter that config.adapter names,'
      ' for config.train.method=dpo: leave it at base'
  )


def _same_lora(
    adapter: str, method: str, rank: int, alpha: float, targets: tuple[str, ...]
) -> str | None:
  """An adapter is trained on as it is: its shape cannot change."""
  if not adapter or adapter.startswith('@') or method == 'none':
    return None
  path = pathlib.Path(adapter) / 'adapter_config.json'
  try:
    found = json.loads(path.read_text('utf-8'))
    names = {str(name).rpartition('.')[2] for name in found['target_modules']}
    has = int(found['r']), float(found['lora_alpha']), names
  except (OSError, ValueError, KeyError, TypeError) as e:
    return f'config.adapter: {path} is damaged: {e!r}'
  if has == (rank, alpha, set(targets)):
    return None
  return (
      f'config.adapter is trained on, and has rank {has[0]}, alpha {has[1]:g}'
      f' and the targets {", ".join(sorted(names))}: set config.lora.rank,'
      ' config.lora.alpha and config.lora.targets to the same'
  )


def _untrained(method: str, split: str, before: bool, file: str) -> str | None:
  if method != 'none':
    if split or file:
      return None
    return (
        'config.data.train_split is empty, which leaves nothing to train on:'
        ' name a split, or set config.train.method=none'
    )
  if not before:
    return (
        'config.train.method=none and config.evaluate.before=False leave'
        ' nothing to evaluate: change one of them'
    )
  if file:
    return 'config.pair.file has no use with config.train.method=none: empty it'
  return None


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


def _nothing_to_show(backend: str, top_k: int, noise: int) -> str | None:
  if backend == 'none' or top_k or noise:
    return None
  return (
      'config.retrieve.top_k and config.retrieve.noise are 0, which leaves'
      ' nothing to show: raise one, or set config.retrieve.backend=none'
  )


def _selfrag(mode: str, backend: str) -> str | None:
  if mode in ('off', 'never') or backend != 'none':
    return None
  return (
      f'config.selfrag.mode = {mode!r} needs passages: set'
      ' config.retrieve.backend=lancedb, or config.selfrag.mode to never'
  )


def _kept_tokens(mode: str, keep: bool, rebuild: bool) -> str | None:
  if mode == 'off' or not (keep and rebuild):
    return None
  return (
      'config.selfrag.keep_tokens and config.pair.rebuild: rebuilding words an'
      ' answer anew and would lose where its reflection tokens stood; set one'
      ' to False'
  )


def _translated_tokens(mode: str, keep: bool, backend: str) -> str | None:
  if mode == 'off' or not keep or backend == 'none':
    return None
  return (
      'config.selfrag.keep_tokens and config.translate.backend ='
      f' {backend!r}: a translator would lose the reflection tokens of chosen'
      ' answers, or change them; set keep_tokens=False or the backend to none'
  )


def _monitor(
    count: int,
    metric: str,
    file: str,
    sampled: tuple[str, ...],
    langs: tuple[str, ...],
) -> str | None:
  if not count and metric != 'loss':
    return (
        f'config.train.monitor_metric = {metric!r} is measured on held-out'
        ' questions: set config.train.monitor to how many, or the metric to'
        ' loss'
    )
  if count and file:
    return (
        'config.train.monitor asks questions that were voted on, and a run with'
        ' config.pair.file has no votes: set it to 0'
    )
  if metric == 'consistency' and len(sampled or langs) < 2:
    return (
        'config.train.monitor_metric=consistency needs two languages that'
        ' vote: use agreement, or add a language'
    )
  return None


def _patience(patience: int, metric: str, val_size: float) -> str | None:
  if not patience or metric != 'loss' or val_size:
    return None
  return (
      f'config.train.patience = {patience} waits for a better validation, and'
      ' config.pair.val_size = 0 leaves nothing to validate on: raise it, or'
      ' set patience to 0'
  )


TOGETHER: tuple[tuple[tuple[str, ...], Callable[..., str | None]], ...] = (
    (('mesh.data', 'mesh.fsdp', 'mesh.tensor'), _mesh),
    (('sample.m', 'sample.temperature'), _copies),
    (('sample.m', 'sample.slots'), _slots),
    (('prompt.style', 'prompt.shots'), _paper_shots),
    (('prompt.style', 'vote.parser', 'languages'), _paper),
    (('prompt.style', 'data.name', 'languages'), _paper_medqa),
    (
        ('pair.positives', 'pair.gold', 'languages', 'sample.languages'),
        _english,
    ),
    (('sample.languages', 'languages'), _sampled),
    (('train.method', 'train.reference', 'adapter'), _start),
    (
        (
            'adapter',
            'train.method',
            'lora.rank',
            'lora.alpha',
            'lora.targets',
        ),
        _same_lora,
    ),
    (
        (
            'train.method',
            'data.train_split',
            'evaluate.before',
            'pair.file',
        ),
        _untrained,
    ),
    (('train.method', 'train.loss', 'train.label_smoothing'), _smoothing),
    (('train.method', 'train.loss', 'train.sft_weight'), _pair_losses),
    (
        (
            'train.monitor',
            'train.monitor_metric',
            'pair.file',
            'sample.languages',
            'languages',
        ),
        _monitor,
    ),
    (
        (
            'train.patience',
            'train.monitor_metric',
            'pair.val_size',
        ),
        _patience,
    ),
    (
        ('retrieve.backend', 'retrieve.top_k', 'retrieve.noise'),
        _nothing_to_show,
    ),
    (('selfrag.mode', 'retrieve.backend'), _selfrag),
    (('selfrag.mode', 'selfrag.keep_tokens', 'pair.rebuild'), _kept_tokens),
    (
        ('selfrag.mode', 'selfrag.keep_tokens', 'translate.backend'),
        _translated_tokens,
    ),
)
