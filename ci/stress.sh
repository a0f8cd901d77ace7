#!/usr/bin/env bash
# All tests in release, over and over, on a machine that is kept busy: first with the kernel's barriers, then
# with ordinary fences. Not part of .ci/run.
#
#     ci/stress.sh [ROUNDS]     10 by default
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-10}
target=${CARGO_TARGET_DIR:-target}
load=()
cleanup() {
    if ((${#load[@]})); then kill "${load[@]}" 2>/dev/null || true; fi
}
trap cleanup EXIT

cargo test --release --tests --no-run
RUSTFLAGS="--cfg fanfold_fence ${RUSTFLAGS:-}" cargo test --release --tests --no-run --target-dir "$target/fence"

# As many busy loops as cores, at the lowest priority: enough to preempt anybody anywhere.
for ((i = 0; i < $(nproc); i++)); do
    nice -n 19 bash -c 'while :; do :; done' &
    load+=($!)
done

for ((round = 1; round <= rounds; round++)); do
    echo "stress: round $round of $rounds"
    cargo test --release --tests --quiet
    RUSTFLAGS="--cfg fanfold_fence ${RUSTFLAGS:-}" cargo test --release --tests --quiet --target-dir "$target/fence"
done
echo "stress: $rounds rounds passed in both forms"
