#!/usr/bin/env bash
# The whole test suite under AddressSanitizer with LeakSanitizer: a use after free, after return or out of bounds,
# a double free, a leak. On the stable toolchain, which takes the flag with RUSTC_BOOTSTRAP. Not part of .ci/run.
#
#     ci/asan.sh [ARGS OF cargo test..]
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}"
# Threads of a pool that is never dropped (the global one) are not leaks: their handles are reachable.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1}
# `trybuild` starts compilers; they are not what is to be tested.
cargo test --all-features --lib --tests --target x86_64-unknown-linux-gnu --target-dir "${CARGO_TARGET_DIR:-target}/asan" \
    "$@" -- --skip the_bad_programs_do_not_compile --skip compiles_and_runs
echo "asan: no report"
