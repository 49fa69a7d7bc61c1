"""The ledger of a paid service: characters sent, and what they may cost.

A line is written before a request leaves and another takes it back when the
service refused it, so that a killed run has counted too much rather than too
little. Costs are estimates: the bill is the provider's.
"""

from __future__ import annotations

import datetime
import pathlib

from calm_jax import console, guard
from calm_jax.translators import lines


class Budget:

  def __init__(self, path: pathlib.Path, *, price: float, max_cost: float):
    """Args:
    price: of a million characters, in USD.
    max_cost: of all that the ledger at `path` ever counts, in USD; 0 is no
      limit.
    """
    self._path, self._price, self._max_cost = path, price, max_cost
    self._before = self._spent = _read(path)
    self._characters = 0
    self._estimate = 0.0

  def estimate(self, texts: int, characters: int) -> None:
    """Tells and notes what is going to be sent.

    Raises:
      guard.Refusal: with what was spent before it exceeds the limit.
    """
    if not texts:
      return
    cost = self._cost(characters)
    self._check(characters)
    self._estimate += cost
    self._note('estimate', characters, cost)
    console.say(
        f'  to send: {texts:,} texts, {characters:,} characters, about'
        f' {cost:.2f} USD; spent before: {self._spent:.2f} USD'
    )

  def charge(self, characters: int) -> None:
    """Counts a request that is about to leave; see estimate."""
    self._check(characters)
    self._count('sent', characters)

  def refund(self, characters: int) -> None:
    """Takes back a request that the service refused."""
    self._count('refused', -characters)

  def close(self) -> dict[str, float]:
    """Notes and returns what was sent since the start."""
    if not self._estimate and not self._characters:
      return {}
    cost = self._spent - self._before
    self._note('total', self._characters, cost)
    console.say(
        f'  sent: {self._characters:,} characters, about {cost:.2f} USD; in all'
        f' {self._spent:.2f} USD ({self._path})'
    )
    return {
        'characters_sent': self._characters,
        'usd_estimated': round(self._estimate, 6),
        'usd_sent': round(cost, 6),
    }

  def _check(self, characters: int) -> None:
    needed = self._spent + self._cost(characters)
    # As much as a rounding error is nobody's money.
    if self._max_cost and needed > self._max_cost + 1e-9:
      raise guard.Refusal(
          f'to translate {characters:,} characters would bring the cost to'
          f' about {needed:.4g} USD ({self._spent:.4g} of it spent before, see'
          f' {self._path}): above config.translate.max_cost ='
          f' {self._max_cost:g}. Nothing of it was sent. Raise it, or translate'
          ' less (config.limit, config.languages)'
      )

  def _count(self, event: str, characters: int) -> None:
    cost = self._cost(characters)
    self._note(event, characters, cost)
    self._characters += characters
    self._spent += cost

  def _note(self, event: str, characters: int, cost: float) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    row = {'time': now, 'event': event, 'characters': characters}
    lines.append(self._path, [row | {'usd': round(cost, 9)}])

  def _cost(self, characters: int) -> float:
    return characters * self._price / 1e6


def _read(path: pathlib.Path) -> float:
  """All that was spent, in USD."""
  spent = 0.0
  what = 'ledger of translations'
  for number, row in lines.read(path, what=what):
    try:
      counts = row['event'] in ('sent', 'refused')
      spent += row['usd'] if counts else 0
    except (KeyError, TypeError) as e:
      raise ValueError(lines.wrong(path, number, what, e)) from e
  return spent
