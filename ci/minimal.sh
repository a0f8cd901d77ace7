#!/usr/bin/env bash
# The library builds with the oldest versions of its dependencies that Cargo.toml allows, with no feature and with
# all. What only tests and benches use does not count: it would ask for newer ones. cargo can do that on a stable
# toolchain with RUSTC_BOOTSTRAP.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/minimal
crate=$(mktemp -d)
trap 'rm -rf "$crate"' EXIT
awk '/^\[/ { keep = !/^\[dev-dependencies\]|^\[\[/ } keep' Cargo.toml >"$crate/Cargo.toml"
cp -r src docs README.md "$crate/"
export RUSTC_BOOTSTRAP=1
cd "$crate"
cargo update -q -Z direct-minimal-versions
cargo check -q --lib --target-dir "$target"
cargo check -q --lib --target-dir "$target" --all-features
echo "minimal: $(cargo tree -q -e normal --all-features --depth 1 --prefix none | tail -n +2 | paste -sd, | sed 's/,/, /g')"
