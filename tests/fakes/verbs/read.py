"""A stage that writes one file, and logs that it ran."""

import json


def run(cfg, workdir):
  folder = workdir / 'read'
  seen = sorted(path.name for path in folder.iterdir())
  (folder / 'rows.json').write_text(json.dumps(list(range(cfg.limit))))
  with (workdir / 'log').open('a') as f:
    f.write(f'read {" ".join(seen)}\n')
  return {'rows': cfg.limit, 'languages': len(cfg.languages)}
