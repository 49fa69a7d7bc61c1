"""A stage that fails as long as a file asks it to."""


def run(cfg, workdir):
  del cfg
  if (workdir / 'fail_at_once').exists():
    raise OSError('the disk is full')
  if (workdir / 'fail').exists():
    (workdir / 'vote' / 'half').touch()
    raise OSError('the disk is full')
  with (workdir / 'log').open('a') as f:
    f.write('vote\n')
  return {'votes': 1}
