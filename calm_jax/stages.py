"""What each stage depends on: its upstream, its settings and its files."""

from __future__ import annotations

import pathlib

from ml_collections import ConfigDict

from calm_jax import guard, ledger, settings, translators
from calm_jax.datasets import demo, hub, textbooks


def _data(cfg: ConfigDict) -> dict[str, str]:
  """The raw data by content, as a moved folder is the same; a hub's commit."""
  if hub.is_named(cfg.data.path):
    return {'data': hub.identity(cfg.data.path)}
  if cfg.data.path:
    return {'data': ledger.digest(pathlib.Path(cfg.data.path))}
  folders = {lang: demo.FOLDER / lang for lang in cfg.languages}
  return {
      f'data of {lang}': ledger.digest(folder)
      for lang, folder in folders.items()
      if folder.is_dir()
  }


def _model(cfg: ConfigDict) -> dict[str, str]:
  """A folder by content; a model on the hub by name, as asking it is slow."""
  folder = pathlib.Path(cfg.model)
  if not folder.is_dir():
    return {'model': f'{cfg.model} at {cfg.revision}'}
  # Late: --help and a look at a finished run need no numpy.
  from calm_jax.lm import hub as models

  try:
    return {'model': models.identity(folder)}
  except ValueError as e:
    raise guard.Refusal(f'config.model = {cfg.model!r}: {e}') from e


def _start(cfg: ConfigDict) -> dict[str, str]:
  """The model, and by content the adapter that it starts with."""
  if not cfg.adapter:
    return _model(cfg)
  folder = pathlib.Path(cfg.adapter)
  found = ledger.digest(folder) if folder.is_dir() else cfg.adapter
  return _model(cfg) | {'adapter': found}


# What answers to held-out questions depend on.
_ASKED = (
    'prompt.style',
    'prompt.shots',
    'sample.answer',
    'sample.slots',
    'evaluate.max_new_tokens',
)


def _training(cfg: ConfigDict) -> dict[str, str]:
  """What training starts with, and what it asks where it is monitored."""
  found = _start(cfg)
  if cfg.train.monitor:
    flat = settings.flatten(cfg)
    asked = [name for name in flat if name.startswith('selfrag.')]
    found |= {name: str(flat[name]) for name in (*_ASKED, *asked)}
  return found


# Readers that keep no question which lacks a language that is asked for.
_PARALLEL = ('demo', 'xcsqa')


def _translator(cfg: ConfigDict) -> dict[str, str]:
  name = cfg.translate.backend
  depends = translators.backend(name).depends(cfg)
  return (_model(cfg) if name == 'model' else {}) | depends


def _question_translator(cfg: ConfigDict) -> dict[str, str]:
  """Nothing where no question lacks a language: samples outlive a backend."""
  if cfg.data.name in _PARALLEL:
    return {}
  return {'translate.backend': cfg.translate.backend} | _translator(cfg)


def _corpus(cfg: ConfigDict) -> dict[str, str]:
  """The corpus by content, and an encoder's folder."""
  corpus = pathlib.Path(cfg.retrieve.corpus or textbooks.BUNDLED)
  found = {'corpus': ledger.digest(corpus)}
  if cfg.retrieve.model:
    folder = pathlib.Path(cfg.retrieve.model)
    found['encoder'] = ledger.digest(folder) if folder.is_dir() else str(folder)
  return found


def _pairs(cfg: ConfigDict) -> dict[str, str]:
  """The user's own file, or the translator that words the votes' pairs."""
  if cfg.pair.file:
    return {'pair.file': ledger.digest(pathlib.Path(cfg.pair.file))}
  return {'translate.backend': cfg.translate.backend} | _translator(cfg)


def _always(cfg: ConfigDict) -> bool:
  del cfg
  return True


def _no_retrieval(cfg: ConfigDict) -> bool:
  return cfg.retrieve.backend == 'none'


def _untrained(cfg: ConfigDict) -> bool:
  return cfg.train.method == 'none'


def _no_votes(cfg: ConfigDict) -> bool:
  return bool(cfg.pair.file) or _untrained(cfg)


# What a stage's `needs` depend on is in their fingerprints, and not repeated;
# but an idle stage has none, so that align and evaluate name the model as
# sample does.
# Sampling reads the mesh, but where it computes changes no sample; training has
# a batch per device.
STAGES = (
    ledger.Stage(
        'read',
        'raw data to questions',
        needs=(),
        fields=(
            'data.name',
            'data.train_split',
            'data.test_split',
            'data.train_limit',
            'data.test_limit',
            'languages',
            'limit',
        ),
        inputs=_data,
    ),
    ledger.Stage(
        'translate',
        'questions into every language',
        needs=('read',),
        fields=('languages',),
        inputs=_question_translator,
    ),
    ledger.Stage(
        'retrieve',
        'passages that may help, for prompts that show some',
        needs=('translate',),
        fields=(
            'seed',
            'retrieve.backend',
            'retrieve.format',
            'retrieve.encoder',
            'retrieve.pooling',
            'retrieve.max_tokens',
            'retrieve.query_prefix',
            'retrieve.passage_prefix',
            'retrieve.top_k',
            'retrieve.mode',
            'retrieve.query',
            'retrieve.noise',
            'retrieve.noise_kind',
        ),
        inputs=_corpus,
        idle=_no_retrieval,
    ),
    ledger.Stage(
        'sample',
        'several answers to every question in every language',
        needs=('translate', 'retrieve'),
        fields=('dtype', 'seed', 'prompt', 'sample', 'selfrag'),
        inputs=_start,
        on_devices=_always,
        idle=_no_votes,
    ),
    ledger.Stage(
        'vote',
        'the most self-consistent answer to every question',
        needs=('translate', 'sample'),
        fields=('vote',),
        idle=_no_votes,
    ),
    ledger.Stage(
        'pair',
        'chosen and rejected answers, or targets to imitate',
        needs=('translate', 'retrieve', 'sample', 'vote'),
        fields=(
            'seed',
            'pair.positives',
            'pair.gold',
            'pair.cap',
            'pair.min_share',
            'pair.min_margin',
            'pair.rebuild',
            'pair.val_size',
            'train.method',
        ),
        inputs=_pairs,
        idle=_untrained,
    ),
    ledger.Stage(
        'align',
        'a LoRA adapter that prefers the chosen answers',
        needs=('pair',),
        fields=(
            'dtype',
            'mesh',
            'lora',
            'train',
            'prompt.template',
            'selfrag.mode',
            'selfrag.keep_tokens',
        ),
        inputs=_training,
        on_devices=_always,
        idle=_untrained,
    ),
    ledger.Stage(
        'evaluate',
        'answers to the test questions before and after',
        needs=('translate', 'retrieve', 'align'),
        fields=(
            'dtype',
            'seed',
            'train.method',
            'prompt',
            'selfrag',
            'sample.answer',
            'sample.top_p',
            'sample.top_k',
            'sample.slots',
            'sample.shard',
            'evaluate',
        ),
        inputs=_start,
        on_devices=_always,
    ),
    ledger.Stage(
        'report',
        'tables, plots, and a page for any question',
        needs=('translate', 'sample', 'vote', 'pair', 'align', 'evaluate'),
        fields=(),
    ),
)
