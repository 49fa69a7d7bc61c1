from calm_jax import console
from calm_jax.lm import hosts
import joint


def run(cfg, workdir):
  together = cfg.limit > 0
  joint.begin(workdir, 'sample', together=together)
  console.say(f'a word of {hosts.process_index()}')
  return {'samples': len(hosts.gather('counts')) if together else 0}
