#!/usr/bin/env bash
# All benches run, each for a moment. What they measure is for a quiet machine. The peers are a package of their
# own, with its own lock file.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --all-features --bench throughput --bench hedge -- --test
ROUNDS=1 cargo bench --all-features --bench throughput -- ratios
target=${CARGO_TARGET_DIR:-$PWD/target}/peers
CARGO_TARGET_DIR=$target cargo run --release --locked --manifest-path benches/peers/Cargo.toml -- --smoke
