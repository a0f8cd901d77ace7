#!/usr/bin/env bash
# The whole test suite under ThreadSanitizer. It is exact only if std is built with it too, so it needs sources of
# std that belong to the compiler: Debian's rustc-web and rust-web-src, which are unpacked below target/ and not
# installed. Needs Debian's clang-22, libclang-rt-22-dev and libllvm22 (apt-get install), and rustup's cargo. Not part
# of .ci/run.
#
#     ci/tsan.sh [lib] [TEST FILES..]     all by default
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/debian-rustc.bash
. ci/suite.bash

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
root=$target/tsan-toolchain
with_sources "$root" || {
    echo "tsan: Debian's rustc-web could not be fetched" >&2
    exit 1
}
export RUSTC=$root/rustc RUSTC_BOOTSTRAP=1
export __CARGO_TESTS_ONLY_SRC_ROOT
__CARGO_TESTS_ONLY_SRC_ROOT=$(echo "$root"/usr/src/rustc-*/library)
export RUSTFLAGS="-Zsanitizer=thread -Zexternal-clangrt -Clinker=clang-22 -Clink-arg=-fsanitize=thread ${RUSTFLAGS:-}"
export TSAN_OPTIONS="external_symbolizer_path=$(command -v llvm-symbolizer-22) ${TSAN_OPTIONS:-}"
# Everything is some ten times slower.
export FANFOLD_SLOW=${FANFOLD_SLOW:-10}
run tsan -Zbuild-std --target x86_64-unknown-linux-gnu --target-dir "$target/tsan" --
