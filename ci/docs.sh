#!/usr/bin/env bash
# The documentation builds without a warning: no broken link, no missing page; for users, and for who reads the source.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTDOCFLAGS="-D warnings"
cargo doc --no-deps --all-features
cargo doc --no-deps --all-features --document-private-items --target-dir "${CARGO_TARGET_DIR:-target}/private-docs"
