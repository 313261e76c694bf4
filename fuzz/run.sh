#!/usr/bin/env bash
# Builds the fuzz targets with coverage on stable Rust and runs each for SECONDS (60 unless told).
# Fails on a crash, a hang or too much memory, and prints the input's path.
# Needs a C++ compiler, for libFuzzer.
set -euo pipefail
seconds="${1:-60}"
cd "$(dirname "$0")"

# Instrumentation as `cargo fuzz --sanitizer none` asks for; nothing in it needs nightly.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../target/fuzz}"
host="$(rustc -vV | sed -n 's/^host: //p')"
# A named target, because build scripts must not be instrumented.
cargo build --release --locked --target "$host"

for target in safetensors pickle picture lines recipe; do
    binary="$CARGO_TARGET_DIR/$host/release/$target"
    work="$CARGO_TARGET_DIR/runs/$target"
    mkdir -p "$work/seeds" "$work/corpus"
    DEBIAS_FUZZ_SEEDS="$work/seeds" "$binary"
    printf '\n== fuzzing %s for %s s ==\n' "$target" "$seconds"
    log="$work/log"
    if ! "$binary" "$work/corpus" "$work/seeds" \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$work/" -print_final_stats=1 2>"$log"; then
        tail -n 60 "$log" >&2
        printf 'fuzzing %s failed\n' "$target" >&2
        exit 1
    fi
    # cov: edges of the program that were reached; ft: edges and counts.
    grep -E 'INITED|DONE|^stat::|^Done' "$log"
done
