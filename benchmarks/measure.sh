#!/usr/bin/env bash
# The figures of benchmarks/README.md: the debias-edit suite computed anew RUNS times.
#
#     benchmarks/measure.sh [RUNS]
#
# Prints one line per cell and run: model, task, editor, records, and seconds per record for
# editing and for scoring (summed over worker threads), then wall seconds and peak MiB of the run.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for run in $(seq "${1:-3}"); do
    start=$(date +%s.%N)
    target/release/bench run --suite debias-edit --fresh --out "$out" --json > "$out/run.json" 2> "$out/log"
    end=$(date +%s.%N)
    jq -r --arg run "$run" --argjson wall "$(echo "$end - $start" | bc)" '
        (.cells[] | [$run, .model, .task, .editor, .n, .cost.edit_s / .n, .cost.score_s / .n]),
        [$run, "wall_s", $wall, "peak_mib", ([.cells[].cost.peak_bytes] | max / 1048576)]
        | map(if type == "number" then (. * 10000 | round / 10000) else . end) | @tsv' "$out/run.json"
done
