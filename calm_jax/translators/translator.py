"""What every translation backend offers."""

from __future__ import annotations

import abc


class Translator(abc.ABC):
  """Turns texts of one language into another; a failure is a None."""

  @property
  @abc.abstractmethod
  def version(self) -> str:
    """Changes whenever the same text could come out differently."""

  @abc.abstractmethod
  def supports(self, source: str, target: str) -> bool:
    """Whether it is worth asking for this direction at all."""

  @abc.abstractmethod
  def translate(
      self, texts: list[str], source: str, target: str
  ) -> list[str | None]:
    """One translation, or None, per text."""
