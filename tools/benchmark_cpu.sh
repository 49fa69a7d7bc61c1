#!/usr/bin/env bash
# Every benchmark of one CPU core beside transformers, TRL and llama.cpp, from
# the root of the repository; some hours with the demo's model on an idle
# machine:
#
#   tools/benchmark_cpu.sh
#
# Sampling and DPO in float32 and bfloat16 (DPO of short pairs, and of pairs as
# long as the paper's), layouts of pairs, and the growth of costs, each in a JSON
# file of docs/benchmarks/cpu, and docs/benchmarks/cpu.md made from them. Ends with 1 if a part failed. Needs the extra parity; llama.cpp
# takes part where LLAMA_SERVER (else llama-server on PATH) and GGUF (the model
# in BF16) are there, see docs/benchmarks/README.md.
#
# Of SLOTS, BATCHES (of transformers) and PEER_SLOTS (of llama.cpp) each side
# gets its best, found in the same way: a pass over every PROBE_EVERY-th question
# of the work. Then both take turns, REPEATS (5) times.
#
# PARTS (some of the names below), MODEL or DIMENSIONS (a --shape), PYTHON and
# OUT (the folder) may be set too; a tiny trial:
#
#   DIMENSIONS=tiny OUT=/tmp/benchmarks tools/benchmark_cpu.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all='startup_first startup_later training_float32 training_bfloat16'
all+=' training_float32_paper training_bfloat16_paper'
all+=' sampling_float32 sampling_bfloat16 sampling_bfloat16_llama_cpp'
parts=${PARTS:-$all layouts cost_growth}
dimensions=${DIMENSIONS:-}
model=${MODEL:-models/smollm2-135m-instruct}
repeats=${REPEATS:-5}
python=${PYTHON:-python}
llama_server=${LLAMA_SERVER:-llama-server}
gguf=${GGUF:-}
slots=${SLOTS:-12,24,48}
batches=${BATCHES:-8,16,32,48,96}
peer_slots=${PEER_SLOTS:-8,16,32,48}
probe_every=${PROBE_EVERY:-1}
out=${OUT:-docs/benchmarks}
# The first start finds no program in it; the later one those that took half a
# second or more to compile.
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT

work=(--model="$model" --pairs=8)
long=(--lengths=paper)
small=(--requests=24 --slots=24)
growth=()
layouts=(--model="$model" --repeats="$repeats")
if [[ -n $dimensions ]]; then
  work=(--shape="$dimensions" --lengths=tiny --max_new_tokens=6 --pairs=4)
  work+=(--requests=12)
  long=()
  small=(--requests=6 --slots=6)
  slots=3,6 batches=3,6 peer_slots=3,6
  layouts=(--shape="$dimensions" --pair_lengths='9:5,5:9' --short_pairs=4)
  growth=(--requests='12,24' --samples='90,180')
fi
sampling=(--job=sampling --slots="$slots" --probe_every="$probe_every")
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
      run+=("${sampling[@]}" --compare=llama_cpp)
      run+=(--peer_batches="$peer_slots")
      run+=(--llama_server="$llama_server" --gguf="$gguf") ;;
    sampling_*)
      run+=("${sampling[@]}" --compare=hf --peer_batches="$batches") ;;
    training_*_paper)
      run+=("${long[@]}" --job=training --compare=trl) ;;
    training_*) run+=(--job=training --compare=trl) ;;
    layouts) run=(benchmark_layouts "${layouts[@]}") ;;
    cost_growth) run=(cost_growth "${growth[@]}") ;;
  esac
  env "${environment[@]}" "$python" -m "tools.${run[0]}" "${run[@]:1}" \
    --json="$out/cpu/$part.json" || failed=1
done

"$python" -m tools.benchmark_page --folder="$out/cpu" --page="$out/cpu.md"
exit "$failed"
