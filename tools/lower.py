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
import importlib.metadata
import os
import sys
import time

from calm_jax import console
from tools import lower_text

_MIB, _GIB = 2**20, 2**30


def main(argv: Sequence[str] | None = None) -> None:
  args = _parser().parse_args(argv)
  # Before jax is imported.
  os.environ['JAX_PLATFORMS'] = 'cpu'
  flag = f'--xla_force_host_platform_device_count={args.devices}'
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flag}'.strip()
  try:
    for line in report(args):
      console.say(line)
  except ValueError as e:
    sys.exit(f'lower: {e}')


def report(args: argparse.Namespace) -> Iterator[str]:
  """The lines to show, each as soon as it is known."""
  import dataclasses

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
  sizes = ' x '.join(f'{name} {size}' for name, size in mesh.shape.items())
  versions = ' '.join(
      f'{name} {importlib.metadata.version(name)}' for name in ('jax', 'jaxlib')
  )
  yield f'{args.shape}, {cfg.num_layers} layers, {args.dtype}; {sizes}'
  yield f'{versions}'
  dtype = jnp.dtype(args.dtype)
  for program in lower_programs.programs(cfg, dtype, mesh, work):
    if not args.only or program.name.startswith(args.only):
      yield from _lines(program, mesh, args)


def _lines(program, mesh, args: argparse.Namespace) -> Iterator[str]:
  from tools import lower_programs

  yield f'\n{program.name}'
  for name, tree in program.groups.items():
    yield f'  {name:20}{_size(lower_programs.per_device(tree)):>12} a device'
  least = int(args.least * _MIB)
  whole = lower_programs.replicas(mesh, program.groups, least=least)
  for found in whole:
    axes = ' and '.join(found.axes)
    yield f'  NOT SPLIT by {axes}: {found.path} {_size(found.nbytes)}'
  yield f'  arrays of {args.least:g} MiB or more not split: {len(whole)}'
  start = time.monotonic()
  lowered = program.function.lower(*program.args)
  yield f'  lowered in {time.monotonic() - start:.0f} s'
  if args.compile:
    start = time.monotonic()
    compiled = lowered.compile()
    yield f'  compiled in {time.monotonic() - start:.0f} s'
    yield from _compiled(compiled)


def _compiled(compiled) -> Iterator[str]:
  memory = compiled.memory_analysis()
  for name, size in (
      ('arguments', memory.argument_size_in_bytes),
      ('outputs', memory.output_size_in_bytes),
      ('of them donated', memory.alias_size_in_bytes),
      ('temporaries', memory.temp_size_in_bytes),
  ):
    yield f'  {name:20}{_size(size):>12} a device'
  sent = lower_text.messages(compiled.as_text())
  by_kind = collections.defaultdict(list)
  for message in sent:
    by_kind[message.kind].append(message)
  for kind, group in sorted(by_kind.items()):
    total = sum(m.nbytes * m.times for m in group)
    count = sum(m.times for m in group)
    yield f'  {kind:20}{_size(total):>12} in {count} messages'
  for m in sorted(sent, key=lambda m: -m.nbytes)[:5]:
    yield f'    {m.kind} {m.shape[:60]} x {m.times}: {m.source[-60:]}'


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
  add('--compile', action=argparse.BooleanOptionalAction, default=True)
  return parser


if __name__ == '__main__':
  main()
