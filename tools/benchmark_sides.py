"""The other sides of a benchmark: each a process to take turns with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import multiprocessing

from calm_jax import console
from tools import benchmark_llama_cpp
from tools import benchmark_llama_server as servers
from tools import benchmark_turns as turns
from tools import benchmark_work as work

# What --compare takes: the job that each does, and the packages it is.
JOBS = {'hf': 'sampling', 'trl': 'training', 'llama_cpp': 'sampling'}
PACKAGES = {
    'hf': ('torch', 'transformers'),
    'trl': ('torch', 'transformers', 'trl', 'peft'),
    'llama_cpp': (),
}


@contextlib.contextmanager
def hf(
    peer: work.Peer, questions, *, sizes: Sequence[int], max_new_tokens: int
) -> Iterator[turns.Side]:
  """transformers generate with its best batch size."""
  with _process() as process:
    theirs = process.generate(peer, questions, max_new_tokens=max_new_tokens)
    best = _best('hf: tokens/s by batch', theirs.probe, sizes)
    theirs.warm_up(best)
    yield turns.Side(lambda: theirs.run(best), theirs.peak_memory)


@contextlib.contextmanager
def trl(
    peer: work.Peer, pairs, *, batch: int, lora, learning_rate: float
) -> Iterator[turns.Side]:
  """TRL's DPOTrainer with PEFT."""
  with _process() as process:
    theirs = process.dpo(
        peer,
        pairs,
        batch=batch,
        rank=lora.rank,
        alpha=round(lora.alpha),
        targets=lora.targets,
        learning_rate=learning_rate,
    )
    theirs.warm_up()
    yield turns.Side(theirs.run, theirs.peak_memory)


@contextlib.contextmanager
def llama_cpp(
    program: str,
    gguf: str,
    peer: work.Peer,
    questions: Sequence[work.Question],
    *,
    sizes: Sequence[int],
) -> Iterator[turns.Side]:
  """llama.cpp's server with its best number of slots."""
  theirs = benchmark_llama_cpp.Generate(
      servers.find(program), servers.check_gguf(gguf), peer, questions
  )
  with contextlib.closing(theirs):
    best = _best('llama.cpp: tokens/CPU s by slots', theirs.probe, sizes)
    theirs.start(best)
    details = {'version': theirs.version}
    yield turns.Side(theirs.run, theirs.peak_memory, details)


def _process() -> turns.Processes:
  return turns.Processes(ctx=multiprocessing.get_context('spawn'))


def _best(title: str, probe, sizes: Sequence[int]) -> int:
  if len(sizes) == 1:
    return sizes[0]
  rates: Mapping[int, float] = probe(sizes)
  shown = ', '.join(f'{size}: {rate:.4g}' for size, rate in rates.items())
  console.say(f'  {title}: {shown}')
  return max(rates, key=lambda size: rates[size])
