#!/usr/bin/env bash
# The whole test suite under ThreadSanitizer. It is exact only if std is built with it too, so it needs sources of
# std that belong to the compiler: Debian's rustc-web and rust-web-src, which are unpacked below target/ and not
# installed. Needs Debian's clang-22, libclang-rt-22-dev and libllvm22 (apt-get install), and rustup's cargo. Not part
# of .ci/run.
#
#     ci/tsan.sh [ARGS OF cargo test..]
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
root=$target/tsan-toolchain
if [[ ! -x $root/usr/bin/rustc ]]; then
    mkdir -p "$root/debs"
    (cd "$root/debs" && apt-get download rustc-web rust-web-src libstd-rust-web-dev \
        "$(apt-cache depends libstd-rust-web-dev | awk '$1 == "Depends:" { print $2; exit }')")
    for deb in "$root"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
fi
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export RUSTC=$root/usr/bin/rustc RUSTDOC=$root/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
export __CARGO_TESTS_ONLY_SRC_ROOT
__CARGO_TESTS_ONLY_SRC_ROOT=$(echo "$root"/usr/src/rustc-*/library)
export RUSTFLAGS="-Zsanitizer=thread -Zexternal-clangrt -Clinker=clang-22 -Clink-arg=-fsanitize=thread ${RUSTFLAGS:-}"
export TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp ${TSAN_OPTIONS:-}"
# Everything is some ten times slower.
export FANFOLD_SLOW=${FANFOLD_SLOW:-10}
# `trybuild` starts compilers; they are not what is to be tested.
cargo test -Zbuild-std --all-features --lib --tests --target x86_64-unknown-linux-gnu --target-dir "$target/tsan" \
    "$@" -- --skip the_bad_programs_do_not_compile --skip compiles_and_runs
echo "tsan: no report"
