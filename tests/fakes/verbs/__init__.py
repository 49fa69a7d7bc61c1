"""Stages that take no time, for the tests of the pipeline.

python -c 'import verbs; verbs.main()' MODEL WORKDIR
"""

import pathlib
import sys

from calm_jax import ledger, pipeline
from configs import tiny

TABLE = (
    ledger.Stage(
        'read', 'raw to rows', needs=(), fields=('languages', 'limit')
    ),
    ledger.Stage(
        'sample', 'rows to shards', needs=('read',), fields=('sample',)
    ),
    ledger.Stage(
        'vote', 'shards to votes', needs=('sample',), fields=('vote.ties',)
    ),
)


def main():
  c = tiny.get_config()
  c.model = sys.argv[1]
  pipeline.run(c, pathlib.Path(sys.argv[2]), table=TABLE, package='verbs')
