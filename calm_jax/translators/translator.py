"""What every translation backend offers."""

from __future__ import annotations

import abc
from collections.abc import Iterable

Wanted = tuple[str, str, str]  # text, source language, target language


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

  def groups(self, texts: list[str]) -> list[list[str]]:
    """The texts in what is kept at once: a kill loses one group at most."""
    return [texts] if texts else []

  def begin(self, wanted: Iterable[Wanted]) -> None:
    """Told all that is coming; a paid service refuses here what costs too much.

    Raises:
      guard.Refusal: nothing was sent.
    """
    del wanted

  def end(self) -> dict[str, float]:
    """What was used, for the counts of a stage."""
    return {}
