"""A stage of many shards that keeps those that are there already."""

import json
import os
import time


def run(cfg, workdir):
  rows = json.loads((workdir / 'read' / 'rows.json').read_text())
  made = 0
  for row in rows:
    path = workdir / 'sample' / f'{row:05}'
    if not path.exists():
      # Only the tests that kill this process want it to take its time.
      time.sleep(float(os.environ.get('SECONDS_PER_SHARD', '0')))
      path.write_text(str(cfg.sample.m))
      made += 1
  with (workdir / 'log').open('a') as f:
    f.write(f'sample {made}\n')
  return {'shards': len(rows), 'made': made, 'lost': 0, 'mean': 0.5 / 3}
