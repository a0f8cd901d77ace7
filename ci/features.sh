#!/usr/bin/env bash
# Every set of features that a user may choose compiles: none, each by itself, all. And so does the form of
# the barrier that systems without `membarrier` have. A program that uses the crate gets four more packages into its
# lock file, whatever the system.
set -euo pipefail
cd "$(dirname "$0")/.."

check() {
    echo "features: cargo check $*"
    cargo check --lib "$@"
}

mapfile -t features < <(
    awk '/^\[/ { inside = ($0 == "[features]") } inside && /^[A-Za-z0-9_-]+[[:space:]]*=/ { print $1 }' Cargo.toml | grep -vx default || true
)
check --no-default-features
for feature in "${features[@]}"; do
    check --no-default-features --features "$feature"
done
check --all-features
RUSTFLAGS="--cfg fanfold_fence" check --target-dir "${CARGO_TARGET_DIR:-target}/fence"
echo "features: ${#features[@]} beside none and all"

packages=$(cargo tree --edges normal,build --target all --prefix none --format '{p}' | cut -d' ' -f1 | sort -u | tr '\n' ' ')
expected="crossbeam-deque crossbeam-epoch crossbeam-utils fanfold libc "
if [[ $packages != "$expected" ]]; then
    echo "features: a user's lock file would hold $packages, and not $expected" >&2
    exit 1
fi
