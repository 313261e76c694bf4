#!/usr/bin/env bash
# `bench merge` against mergekit on the same recipes, alternating, RUNS times each: two fine-tuned
# 1.16 GB bf16 LLaMA-shaped checkpoints and their base. Prints one line per run: method, side, wall
# and CPU seconds, peak memory. Then a plain copy of as many bytes, and the cost per parameter from
# 0.1 to (with LARGE=1) 15 GB.
#
#     benchmarks/measure-merge.sh DIR [RUNS] [METHOD...]
#
# DIR keeps the checkpoints (3.5 GB; LARGE=1: 64 GB). PYTHON names an interpreter with mergekit 0.1.5.
set -euo pipefail
dir="$(mkdir -p "$1" && cd "$1" && pwd)"
runs="${2:-3}"
methods=("${@:3}")
[ ${#methods[@]} -gt 0 ] || methods=(linear nearswap slerp karcher dare_ties ties della)
python="${PYTHON:-python3}"
cd "$(dirname "$0")/.."
cargo build --release --locked
"$python" benchmarks/merge.py make "$dir/medium" 10

# ours NAME RECIPE: wall, CPU, anonymous and resident memory.
ours() {
    rm -rf "$dir/out"
    /usr/bin/time -f '%U %S' -o "$dir/time" target/release/bench merge "$2" "$dir/out" --json > "$dir/json"
    "$python" - "$1" "$dir/json" "$dir/time" << 'PY'
import json, sys
found = json.load(open(sys.argv[2]))
cpu = sum(map(float, open(sys.argv[3]).read().split()))
mib = lambda key: found[key] / 1048576
print(f"{sys.argv[1]} ours: {found['wall_s']:.2f} s wall, {cpu:.2f} s CPU, {mib('peak_bytes'):.0f} MiB anonymous, "
      f"{mib('peak_resident_bytes'):.0f} MiB with mapped files, "
      f"{1e9 * found['wall_s'] / found['parameters']:.2f} ns per parameter")
PY
}
theirs() {
    rm -rf "$dir/out"
    read -r wall cpu peak < <("$python" benchmarks/merge.py run "$2" "$dir/out")
    echo "$1 mergekit: $wall s wall, $cpu s CPU, $peak GiB resident"
}
# copied NAME MODEL...: reads every input once, and writes as many bytes as the output has.
copied() {
    rm -rf "$dir/out"
    mkdir "$dir/out"
    local began ended
    began=$(date +%s.%N)
    cat "${@:3}" > /dev/null
    cp "$3" "$dir/out/copy"
    ended=$(date +%s.%N)
    echo "$1 plain copy: $(echo "$ended - $began" | bc) s wall"
    rm -rf "$dir/out"
}
cat "$dir"/medium/*/model.safetensors > /dev/null
for method in "${methods[@]}"; do
    for _ in $(seq "$runs"); do
        ours "$method" "$dir/medium/$method.yaml"
        [ -n "${OURS_ONLY:-}" ] || theirs "$method" "$dir/medium/$method.yaml"
    done
done
for _ in $(seq "$runs"); do
    copied "two inputs" x "$dir"/medium/{ft_a,ft_b}/model.safetensors
    copied "three inputs" x "$dir"/medium/{base,ft_a,ft_b}/model.safetensors
done
"$python" benchmarks/merge.py make "$dir/small" 1 --hidden 1024 --inner 2816 --vocab 16000
for method in linear ties; do
    ours "$method, 0.1 GB" "$dir/small/$method.yaml"
done
if [ -n "${LARGE:-}" ]; then
    "$python" benchmarks/merge.py make "$dir/large" 42 --hidden 4096 --inner 11008
    for method in linear ties; do
        ours "$method, 15 GB" "$dir/large/$method.yaml"
    done
fi
rm -rf "$dir/out"
