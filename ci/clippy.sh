#!/usr/bin/env bash
# No warning in any target: library, tests, benches, examples. The lints are in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo clippy --all-targets --test bad_programs --all-features -- -D warnings
