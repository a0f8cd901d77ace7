#!/usr/bin/env bash
# The whole test suite under valgrind's memcheck: invalid and uninitialised reads, definite leaks. It runs one thread at
# a time and some thirty times slower. Needs valgrind. Not part of .ci/run.
#
#     ci/valgrind.sh [lib] [TEST FILES..]     all by default
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/suite.bash

command -v valgrind >/dev/null || { echo "valgrind: install it first (Debian: apt-get install valgrind)" >&2; exit 1; }
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
mkdir -p "$target"
# What is leaked on purpose is listed in one place, and said here in valgrind's words.
supp=$target/valgrind.supp
awk -F 'leak:' '/^leak:/ {
    gsub("::", "*", $2)
    printf "{\n    %s\n    Memcheck:Leak\n    match-leak-kinds: definite\n    ...\n    fun:*%s*\n}\n", $2, $2
}' ci/lsan.supp >"$supp"
# std itself has blocks that are "possibly lost".
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --leak-check=full --errors-for-leak-kinds=definite \
--show-leak-kinds=definite --num-callers=60 --max-threads=4000 --suppressions=$supp --error-exitcode=9 --fair-sched=yes"
# Time limits that tell stuck from slow do not hold here.
export FANFOLD_SLOW=${FANFOLD_SLOW:-30}
run valgrind --target x86_64-unknown-linux-gnu -- --test-threads=1
