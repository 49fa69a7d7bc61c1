#!/usr/bin/env bash
# Every benchmark of one CPU core beside transformers and TRL, from the root of
# the repository; about 30 minutes with the demo's model on an idle machine:
#
#   tools/benchmark_cpu.sh
#
# Sampling and DPO in float32 and bfloat16, and the growth of costs, each in a
# JSON file of docs/benchmarks/cpu, and docs/benchmarks/cpu.md made from them.
# Ends with 1 if a part failed. Needs the extra parity.
#
# PARTS (some of the names below), MODEL or DIMENSIONS (a --shape), REPEATS,
# PYTHON and OUT (the folder) may be set; a tiny trial:
#
#   DIMENSIONS=tiny OUT=/tmp/benchmarks tools/benchmark_cpu.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all='sampling_float32 sampling_bfloat16 training_float32 training_bfloat16'
parts=${PARTS:-$all cost_growth}
dimensions=${DIMENSIONS:-}
model=${MODEL:-models/smollm2-135m-instruct}
repeats=${REPEATS:-3}
python=${PYTHON:-python}
out=${OUT:-docs/benchmarks}

work=(--model="$model" --pairs=12 --slots=24 --peer_batches=48)
growth=()
if [[ -n $dimensions ]]; then
  work=(--shape="$dimensions" --lengths=tiny --max_new_tokens=6 --pairs=4)
  work+=(--requests=12 --slots=6 --peer_batches=6)
  growth=(--requests=12,24 --samples=90,180)
fi
mkdir -p "$out/cpu"

failed=0
for part in $parts; do
  echo "=== $part"
  json="$out/cpu/$part.json"
  case $part in
    sampling_*) run=(benchmark --job=sampling --compare=hf) ;;
    training_*) run=(benchmark --job=training --compare=trl) ;;
    cost_growth) run=(cost_growth "${growth[@]}") ;;
  esac
  if [[ $part != cost_growth ]]; then
    run+=(--dtype="${part#*_}" --repeats="$repeats" "${work[@]}")
  fi
  "$python" -m "tools.${run[0]}" "${run[@]:1}" --json="$json" || failed=1
done

"$python" -m tools.benchmark_page --folder="$out/cpu" --page="$out/cpu.md"
exit "$failed"
