#!/usr/bin/env bash
# Every benchmark of one CPU core beside transformers, TRL and llama.cpp, from
# the root of the repository; about 45 minutes with the demo's model on an idle
# machine:
#
#   tools/benchmark_cpu.sh
#
# Sampling and DPO in float32 and bfloat16, and the growth of costs, each in a
# JSON file of docs/benchmarks/cpu, and docs/benchmarks/cpu.md made from them.
# Ends with 1 if a part failed. Needs the extra parity; llama.cpp takes part
# where LLAMA_SERVER (else llama-server on PATH) and GGUF (the model in BF16)
# are there, see docs/benchmarks/README.md.
#
# PARTS (some of the names below), MODEL or DIMENSIONS (a --shape), REPEATS,
# PYTHON and OUT (the folder) may be set; a tiny trial:
#
#   DIMENSIONS=tiny OUT=/tmp/benchmarks tools/benchmark_cpu.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all='startup_first startup_later training_float32 training_bfloat16'
all+=' sampling_float32 sampling_bfloat16 sampling_bfloat16_llama_cpp'
parts=${PARTS:-$all cost_growth}
dimensions=${DIMENSIONS:-}
model=${MODEL:-models/smollm2-135m-instruct}
repeats=${REPEATS:-2}
python=${PYTHON:-python}
llama_server=${LLAMA_SERVER:-llama-server}
gguf=${GGUF:-}
out=${OUT:-docs/benchmarks}
# The first start finds no program in it, the later one all of them.
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT

work=(--model="$model" --pairs=8 --slots=24 --peer_batches=48)
small=(--requests=24)
slots=8,16,32
growth=()
if [[ -n $dimensions ]]; then
  work=(--shape="$dimensions" --lengths=tiny --max_new_tokens=6 --pairs=4)
  work+=(--requests=12 --slots=6 --peer_batches=6)
  small=(--requests=6)
  growth=(--requests=12,24 --samples=90,180)
fi
mkdir -p "$out/cpu"

failed=0
for part in $parts; do
  echo "=== $part"
  dtype=${part#*_}
  run=(benchmark "${work[@]}" --dtype="${dtype%%_*}" --repeats="$repeats")
  environment=()
  case $part in
    startup_*)
      run=(benchmark "${work[@]}" "${small[@]}" --repeats=1)
      environment=(JAX_COMPILATION_CACHE_DIR="$cache") ;;
    *_llama_cpp)
      if ! command -v "$llama_server" >/dev/null || [[ ! -f $gguf ]]; then
        echo "skipped: $llama_server or GGUF='$gguf' is not there"
        continue
      fi
      run+=(--job=sampling --compare=llama_cpp --peer_batches="$slots")
      run+=(--llama_server="$llama_server" --gguf="$gguf") ;;
    sampling_*) run+=(--job=sampling --compare=hf) ;;
    training_*) run+=(--job=training --compare=trl) ;;
    cost_growth) run=(cost_growth "${growth[@]}") ;;
  esac
  env "${environment[@]}" "$python" -m "tools.${run[0]}" "${run[@]:1}" \
    --json="$out/cpu/$part.json" || failed=1
done

"$python" -m tools.benchmark_page --folder="$out/cpu" --page="$out/cpu.md"
exit "$failed"
