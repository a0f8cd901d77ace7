#!/usr/bin/env bash
# Which lines of src/ the tests pass by: at least 95 of 100. Needs cargo-llvm-cov (`cargo install cargo-llvm-cov`) and
# Debian's llvm-22. Not counted are `inline` and `biased`: with counters in it no item is so small that the consumer runs
# it itself. tests/tiny/inline.rs, in release, is where they are tested. Not part of .ci/run.
#
#     ci/coverage.sh            the lines that are missed, and the sums
#     ci/coverage.sh --html     as pages, in target/llvm-cov
set -euo pipefail
cd "$(dirname "$0")/.."

# `trybuild` starts compilers, which are not what is to be measured.
cargo llvm-cov --all-features --no-report --no-fail-fast --lib --tests --test=laws --test=faults --test=stress
cargo llvm-cov report --ignore-filename-regex 'src/(ordered/inline|runtime/biased(/tests)?)\.rs' --fail-under-lines 95 "${1:---show-missing-lines}"
