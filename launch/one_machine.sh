#!/usr/bin/env bash
# One machine with one or more GPUs: a single process drives all of them.
#
#   launch/one_machine.sh --config=configs/xcsqa.py \
#       --config.data.path=data/X-CSQA --workdir=runs/xcsqa
#
# From the root of the repository, its environment active; inside tmux or screen
# if you may be logged out. All arguments go to calm_jax.main (README.md).
#
#   GPUS=0,1     use these GPUs only
#   PYTHON=...   another Python than that of the active environment
#
# A model that does not fit one GPU: --config.mesh.tensor=8 divides it by 8.
#
# Costs    hours times GPUs, about as many GPU-hours on 1 GPU as on 8. The floor
#          of the paper's two jobs with Llama3-8B is 1.0 H100-hours or 2.4
#          A100-hours; divide it by 0.35 to 0.79, what engines reach of it
#          (launch/README.md, also for what a finished run took).
# Writes   to --workdir only: a folder per stage, checkpoints in align/.
# Stop     Ctrl-C or kill: it ends in an orderly way, with status 143 or 130,
#          and the same command goes on from there.
set -euo pipefail

if ! nvidia-smi -L >/dev/null; then
  echo 'ERROR: nvidia-smi finds no GPU here. On CPU run calm_jax.main itself:' \
    'python -m calm_jax.main --config=... --workdir=...' >&2
  exit 1
fi

if [[ ${GPUS:-} ]]; then
  export CUDA_VISIBLE_DEVICES=$GPUS
fi
# Fail where JAX cannot use the GPUs: by default it would go on without them.
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu}
# Nothing else runs there: JAX would leave a quarter of the memory unused.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}

exec "${PYTHON:-python}" -m calm_jax.main "$@"
