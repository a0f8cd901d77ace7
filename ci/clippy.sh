#!/usr/bin/env bash
# No warning in any target: library, tests, benches, examples. The lints are in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/programs.bash

mapfile -t tests < <(programs)
cargo clippy --all-targets "${tests[@]}" --all-features -- -D warnings
