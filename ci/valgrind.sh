#!/usr/bin/env bash
# The tests of what is unsafe under valgrind's memcheck: invalid and uninitialised reads, definite leaks. It runs one
# thread at a time and some thirty times slower, so not all of them. Needs valgrind. Not part of .ci/run.
#
#     ci/valgrind.sh [TEST FILES..]     those of borrows, drops, panics and errors by default
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "valgrind: install it first (Debian: apt-get install valgrind)" >&2; exit 1; }
tests=("$@")
((${#tests[@]})) || tests=(borrow scope p05_errors p06_panics p07_drop window init)
flags=()
for test in "${tests[@]}"; do flags+=(--test "$test"); done
mapfile -t binaries < <(
    cargo test --all-features --no-run --message-format=json "${flags[@]}" |
        grep -o '"executable":"[^"]*"' | cut -d'"' -f4 | sort -u
)
((${#binaries[@]} >= ${#tests[@]})) || { echo "valgrind: the tests were not built" >&2; exit 1; }
for binary in "${binaries[@]}"; do
    echo "valgrind: $(basename "$binary")"
    # std itself has blocks that are "possibly lost"; and time limits that tell stuck from slow do not hold here.
    FANFOLD_SLOW=30 valgrind -q --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=9 --fair-sched=yes \
        "$binary" --test-threads=1
done
echo "valgrind: no report"
