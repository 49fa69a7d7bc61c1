#!/usr/bin/env bash
# Kubernetes with GPUs, GKE for one: a JobSet with one pod per node.
#
#   IMAGE=registry/calm_jax:1 CLAIM=runs NODES=2 GPUS=8 \
#       launch/kubernetes.sh --config=configs/xcsqa.py \
#       --config.data.path=/runs/X-CSQA --workdir=/runs/xcsqa
#   kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name=calm,\
#   batch.kubernetes.io/job-completion-index=0
#   kubectl delete jobset calm
#
# All arguments go to calm_jax.main (README.md). The cluster needs JobSet 0.5 or
# later; launch/README.md has an image. DRY_RUN=1 prints what would be applied.
#
#   IMAGE        an image whose working folder is the repository, installed
#   CLAIM        a PersistentVolumeClaim that all pods may write (ReadWriteMany,
#                Filestore for one); mounted at /runs: data, model, --workdir
#   NODES GPUS   nodes, and GPUs on each; 1 and 8 when not given
#   NAME         of the JobSet; calm when not given
#   ACCELERATOR  on GKE the nodes' kind of GPU, nvidia-h100-80gb for one
#
# The secret hf-token with the key token, if there is one, is for Hugging Face.
#
# Costs    hours times NODES times GPUS, until the last stage ends. The floor of
#          the paper's two jobs with Llama3-8B is 1.0 H100-hours or 2.4
#          A100-hours in all; divide it by 0.35 to 0.79, what engines reach of
#          it (launch/README.md, also for what a finished run took).
# Writes   to --workdir, and downloaded models to /runs/huggingface.
# Stop     kubectl delete jobset: the run ends, and the same command goes on
#          from there. After a preemption or a failure of any pod all of them
#          are started again by themselves, at most 20 times.
set -euo pipefail

: "${IMAGE:?is not set: see the first lines of this script}"
: "${CLAIM:?is not set: see the first lines of this script}"
name=${NAME:-calm}
nodes=${NODES:-1}
gpus=${GPUS:-8}

# A text in YAML's single quotes.
quoted() {
  printf "'%s'" "${1//\'/\'\'}"
}

selector='{}'
if [[ ${ACCELERATOR:-} ]]; then
  selector="{cloud.google.com/gke-accelerator: $(quoted "$ACCELERATOR")}"
fi

arguments=
for argument in "$@"; do
  arguments+="
              - $(quoted "$argument")"
done

manifest() {
  cat <<EOF
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $(quoted "$name")
spec:
  network:
    enableDNSHostnames: true
  failurePolicy:
    maxRestarts: 20
  replicatedJobs:
  - name: host
    replicas: 1
    template:
      spec:
        completions: $nodes
        parallelism: $nodes
        completionMode: Indexed
        backoffLimit: 0
        template:
          spec:
            restartPolicy: Never
            # Time for the current step to end and to be saved.
            terminationGracePeriodSeconds: 120
            nodeSelector: $selector
            tolerations:
            - {key: nvidia.com/gpu, operator: Exists}
            containers:
            - name: calm
              image: $(quoted "$IMAGE")
              command:
              - bash
              - -c
              - >-
                exec python -m calm_jax.main "\$@"
                --coordinator="\$COORDINATOR" --num_processes="\$NUM_PROCESSES"
                --process_id="\$JOB_COMPLETION_INDEX"
              - calm_jax
              args:$arguments
              env:
              - name: COORDINATOR
                value: $(quoted "$name-host-0-0.$name:8476")
              - {name: NUM_PROCESSES, value: '$nodes'}
              # Fail where JAX cannot use the GPUs, and use all their memory.
              - {name: JAX_PLATFORMS, value: 'cuda,cpu'}
              - {name: XLA_PYTHON_CLIENT_MEM_FRACTION, value: '0.92'}
              - {name: PYTHONUNBUFFERED, value: '1'}
              - {name: HF_HOME, value: /runs/huggingface}
              - name: HF_TOKEN
                valueFrom:
                  secretKeyRef: {name: hf-token, key: token, optional: true}
              ports:
              - containerPort: 8476
              resources:
                limits: {nvidia.com/gpu: $gpus}
              volumeMounts:
              - {name: runs, mountPath: /runs}
              - {name: shm, mountPath: /dev/shm}
            volumes:
            - name: runs
              persistentVolumeClaim: {claimName: $(quoted "$CLAIM")}
            # GPUs of one node talk through it; the default is 64 MB.
            - name: shm
              emptyDir: {medium: Memory}
EOF
}

if [[ ${DRY_RUN:-} ]]; then
  manifest
else
  manifest | kubectl apply --filename=-
fi
