#!/usr/bin/env bash
# Random pipelines against the sequential oracle, in release, on a machine that is kept busy: first with the
# kernel's barriers, then with ordinary fences. A failure names its seed; `--seed N` runs that pipeline alone, a
# hundred times. `--tests ROUNDS` runs all tests over and over instead. Not part of .ci/run, which runs the
# pipelines for some seconds only.
#
#     ci/stress.sh [MINUTES]            10 by default, half of them for each form
#     ci/stress.sh --seed N
#     ci/stress.sh --tests [ROUNDS]     10 by default
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/programs.bash

target=${CARGO_TARGET_DIR:-target}
load=()
cleanup() {
    if ((${#load[@]})); then kill "${load[@]}" 2>/dev/null || true; fi
}
trap cleanup EXIT

in_both_forms() {
    "$@"
    RUSTFLAGS="--cfg fanfold_fence ${RUSTFLAGS:-}" "$@" --target-dir "$target/fence"
}

# As many busy loops as cores, at the lowest priority: enough to preempt anybody anywhere.
keep_busy() {
    for ((i = 0; i < $(nproc); i++)); do
        nice -n 19 bash -c 'while :; do :; done' &
        load+=($!)
    done
}

case ${1:-10} in
--seed)
    cargo test --release --all-features --test stress -- --seed "$2"
    ;;
--tests)
    rounds=${2:-10}
    mapfile -t tests < <(runnable)
    in_both_forms cargo test --release --all-features --lib "${tests[@]}" --no-run
    keep_busy
    for ((round = 1; round <= rounds; round++)); do
        echo "stress: round $round of $rounds"
        in_both_forms cargo test --release --all-features --lib "${tests[@]}" --quiet
    done
    echo "stress: $rounds rounds passed in both forms"
    ;;
*)
    seconds=$((${1:-10} * 30))
    in_both_forms cargo test --release --all-features --test stress --no-run
    keep_busy
    cargo test --release --all-features --test stress -- --seconds "$seconds"
    RUSTFLAGS="--cfg fanfold_fence ${RUSTFLAGS:-}" \
        cargo test --release --all-features --test stress --target-dir "$target/fence" -- --seconds "$seconds"
    ;;
esac
