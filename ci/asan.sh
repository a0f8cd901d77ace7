#!/usr/bin/env bash
# The whole test suite under AddressSanitizer with LeakSanitizer: a use after free, after return or out of bounds,
# a double free, a leak. On the stable toolchain, which takes the flag with RUSTC_BOOTSTRAP. Not part of .ci/run.
#
#     ci/asan.sh [lib] [TEST FILES..]     all by default
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/suite.bash

export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}"
# Threads of a pool that is never dropped (the global one) are not leaks: their handles are reachable.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1}
export LSAN_OPTIONS="suppressions=$PWD/ci/lsan.supp print_suppressions=0 ${LSAN_OPTIONS:-}"
export FANFOLD_SLOW=${FANFOLD_SLOW:-4}
run asan --target x86_64-unknown-linux-gnu --target-dir "${CARGO_TARGET_DIR:-target}/asan" --
