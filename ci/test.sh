#!/usr/bin/env bash
# All tests, by the command that the README gives (debug, with doctests). Then in release what is about work of
# some nanoseconds: nothing is as fast as that in debug.
set -euo pipefail
cd "$(dirname "$0")/.."

command=$(ci/readme.sh --list | grep -m 1 '^cargo test' || true)
if [[ -z $command ]]; then
    echo "test: README.md has no test command" >&2
    exit 1
fi
echo "test: $command"
bash -euo pipefail -c "$command"
cargo test --all-features --release --test inline --test next_within --test idle
