#!/usr/bin/env bash
# The library builds with the oldest compiler that Cargo.toml promises. That compiler is the first of these:
# the one that MSRV_RUSTC names; a rustup toolchain; Debian's package `rustc-web`, unpacked below the target
# folder and not installed. Where there is none, nothing is proved, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/debian-rustc.bash

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
version=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)

skip() {
    echo "msrv: skipped, Rust $version is not proved: $*"
    exit 0
}

if [[ -z ${MSRV_RUSTC:-} ]] && command -v rustup >/dev/null; then
    toolchain=$(rustup toolchain list | grep -oE "^$version[^ ]*" | head -n 1 || true)
    if [[ -n $toolchain ]]; then
        MSRV_RUSTC=$(rustup which --toolchain "$toolchain" rustc)
    fi
fi
if [[ -z ${MSRV_RUSTC:-} ]]; then
    root=$target/msrv-rustc
    [[ -x $root/usr/bin/rustc ]] || (unpack "$root" "$version") || skip "no such toolchain, and Debian has none here, or it could not be fetched"
    MSRV_RUSTC=$root/usr/bin/rustc
    library=$(dirname "$(find "$root/usr/lib" -name 'librustc_driver-*.so' -not -path '*/rustlib/*' -print -quit)")
    export LD_LIBRARY_PATH=$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

found=$("$MSRV_RUSTC" --version) || skip "$MSRV_RUSTC does not run here"
[[ $found == "rustc $version."* ]] || { echo "msrv: this is $found, not $version" >&2; exit 1; }
RUSTC=$MSRV_RUSTC cargo check --lib --target-dir "$target/msrv"
echo "msrv: the library builds with $found"
