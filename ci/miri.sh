#!/usr/bin/env bash
# Undefined behaviour as Miri sees it (aliasing, provenance, uninitialised memory, data races), in the unit tests of the
# engine's parts and in whole stages that borrow. In the form with fences, as Miri knows no membarrier. What runs many
# thousand items, or ends by a clock, is too slow for it. Needs a nightly with `miri` and `rust-src`; not part of .ci/run.
#
#     ci/miri.sh [ARGS OF cargo test..]     by default the tests below, some 15 minutes
set -euo pipefail
cd "$(dirname "$0")/.."

# Leaks are for LeakSanitizer: threads of the global pool are alive when `main` returns.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks ${MIRIFLAGS:-}"
export RUSTFLAGS="--cfg fanfold_fence ${RUSTFLAGS:-}" FANFOLD_SLOW="${FANFOLD_SLOW:-100}"

miri() {
    cargo +nightly miri test --all-features --target-dir "${CARGO_TARGET_DIR:-target}/miri" "$@"
}

if (($#)); then
    miri "$@"
    exit
fi
parts=(bell context ctl desk keyed lent race reorder)
miri --lib -- "${parts[@]/#/engine::}"
miri --test stages -- --test-threads=1 borrow:: scope:: --skip terminal_calls_agree_with_std
