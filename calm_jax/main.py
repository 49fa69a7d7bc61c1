"""CALM: makes a multilingual language model agree with itself.

Asks each question in several languages, lets the answers vote, and trains a
LoRA adapter to prefer the answer that won.

  python -m calm_jax.main --config=configs/demo.py --workdir=runs/demo

Any field of the config (configs/base.py explains each) can be set:

  --config.model=org/name --config.languages=en,fr --config.sample.m=5

--stages=sample,vote runs these stages only. The same command again skips what
is done and goes on where it was stopped; other settings need another folder.
"""

from __future__ import annotations

import pathlib
import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from calm_jax import experiment, guard, pipeline, settings, systems
from calm_jax.lm import compilation, hosts, pages

_CONFIG = config_flags.DEFINE_config_file(
    'config', lock_config=True, help_string='Python file of the settings.'
)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Folder of all results.', required=True
)
_STAGES = flags.DEFINE_list(
    'stages',
    [],
    'Stages to run, of: '
    + ' '.join(s.name for s in pipeline.STAGES)
    + '; and compare, where a config has several systems.',
)
_COORDINATOR = flags.DEFINE_string(
    'coordinator',
    None,
    'For a run of several processes, one a machine (see launch/): HOST:PORT of'
    ' process 0; or auto on a TPU slice, under Slurm or Open MPI.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', None, 'How many they are, where HOST:PORT is given.'
)
_PROCESS_ID = flags.DEFINE_integer(
    'process_id', None, 'Which one this is, from 0, where HOST:PORT is given.'
)
flags.mark_flag_as_required('config')

_OVERRIDE = re.compile(r'^--?(?:no)?config\.([\w.]+)')
_PACKAGE = pathlib.Path(__file__).parent


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f'Unexpected arguments: {argv[1:]}')
  try:
    compilation.keep()
    pages.keep()
    hosts.connect(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    experiment.run(_CONFIG.value, workdir, tuple(_STAGES.value))
  except (settings.ConfigError, guard.Refusal, hosts.HostsError) as e:
    print(f'ERROR: {e}', file=sys.stderr)
    return 1
  except (OSError, ValueError, FloatingPointError) as e:
    if flags.FLAGS.verbosity >= logging.DEBUG or not _is_for_the_user(e):
      raise
    print(f'ERROR: {e} (--verbosity=1 shows the traceback)', file=sys.stderr)
    return 1
  return 0


def _is_for_the_user(error: Exception) -> bool:
  """Whether a file, a value or the system is wrong, not this program.

  What a library did not accept was this program's mistake.
  """
  innermost = traceback.extract_tb(error.__traceback__)[-1].filename
  ours = pathlib.Path(innermost).is_relative_to(_PACKAGE)
  return ours or not isinstance(error, ValueError)


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a field or file that is not there costs one line."""
  try:
    argv, of_systems = systems.take_flags(argv)
    sys.argv = argv  # where the config's flags look for themselves
    settings.check_names(n for arg in argv for n in _OVERRIDE.findall(arg))
    rest = flags.FLAGS(argv)
    # A config file that is missing fails only here.
    systems.override(_CONFIG.value, of_systems)
    # Without --verbosity absl would show what libraries say for themselves.
    if flags.FLAGS['verbosity'].using_default_value:
      flags.FLAGS.verbosity = logging.WARNING
    return rest
  except settings.ConfigError as e:
    sys.exit(f'ERROR: {e}')
  except flags.Error as e:
    sys.exit(f'ERROR: {" ".join(str(e).split())} (--help lists the flags)')
  except OSError as e:
    sys.exit(f'ERROR: --config: {e}')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
