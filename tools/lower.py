"""Compiles a model's programs for devices that are not here.

python -m tools.lower --shape=llama3-70b --devices=64 --mesh=4,8,2

The sampler's prefill and decode and a training step are lowered on so many
simulated CPU devices, with nothing but shapes: no array is made. Says what each
device holds, which arrays fsdp or tensor do not split, and what a run of each
program sends between devices. Messages inside the decode loop are of one step.
Types and temporaries are those of the CPU compiler, which computes bfloat16
products in float32.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
import sys
import time
from typing import Any

from calm_jax import console
from tools import lower_text

_MIB, _GIB = 2**20, 2**30


# As the compilers of GPUs do; on CPU by default as much as can runs at once.
_OPTIONS = {'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED'}


def main(argv: Sequence[str] | None = None) -> None:
  args = _parser().parse_args(argv)
  # Before jax is imported.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  added = (
      f'--xla_force_host_platform_device_count={args.devices}',
      # The compilers of GPUs and TPUs keep to these barriers to the end.
      '--xla_disable_hlo_passes=cse_barrier_expander',
  )
  os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *added])
  try:
    found = []
    for item in measure(args):
      found.append(item)
      for line in [] if args.json else _lines(item):
        console.say(line)
    if args.json:
      print(json.dumps(found))
  except ValueError as e:
    sys.exit(f'lower: {e}')


def measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
  """What is known of each program, as soon as it is."""
  import jax.numpy as jnp

  from calm_jax.lm import sharding
  from tools import benchmark_model, lower_programs

  if args.shape not in benchmark_model.SHAPES:
    known = ', '.join(benchmark_model.SHAPES)
    raise ValueError(f'--shape={args.shape}: there are {known}')
  cfg = benchmark_model.SHAPES[args.shape]
  if args.layers:
    cfg = dataclasses.replace(cfg, num_layers=args.layers)
  mesh = sharding.make_mesh(*args.mesh)
  work = lower_programs.Work(
      slots=args.slots,
      length=args.length,
      remat=args.remat,
      rank=args.rank,
      targets=tuple(args.targets.split(',')),
  )
  dtype = jnp.dtype(args.dtype)
  for program in lower_programs.programs(cfg, dtype, mesh, work):
    if program.name.startswith(args.only):
      yield _measure(program, mesh, args) | {'layers': cfg.num_layers}


def _measure(program, mesh, args: argparse.Namespace) -> dict[str, Any]:
  from tools import lower_programs

  least = int(args.least * _MIB)
  start = time.monotonic()
  lowered = program.function.lower(*program.args)
  found = {
      'name': program.name,
      'groups': {
          name: lower_programs.per_device(tree)
          for name, tree in program.groups.items()
      },
      'not_split': [
          replica._asdict()
          for replica in lower_programs.replicas(
              mesh, program.groups, least=least
          )
      ],
      'least': least,
      'lower_seconds': time.monotonic() - start,
  }
  return found | (_compile(lowered) if args.compile else {})


def _compile(lowered) -> dict[str, Any]:
  start = time.monotonic()
  compiled = lowered.compile(compiler_options=_OPTIONS)
  memory = compiled.memory_analysis()
  return {
      'compile_seconds': time.monotonic() - start,
      'memory': {
          'arguments': memory.argument_size_in_bytes,
          'of them donated': memory.alias_size_in_bytes,
          'temporaries': memory.temp_size_in_bytes,
      },
      'messages': [
          m._asdict() for m in lower_text.messages(compiled.as_text())
      ],
  }


def _lines(found: dict[str, Any]) -> Iterator[str]:
  yield f'\n{found["name"]}, {found["layers"]} layers'
  for name, size in found['groups'].items():
    yield f'  {name:20}{_size(size):>12} a device'
  for replica in found['not_split']:
    axes = ' and '.join(replica['axes'])
    size = _size(replica['nbytes'])
    yield f'  NOT SPLIT by {axes}: {replica["path"]} {size}'
  count = len(found['not_split'])
  yield f'  arrays of {_size(found["least"])} or more not split: {count}'
  yield f'  lowered in {found["lower_seconds"]:.0f} s'
  if 'memory' not in found:
    return
  yield f'  compiled in {found["compile_seconds"]:.0f} s'
  for name, size in found['memory'].items():
    yield f'  {name:20}{_size(size):>12} a device'
  by_kind = collections.defaultdict(list)
  for message in found['messages']:
    by_kind[message['kind']].append(message)
  for kind, group in sorted(by_kind.items()):
    total = sum(m['nbytes'] * m['times'] for m in group)
    times = sum(m['times'] for m in group)
    yield f'  {kind:20}{_size(total):>12} in {times} messages'
  for m in sorted(found['messages'], key=lambda m: -m['nbytes'])[:4]:
    yield f'    {m["kind"]} {m["shape"][:50]} x {m["times"]}'


def _size(count: int) -> str:
  if count >= _GIB:
    return f'{count / _GIB:.2f} GiB'
  return f'{count / _MIB:.2f} MiB'


def _mesh(text: str) -> tuple[int, ...]:
  sizes = tuple(int(part) for part in text.split(','))
  if len(sizes) != 3:
    raise argparse.ArgumentTypeError('DATA,FSDP,TENSOR')
  return sizes


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
      prog='python -m tools.lower',
      description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add('--shape', default='llama3-8b', help='of a model, as tools.benchmark')
  add('--devices', type=int, default=8)
  add('--mesh', type=_mesh, default=(-1, 1, 1), help='DATA,FSDP,TENSOR')
  add('--dtype', default='bfloat16', choices=['bfloat16', 'float32'])
  add('--layers', type=int, default=0, help='0: all of the model')
  add('--slots', type=int, default=512, help='all devices together')
  add('--length', type=int, default=1024, help='tokens of a training row')
  add('--rank', type=int, default=8, help='of the adapter')
  add('--targets', default='q_proj,v_proj', help='of the adapter')
  add('--remat', action='store_true', help='compute layers twice')
  add('--least', type=float, default=1.0, help='MiB of an array to be told of')
  add('--only', default='', help='prefill, decode or train')
  add('--json', action='store_true', help='print it all as JSON')
  add('--compile', action=argparse.BooleanOptionalAction, default=True)
  return parser


if __name__ == '__main__':
  main()
