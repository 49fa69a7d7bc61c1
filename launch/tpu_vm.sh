#!/usr/bin/env bash
# A Cloud TPU slice: one process on each of its VMs drives the VM's chips.
#
#   export TPU=calm ZONE=us-east5-a
#   gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" \
#       --accelerator-type=v5p-16 --version=v2-alpha-tpuv5
#   launch/tpu_vm.sh setup 10.0.0.2:/share    # once; mounts it as /mnt/runs
#   launch/tpu_vm.sh run --config=configs/xcsqa.py \
#       --config.data.path=/mnt/runs/X-CSQA --workdir=/mnt/runs/xcsqa
#   launch/tpu_vm.sh log                      # Ctrl-C ends only the looking
#   launch/tpu_vm.sh stop
#   gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE"
#
# From the root of the repository: setup copies its last commit to the VMs. The
# arguments of run go to calm_jax.main (README.md); it goes on when you log out.
# The share is an NFS one, Filestore for one: every VM must see --workdir, the
# data and the model. It holds downloaded models too.
#
# Costs    hours times chips, until the slice is deleted, busy or not. The floor
#          of the paper's two jobs with Llama3-8B is 1.7 v5p, 1.2 v6e or 4.1 v5e
#          chip-hours in all, computed from the published rates; divide it by
#          0.35 to 0.79, what engines reach of it on GPUs (launch/README.md,
#          also for what a finished run took).
# Writes   to --workdir, models to /mnt/runs/huggingface, and on each VM
#          ~/calm_jax (the code), ~/calm_jax.log and ~/calm_jax.pid.
# Stop     stop: the run ends, and the same run goes on from there. A preempted
#          slice takes only its VMs with it: create, setup, and the same run.
set -euo pipefail

: "${TPU:?is not set: see the first lines of this script}"
: "${ZONE:?is not set: see the first lines of this script}"

# on WORKERS COMMAND: runs a shell command on all VMs, or on number 0.
on() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" \
    --worker="$1" --command="$2"
}

setup() {
  local share=${1:?setup needs the NFS share, such as 10.0.0.2:/share}
  local archive
  archive=$(mktemp --suffix=.tar.gz)
  git archive --format=tar.gz --output="$archive" HEAD
  gcloud compute tpus tpu-vm scp "$archive" "$TPU:calm_jax.tar.gz" \
    --zone="$ZONE" --worker=all
  rm "$archive"
  # The images' own Python is older than 3.11.
  on all "set -e
    mkdir -p calm_jax && tar -xzf calm_jax.tar.gz -C calm_jax
    sudo apt-get install -y -q nfs-common
    sudo mkdir -p /mnt/runs
    mountpoint -q /mnt/runs || sudo mount $(printf %q "$share") /mnt/runs
    python3 -m pip install -q --user uv
    cd calm_jax
    ~/.local/bin/uv venv -q --clear --python=3.12 .venv
    ~/.local/bin/uv pip install -q --python=.venv -e '.[tpu]'"
}

run() {
  local command
  command=$(printf ' %q' .venv/bin/python -m calm_jax.main "$@")
  on all "cd calm_jax
    if kill -0 \"\$(cat ~/calm_jax.pid 2>/dev/null)\" 2>/dev/null; then
      echo 'ERROR: a run is going on here; stop it first' >&2
      exit 1
    fi
    export JAX_PLATFORMS=tpu,cpu PYTHONUNBUFFERED=1
    export HF_HOME=/mnt/runs/huggingface
    nohup$command --coordinator=auto >>~/calm_jax.log 2>&1 </dev/null &
    echo \$! >~/calm_jax.pid"
  echo 'Started. launch/tpu_vm.sh log shows how it goes.'
}

case ${1:-} in
  setup) setup "${2:-}" ;;
  run) run "${@:2}" ;;
  log) on 0 'tail -n 50 -F ~/calm_jax.log' ;;
  stop) on all "kill -TERM \"\$(cat ~/calm_jax.pid)\"" ;;
  *)
    echo 'ERROR: use setup, run, log or stop (see its first lines)' >&2
    exit 1
    ;;
esac
