#!/usr/bin/env bash
# Published shapes against transformers, on the same folders, alternating, RUNS times each:
# BLIP-2 OPT-2.7B (bf16, 7.5 GB) scoring one picture with two answers, and GPT-2 small scoring 512
# sentences. Prints one line per run: what, side, seconds, tokens per second or seconds until the
# model is ready, peak GiB.
#
#     benchmarks/measure-models.sh DIR [RUNS]
#
# DIR keeps the checkpoints (8 GB). PYTHON names an interpreter with torch and transformers.
set -euo pipefail
dir="$(mkdir -p "$1" && cd "$1" && pwd)"
runs="${2:-3}"
python="${PYTHON:-python3}"
cd "$(dirname "$0")/.."
cargo build --release --locked
reference() { "$python" benchmarks/reference.py "$@" 2> /dev/null; }
[ -f "$dir/blip2/questions.jsonl" ] || reference make blip2-opt-2.7b "$dir/blip2"
[ -f "$dir/gpt2/model.safetensors" ] || reference make gpt2 "$dir/gpt2"
reference sentences "$dir/sentences.jsonl"

# ours NAME ARGS...: wall seconds, seconds until the model is ready, peak GiB.
ours() {
    /usr/bin/time -f '%e %M' -o "$dir/time" target/release/bench score -v "${@:2}" \
        > "$dir/scores.jsonl" 2> "$dir/log"
    ready=$(sed -n 's/^model ready after \(.*\) s$/\1/p' "$dir/log")
    awk -v name="$1" -v ready="$ready" '{
        printf "%s ours: %.2f s, model ready after %s s, peak %.2f GiB\n", name, $1, ready, $2 / 1048576
    }' "$dir/time"
}
for _ in $(seq "$runs"); do
    ours "blip2-opt-2.7b" --model "$dir/blip2" --images "$dir/blip2" --raw "$dir/blip2/questions.jsonl"
    echo "blip2-opt-2.7b transformers: $(reference score-image "$dir/blip2")"
    ours "gpt2" --model "$dir/gpt2" --raw "$dir/sentences.jsonl"
    echo "gpt2 transformers: $(reference score-text "$dir/gpt2" "$dir/sentences.jsonl")"
done
