#!/bin/sh
# Runs the fuzz targets of log-core (log-core/fuzz): inputs for everything that decodes what is on the disk, guided by coverage.
#
#   scripts/fuzz.sh [TARGET|all] [SECONDS]     seconds for each target, 5 unless said otherwise; 0: until stopped
#   scripts/fuzz.sh replay TARGET FILE         runs one input again, with a backtrace
#
# An input that makes a target panic, take more than ten seconds or too much memory is kept in target/fuzz/findings, and tried first
# from then on. What else was learnt is in target/fuzz/corpus, so that each run goes on where the last one ended. MAINSTEM_FUZZ_SEED
# sets the seed of the random numbers, which is printed.
set -eu
cd "$(dirname "$0")/.."

all="batch codec journal offsets schemas segment recovery inspect"
out=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
program=$out/$host/fuzz/fuzz

# libFuzzer comes with nightly compilers; on a stable one these are the flags that put its counters in. They need --target, so that
# build scripts go without them.
build() {
    coverage="-Cpasses=sancov-module"
    for option in level=4 inline-8bit-counters pc-table trace-compares; do
        coverage="$coverage -Cllvm-args=-sanitizer-coverage-$option"
    done
    RUSTFLAGS="${RUSTFLAGS:-} $coverage" "${CARGO:-cargo}" build --package log-core --profile fuzz --features fuzzing --bin fuzz \
        --target "$host" --target-dir "$out"
}

# The program with its limits: target, then options of libFuzzer. Its own limit for one allocation works with a sanitizer alone, so the
# address space is limited instead: 1 GiB, of which threads take little with one arena.
run() {
    memory=/dev/shm
    [ -w "$memory" ] || memory=${TMPDIR:-/tmp}
    folder=$(mktemp -d "$memory/mainstem-fuzz.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT TERM
    target=$1
    shift
    status=0
    (
        ulimit -c 0
        ulimit -v 1048576
        TMPDIR=$folder MALLOC_ARENA_MAX=1 MAINSTEM_FUZZ_TARGET=$target MAINSTEM_FUZZ_SEEDS=${seeds:-$folder/seeds} \
            exec "$program" -timeout=10 -rss_limit_mb=512 "$@"
    ) || status=$?
    return $status
}

fuzz() { # target, seconds
    corpus=$out/corpus/$1 findings=$out/findings/$1 log=$out/$1.log
    # The program writes its seeds there before libFuzzer reads them.
    seeds=$out/seeds/$1
    rm -rf "$seeds"
    mkdir -p "$corpus" "$findings" "$seeds"
    seed=${MAINSTEM_FUZZ_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
    echo "fuzz: $1 begins, seed $seed"
    if (run "$1" -max_total_time="$2" -seed="$seed" -artifact_prefix="$findings/" "$corpus" "$seeds" "$findings") >"$log" 2>&1; then
        echo "fuzz: $1: $(sed -n 's/^#\([0-9]*\).DONE *\(cov: [0-9]*\).*/\1 inputs, \2/p' "$log")"
        return
    fi
    found=$(sed -n 's/.*Test unit written to //p; s/^Running: //p' "$log" | tail -1)
    case $found in
    */timeout-*)
        # A machine that stands still for a while looks the same: an input that takes its time again is one.
        if (run "$1" "$found") >"$log" 2>&1; then
            echo "fuzz: $1: $found took more than ten seconds once, and not again"
            return
        fi ;;
    esac
    echo "fuzz: $1 failed (all of it: $log):" >&2
    grep -A 3 -E 'panicked at|memory allocation of|ERROR: libFuzzer' "$log" | head -20 >&2 || tail -5 "$log" >&2
    echo "fuzz: the input is kept: ${found:-none}" >&2
    [ -z "$found" ] || echo "fuzz: run it again: scripts/fuzz.sh replay $1 $found" >&2
    return 1
}

case ${1:-all} in
replay)
    build
    export RUST_BACKTRACE=1
    run "$2" "$3" ;;
--built) # one of several that run beside each other
    fuzz "$2" "$3" ;;
all)
    build
    at_a_time=$(nproc)
    # Of those without an end, none would come after the first ones.
    [ "${2:-5}" != 0 ] || at_a_time=0
    printf '%s\n' $all | xargs -P "$at_a_time" -I '{}' scripts/fuzz.sh --built '{}' "${2:-5}" ;;
*)
    case " $all " in
    *" $1 "*) ;;
    *)
        echo "fuzz: unknown: $1; there are: $all" >&2
        exit 2 ;;
    esac
    build
    fuzz "$1" "${2:-5}" ;;
esac
