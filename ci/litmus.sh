#!/usr/bin/env bash
# The hand-shakes in their light form on this machine, each so many seconds with the barrier, after it has been seen to
# go wrong without (src/ordered/litmus.rs). Needs two cores, with nothing else on them. ci/test.sh has a third of a second of each.
#
#     ci/litmus.sh [SECONDS]            60 by default
set -euo pipefail
cd "$(dirname "$0")/.."

FANFOLD_LITMUS=${1:-60} cargo test --release --all-features --lib litmus -- --ignored --nocapture --test-threads=1
