#!/usr/bin/env bash
# Slurm: one process on each node drives all GPUs of the node.
#
#   sbatch --nodes=2 launch/slurm.sh --config=configs/xcsqa.py \
#       --config.data.path=/shared/X-CSQA --workdir=/shared/runs/xcsqa
#
# From the root of the repository, its environment active. Options of sbatch
# stand before the script and win over the lines below; all that follows it goes
# to calm_jax.main (README.md). The repository, its environment, the model, the
# data and --workdir must be on a file system that all nodes share.
#
#   PYTHON=...   another Python than that of the active environment
#
# Costs    hours times nodes times GPUs per node. The floor of the paper's two
#          jobs with Llama3-8B is 1.0 H100-hours or 2.4 A100-hours in all;
#          divide it by 0.35 to 0.79, what engines reach of it
#          (launch/README.md, also for what a finished run took).
# Writes   to --workdir only, and calm-JOBID.out here.
# Stop     scancel JOBID: the run ends, and the same sbatch goes on from there.
#          5 minutes before --time is over, and when the job is preempted, it
#          saves, ends and queues itself again, at most 50 times.
#SBATCH --job-name=calm
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=calm-%j.out
set -euo pipefail

readonly most_restarts=50
: "${SLURM_JOB_ID:?is not set: submit this script with sbatch}"

stopped=
# Through Slurm: from a SIGTERM of its own, srun would make a SIGKILL.
trap 'stopped=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

# JAX knows Slurm, but takes it that every process has one GPU: all of them.
if [[ ${SLURM_GPUS_ON_NODE:-} ]]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 "$((SLURM_GPUS_ON_NODE - 1))")
  export JAX_LOCAL_DEVICE_IDS
fi
# Fail where JAX cannot use the GPUs: by default it would go on without them.
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu}
# Nothing else runs there: JAX would leave a quarter of the memory unused.
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}
export PYTHONUNBUFFERED=1
# srun does not take this over from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

srun --kill-on-bad-exit=1 \
  "${PYTHON:-python}" -m calm_jax.main "$@" --coordinator=auto &
step=$!
status=0
wait "$step" || status=$?
if [[ $stopped ]]; then
  # It was the signal that ended the wait, not the step.
  status=0
  wait "$step" || status=$?
fi

# 143: preemption reaches the processes, not this script. (scancel ends both, so
# that a cancelled job does not come back.)
if ((status)) && { [[ $stopped ]] || ((status == 143)); }; then
  if ((${SLURM_RESTART_COUNT:-0} < most_restarts)); then
    echo "Stopped with status $status; queued again."
    scontrol requeue "$SLURM_JOB_ID"
  else
    echo "Stopped with status $status after $most_restarts restarts: is the" \
      'time too short for a shard (config.sample.shard), or a checkpoint?'
  fi
fi
exit "$status"
