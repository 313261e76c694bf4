#!/usr/bin/env bash
# Acceptance on a card: the same numbers as on the CPU, then time and memory on the shapes of the
# paper's models, beside plain PyTorch and transformers where they are installed, and beside what
# the card itself can do. Needs no internet and prints one table.
#
#     benchmarks/gpu.sh BENCH DIR
#
# BENCH is a binary made by `cuda/cargo build --release`, DIR has room for weights (22 GB, seeded,
# made on the spot). PYTHON names an interpreter with numpy. DEVICE=cpu SHAPES=tiny-opt,tiny-llama
# tries the script itself where there is no card; DEBIAS_BENCH_FIXTURES adds the golden cases.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
exec "${PYTHON:-python3}" "$(dirname "$0")/gpu.py" "$1" "$2" \
    --device "${DEVICE:-cuda}" --shapes "${SHAPES:-blip2-opt-2.7b,minigpt4-7b}"
