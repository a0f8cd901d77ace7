#!/usr/bin/env bash
# Undefined behaviour as Miri sees it (aliasing, provenance, uninitialised memory, data races), in the unit tests of the
# engine's parts and in whole stages that borrow. In the form with fences, as Miri knows no membarrier. What runs many
# thousand items, or ends by a clock, is too slow for it. Needs a nightly with `miri` and `rust-src`; not part of .ci/run.
#
#     ci/miri.sh [ARGS OF cargo test..]     by default the tests below, some 20 minutes
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
parts=(flat runtime::event runtime::context runtime::biased runtime::gauge ordered::signals ordered::core ordered::reorder
    keyed hedge)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
miri --lib -- "${parts[@]}" | tee "$log"
grep -qE '^test result: ok\. [1-9]' "$log" || { echo "miri: no test of the library was run" >&2; exit 1; }
miri --test stages -- --test-threads=1 stage::borrow:: stage::scope:: --skip terminal_calls_agree_with_std \
    par::push::a_scope_lends stage::in_flight_weight::the_weight_may_borrow stage::parked_weight::the_weight_may_borrow
miri --test streams -- --test-threads=1 tee_into::unlike tee_into::items_are_cloned ready_chunks::what_is_there \
    recv::nothing_is_taken recv::one_that_was_lent
