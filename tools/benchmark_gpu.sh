#!/usr/bin/env bash
# Every benchmark of one GPU in one run of under 10 minutes, from the root of
# the repository:
#
#   tools/benchmark_gpu.sh
#
# Sampling and DPO with the lengths of the paper, Llama3-8B's dimensions, random
# weights in bfloat16; then beside transformers and TRL where torch is
# installed. Writes docs/benchmarks/<date>-<device>.json: the result of each
# part, or its exit status and last words. Ends with 1 if a part failed: one that
# compiled for too long finds its programs in the cache the next time.
#
# Slots and memory against time are chosen as in a run, by what the device has.
# Training compiles three lengths of rows, half as many as a long run, so it pads
# more. Transformers has one batch here, not its best of several.
#
# DIMENSIONS (a --shape of tools.benchmark), DEVICE (gpu or cpu), PYTHON and OUT
# (the folder) may be set; a tiny trial:
#
#   DIMENSIONS=tiny DEVICE=cpu tools/benchmark_gpu.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dimensions=${DIMENSIONS:-llama3-8b}
device=${DEVICE:-gpu}
python=${PYTHON:-python}
out=${OUT:-docs/benchmarks}
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

if [[ $dimensions == tiny ]]; then
  size=(--lengths=tiny --max_new_tokens=6 --dtype=float32)
  requests=30 slots=12 pairs=4 peer_requests=12 peer_slots=6 peer_batch=6
else
  size=(--lengths=paper --max_new_tokens=512 --dtype=bfloat16)
  # The peers' parts do less: both sides have the same work there.
  requests=2001 slots=auto pairs=64
  peer_requests=192 peer_slots=auto peer_batch=96
fi
training=(--job=training --batch=1 --remat=auto --row_shapes=3)

failed=0

# part NAME SECONDS FLAG...: one benchmark within its time.
part() {
  local name=$1 seconds=$2 status=0
  shift 2
  echo "=== $name"
  timeout --kill-after=5 "$seconds" "$python" -m tools.benchmark \
    --device="$device" --shape="$dimensions" "${size[@]}" \
    --json="$parts/$name.json" "$@" 2>&1 | tee "$parts/$name.log" || status=$?
  if ((status)); then
    echo "=== $name: failed with status $status (124: over $seconds s)"
    echo "$status" >"$parts/$name.status"
    failed=1
  fi
}

part sampling 150 --job=sampling --requests="$requests" --slots="$slots" \
  --repeats=1
part training 140 "${training[@]}" --pairs="$pairs" --repeats=2

# left_out NAME PACKAGES: says so, here and in the file.
left_out() {
  echo "=== $1: left out, it needs $2" | tee "$parts/$1.log"
  echo 0 >"$parts/$1.status"
}

if "$python" -c 'import torch, transformers' 2>/dev/null; then
  part sampling_hf 160 --job=sampling --compare=hf --repeats=2 \
    --requests="$peer_requests" --slots="$peer_slots" \
    --peer_batches="$peer_batch"
else
  left_out sampling_hf 'torch and transformers'
fi
if "$python" -c 'import datasets, peft, torch, trl' 2>/dev/null; then
  part training_trl 120 "${training[@]}" --compare=trl --repeats=3 \
    --pairs="$((pairs / 2))"
else
  left_out training_trl 'datasets, peft, torch and trl'
fi

"$python" - "$parts" "$out" <<'PYTHON'
import datetime, json, pathlib, re, sys

parts, out = map(pathlib.Path, sys.argv[1:])
found = {}
for log in sorted(parts.glob('*.log')):
  result = log.with_suffix('.json')
  if result.exists():
    found[log.stem] = json.loads(result.read_text())
  else:
    found[log.stem] = {
        'status': int(log.with_suffix('.status').read_text()),
        'output': log.read_text(errors='replace')[-4000:],
    }
names = [r['device']['name'] for r in found.values() if 'device' in r]
if not names:
  sys.exit('=== nothing was measured, nothing is written')
device = re.sub(r'\W+', '-', names[0]).strip('-').lower()
today = datetime.datetime.now(datetime.timezone.utc).date()
out.mkdir(parents=True, exist_ok=True)
path = out / f'{today}-{device}.json'
path.write_text(json.dumps(found, indent=2) + '\n')
print(f'=== {path}')
PYTHON
exit "$failed"
