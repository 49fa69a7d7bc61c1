"""The model under training translates, greedily."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import pathlib

from ml_collections import ConfigDict

from calm_jax import console
from calm_jax.qa import prompts
from calm_jax.translators import translator

# None: it did not come to its end.
Generate = Callable[[list[str]], list[str | None]]


def problem(path: str) -> str | None:
  del path
  return None


def depends(cfg: ConfigDict) -> dict[str, str]:
  """Beside the model itself, which is other stages' input too."""
  return {
      'translator.dtype': cfg.dtype,
      'translator.seed': str(cfg.seed),
      'translator.max_new_tokens': str(cfg.translate.max_new_tokens),
      'translator.template': cfg.prompt.template,
  }


def build(cfg: ConfigDict, folder: pathlib.Path) -> translator.Translator:
  del folder
  # Only here is jax needed, and only when this backend is chosen.
  from calm_jax.lm import hub

  weights = hub.resolve(cfg.model, cfg.revision)
  template = cfg.prompt.template

  def load() -> Generate:
    from calm_jax.lm import writer

    return writer.text_generator(
        model=cfg.model,
        revision=cfg.revision,
        dtype=cfg.dtype,
        mesh=(cfg.mesh.data, cfg.mesh.fsdp, cfg.mesh.tensor),
        slot_count=cfg.sample.slots,
        max_new_tokens=cfg.translate.max_new_tokens,
        template=template,
    )

  # Not their limit: what was not cut is the same with any.
  identity = f'{hub.identity(weights)}:{cfg.dtype}'
  if template:
    identity += f':{template}'
  return Model(load, identity=identity)


class Model(translator.Translator):

  def __init__(self, load: Callable[[], Generate], *, identity: str):
    """Args:
    load: makes the function from prompts to texts; called at the first
      text, so that a run whose texts are all cached loads no weights.
    identity: of the weights and of how they are decoded.
    """
    self._load = load
    self._generate: Generate | None = None
    self._cut = 0
    # A new wording of the prompt makes new translations.
    wording = prompts.translation('', 'en', 'fr')
    digest = hashlib.sha256(wording.encode()).hexdigest()[:16]
    self._version = f'{identity}:{digest}'

  @property
  def version(self) -> str:
    return self._version

  def supports(self, source: str, target: str) -> bool:
    return source != target

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    asked = [prompts.translation(text, source, target) for text in texts]
    if self._generate is None:
      self._generate = self._load()
    written = self._generate(asked)
    self._cut += written.count(None)
    return [(text and text.strip()) or None for text in written]

  def end(self) -> dict[str, float]:
    if not self._cut:
      return {}
    console.say(
        f'  {self._cut} translations were cut, and are not used: raise'
        ' config.translate.max_new_tokens'
    )
    return {'cut_translations': self._cut}
