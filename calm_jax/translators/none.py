"""No translation: pairs are then built within a language only."""

from __future__ import annotations

import pathlib

from ml_collections import ConfigDict

from calm_jax.translators import translator


def problem(path: str) -> str | None:
  del path
  return None


def depends(cfg: ConfigDict) -> dict[str, str]:
  del cfg
  return {}


def build(cfg: ConfigDict, folder: pathlib.Path) -> translator.Translator:
  del cfg, folder
  return Nothing()


class Nothing(translator.Translator):

  @property
  def version(self) -> str:
    return 'none'

  def supports(self, source: str, target: str) -> bool:
    return False

  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    return [None] * len(texts)
