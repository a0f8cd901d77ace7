#!/usr/bin/env bash
# The library builds with the oldest compiler that Cargo.toml promises. That compiler is the first of these:
# the one that MSRV_RUSTC names; a rustup toolchain; Debian's package `rustc-web`, unpacked below the target
# folder and not installed. Where there is none, nothing is proved, and that is said.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
version=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)

skip() {
    echo "msrv: skipped, Rust $version is not proved: $*"
    exit 0
}

# The package's version in Debian, if it has one of this compiler.
packaged() {
    apt-cache madison rustc-web | awk -v v="$version" 'index($3, v ".") == 1 { print $3; exit }'
}

# Unpacks Debian's rustc into $1. Called where `set -e` is off: each step says what a failure means.
unpack() {
    local root=$1 full llvm package
    full=$(packaged)
    if [[ -z $full ]]; then
        apt-get update -qq || return 1
        full=$(packaged)
    fi
    [[ -n $full ]] || return 1
    llvm=$(apt-cache depends "libstd-rust-web-$version=$full" | awk '/Depends: libllvm/ { print $2; exit }')
    rm -rf "$root"
    mkdir -p "$root.part/debs" && cd "$root.part/debs" || return 1
    apt-get download -qq "rustc-web=$full" "libstd-rust-web-dev=$full" "libstd-rust-web-$version=$full" ${llvm:+"$llvm"} || return 1
    for package in *.deb; do
        dpkg-deb -x "$package" .. || return 1
    done
    cd / && rm -rf "$root.part/debs" && mv "$root.part" "$root"
}

if [[ -z ${MSRV_RUSTC:-} ]] && command -v rustup >/dev/null; then
    toolchain=$(rustup toolchain list | grep -oE "^$version[^ ]*" | head -n 1 || true)
    if [[ -n $toolchain ]]; then
        MSRV_RUSTC=$(rustup which --toolchain "$toolchain" rustc)
    fi
fi
if [[ -z ${MSRV_RUSTC:-} ]]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "no such toolchain, and no apt"
    root=$target/msrv-rustc
    [[ -x $root/usr/bin/rustc ]] || (unpack "$root") || skip "Debian has no such compiler here, or it could not be fetched"
    MSRV_RUSTC=$root/usr/bin/rustc
    library=$(dirname "$(find "$root/usr/lib" -name 'librustc_driver-*.so' -not -path '*/rustlib/*' -print -quit)")
    export LD_LIBRARY_PATH=$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

found=$("$MSRV_RUSTC" --version) || skip "$MSRV_RUSTC does not run here"
[[ $found == "rustc $version."* ]] || { echo "msrv: this is $found, not $version" >&2; exit 1; }
RUSTC=$MSRV_RUSTC cargo check --lib --target-dir "$target/msrv"
echo "msrv: the library builds with $found"
