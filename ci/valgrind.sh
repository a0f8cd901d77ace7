#!/usr/bin/env bash
# The whole test suite under valgrind's memcheck: invalid and uninitialised reads, definite leaks. It runs one thread at
# a time and some thirty times slower. Needs valgrind. Not part of .ci/run.
#
#     ci/valgrind.sh [lib] [TEST FILES..]     all by default
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/suite.bash

command -v valgrind >/dev/null || { echo "valgrind: install it first (Debian: apt-get install valgrind)" >&2; exit 1; }
# std itself has blocks that are "possibly lost".
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --leak-check=full --errors-for-leak-kinds=definite \
--show-leak-kinds=definite --error-exitcode=9 --fair-sched=yes"
# Time limits that tell stuck from slow do not hold here.
export FANFOLD_SLOW=${FANFOLD_SLOW:-30}
run valgrind --target x86_64-unknown-linux-gnu -- --test-threads=1
