"""The sides of a benchmark: each a process to take turns with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import importlib.util
import multiprocessing
from typing import Any, NamedTuple, Protocol

from calm_jax import console
from tools import benchmark_llama_cpp
from tools import benchmark_llama_server as servers
from tools import benchmark_turns as turns
from tools import benchmark_work as work

# What --compare takes: the job that each does, and the packages it is.
JOBS = {'hf': 'sampling', 'trl': 'training', 'llama_cpp': 'sampling'}
PACKAGES = {
    'hf': ('torch', 'transformers'),
    'trl': ('torch', 'transformers', 'trl', 'peft', 'datasets'),
    'llama_cpp': (),
}


class Sizes(NamedTuple):
  """Batches or slots to choose from, and the part of the work to try them on.

  `by_clock`: by the seconds that pass, not by those of the processor.
  """

  tried: Sequence[int]
  every: int = 1  # so manieth question of the work
  by_clock: bool = False


class Sampler(Protocol):
  """A side that can be had with any number of slots, or of rows in a batch."""

  def start(self, size: int) -> None:
    """Warms up with so many, which the following runs have."""

  def run(self, every: int = 1) -> work.Run:
    """A pass over every so manieth question."""
    ...


def check_installed(compare: str) -> None:
  """Raises ValueError where a side lacks a package."""
  wanted = PACKAGES.get(compare, ())
  missing = [name for name in wanted if importlib.util.find_spec(name) is None]
  if missing:
    names = ' '.join(missing)
    raise ValueError(
        f'--compare={compare} needs {names}, not installed here: pip install'
        f" {names}, or all that the other sides need: pip install '.[parity]'"
    )


def best(
    title: str, side: Sampler, sizes: Sizes
) -> tuple[int, dict[str, float]]:
  """The size that draws most tokens a second, and the rates of all.

  Our side and the others are asked in the same way: a pass over the work, after
  one that warms up. Of one size nothing is asked.
  """
  if len(sizes.tried) == 1:
    return sizes.tried[0], {}
  rates = {}
  for size in sizes.tried:
    side.start(size)
    run = side.run(sizes.every)
    seconds = run.seconds if sizes.by_clock else run.cpu_seconds
    rates[str(size)] = run.done / seconds
    console.say(f'  {title} {size}: {rates[str(size)]:.4g} tokens/s')
  return int(max(rates, key=lambda size: rates[size])), rates


def ours(task: Any, sizes: Sizes) -> tuple[int, dict[str, float]]:
  """Our best number of slots, found by a process of its own.

  What other numbers take, in memory and compiled programs, is not counted.
  """
  if len(sizes.tried) == 1:
    return sizes.tried[0], {}
  with process() as made:
    return best('ours, slots', made.ours(task), sizes)


@contextlib.contextmanager
def hf(
    peer: work.Peer, questions, *, sizes: Sizes, draws: work.Draws
) -> Iterator[turns.Side]:
  """transformers generate with its best batch size."""
  details = {}
  chosen = sizes.tried[0]
  if len(sizes.tried) > 1:
    # In another process: the memory of batches that are not chosen.
    with process() as made:
      tried = made.generate(peer, questions, draws=draws)
      chosen, rates = best('hf, batch', tried, sizes)
      details = probe(rates, sizes)
  with process() as made:
    theirs = made.generate(peer, questions, draws=draws)
    theirs.start(chosen)
    yield turns.Side(theirs.run, theirs.peak_memory, details)


@contextlib.contextmanager
def trl(
    peer: work.Peer,
    pairs,
    *,
    lora: Mapping[str, Any],
    train: Mapping[str, Any],
) -> Iterator[turns.Side]:
  """TRL's DPOTrainer with PEFT."""
  with process() as made:
    theirs = made.dpo(peer, pairs, lora=lora, train=train)
    theirs.warm_up()
    yield turns.Side(theirs.run, theirs.peak_memory)


@contextlib.contextmanager
def llama_cpp(
    where: tuple[str, str],
    peer: work.Peer,
    questions: Sequence[work.Question],
    *,
    sizes: Sizes,
    draws: work.Draws,
) -> Iterator[turns.Side]:
  """llama.cpp's server, and a GGUF file, with its best number of slots."""
  program, gguf = where
  theirs = benchmark_llama_cpp.Generate(
      servers.find(program),
      servers.check_gguf(gguf),
      peer,
      questions,
      draws=draws,
  )
  with contextlib.closing(theirs):
    chosen, rates = best('llama.cpp, slots', theirs, sizes)
    theirs.start(chosen)
    details = {'version': theirs.version, **probe(rates, sizes)}
    yield turns.Side(theirs.run, theirs.peak_memory, details)


def process() -> turns.Processes:
  """A fresh process for a side."""
  return turns.Processes(ctx=multiprocessing.get_context('spawn'))


def probe(rates: Mapping[str, float], sizes: Sizes) -> dict[str, Any]:
  """What a result says of how a size was chosen."""
  if not rates:
    return {}
  unit = 'second' if sizes.by_clock else 'cpu_second'
  told = {'every': sizes.every, f'tokens_per_{unit}': dict(rates)}
  return {'probe': told}
