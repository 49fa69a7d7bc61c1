import joint


def run(cfg, workdir):
  assert (workdir / 'sample' / 'DONE.json').exists()
  joint.begin(workdir, 'vote')
  return {}
