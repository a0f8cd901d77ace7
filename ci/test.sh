#!/usr/bin/env bash
# All tests, by the command that the README gives (debug, with doctests). Then in release what is about work of
# some nanoseconds: nothing is as fast as that in debug. Then the programs that must not compile.
set -euo pipefail
cd "$(dirname "$0")/.."

command=$(ci/readme.sh --list | grep -m 1 '^cargo test' || true)
if [[ -z $command ]]; then
    echo "test: README.md has no test command" >&2
    exit 1
fi
echo "test: $command"
bash -euo pipefail -c "$command"
cargo test --all-features --release --test tiny --test idle
# It starts a compiler for each of its programs, so it is not in the command above.
cargo test --all-features --test bad_programs
