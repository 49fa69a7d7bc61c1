"""No translation: pairs are then built within a language only."""

from __future__ import annotations

from calm_jax.translators import translator


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
