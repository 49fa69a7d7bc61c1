"""Translation backends behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import pathlib

from ml_collections import ConfigDict

from calm_jax.translators import cache, files, model, none
from calm_jax.translators.translator import Translator

Wanted = tuple[str, str, str]  # text, source language, target language

# So many texts are lost at most when a run is killed.
_BATCH = 256


def build(cfg: ConfigDict, workdir: pathlib.Path) -> Translator:
  """The translator that config.translate names; loads no weights yet."""
  backend = cfg.translate.backend
  if backend == 'none':
    return none.Nothing()
  if backend == 'files':
    return files.Files(pathlib.Path(cfg.translate.path))
  if backend == 'model':
    folder = workdir / 'translate' / 'cache'
    return cache.Cached(_model(cfg), folder / 'model.jsonl', backend=backend)
  raise ValueError(
      f'translate.backend is {backend!r}; choose one of none, model, files'
  )


def translate_all(
    translator: Translator,
    wanted: Iterable[Wanted],
    *,
    advance: Callable[[int], None] | None = None,
) -> dict[Wanted, str | None]:
  """Translates each distinct text once, in batches of one direction."""
  directions: dict[tuple[str, str], dict[str, None]] = {}
  for text, source, target in wanted:
    directions.setdefault((source, target), {})[text] = None
  done: dict[Wanted, str | None] = {}
  for (source, target), unique in directions.items():
    texts = list(unique)
    for start in range(0, len(texts), _BATCH):
      batch = texts[start : start + _BATCH]
      results = translator.translate(batch, source, target)
      for text, result in zip(batch, results, strict=True):
        done[text, source, target] = result
      if advance is not None:
        advance(len(batch))
  return done


def _model(cfg: ConfigDict) -> model.Model:
  """Only here is jax needed, and only when this backend is chosen."""
  from calm_jax.lm import hub

  folder = hub.resolve(cfg.model, cfg.revision)
  limit = cfg.sample.max_new_tokens

  def load() -> model.Generate:
    from calm_jax.lm import writer

    return writer.text_generator(
        model=cfg.model,
        revision=cfg.revision,
        dtype=cfg.dtype,
        mesh=(cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor),
        slot_count=cfg.sample.slots,
        max_new_tokens=limit,
    )

  identity = f'{hub.identity(folder)}:{cfg.dtype}:{limit}'
  return model.Model(load, identity=identity)
