import joint


def run(cfg, workdir):
  joint.begin(workdir, 'read')
  return {}
