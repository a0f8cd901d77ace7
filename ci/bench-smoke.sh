#!/usr/bin/env bash
# All benches run, each for a moment. What they measure is for a quiet machine. The peers and the simulator are packages
# of their own, with their own lock files.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --all-features --bench throughput --bench hedge -- --test
ROUNDS=1 cargo bench --all-features --bench throughput -- ratios
peers=${CARGO_TARGET_DIR:-$PWD/target}/peers
CARGO_TARGET_DIR=$peers cargo run --release --locked --manifest-path benches/peers/Cargo.toml -- --smoke
CARGO_TARGET_DIR=$peers cargo run --release --locked --manifest-path benches/peers/Cargo.toml -- --smoke --busy 1 1us
# The pictures of docs/faster.md. No verdict is checked: that takes a second for each point.
CARGO_TARGET_DIR=$peers cargo run --release --locked --manifest-path benches/peers/Cargo.toml --example faster -- --smoke
# The simulator's tests: plants with known answers, and the rows as they were measured on two cores. Measures nothing.
scale=${CARGO_TARGET_DIR:-$PWD/target}/scale
CARGO_TARGET_DIR=$scale cargo test --release --locked --manifest-path benches/scale/Cargo.toml
