#!/usr/bin/env bash
# All tests: by the command that the README gives (debug, with doctests), and then the programs that it leaves out, as they are
# long or need a process to themselves. In release what is about work of some nanoseconds, and the example that compresses: nothing
# is as fast in debug.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/programs.bash

command=$(ci/readme.sh --list | grep -m 1 '^cargo test' || true)
if [[ -z $command ]]; then
    echo "test: README.md has no test command" >&2
    exit 1
fi
echo "test: $command"
bash -euo pipefail -c "$command"
mapfile -t others < <(programs left-out)
((${#others[@]} >= 5)) || {
    echo "test: where are the programs that the command leaves out?" >&2
    exit 1
}
cargo test --all-features "${others[@]}"
cargo test --all-features --lib litmus -- --ignored --test-threads=1
cargo test --all-features --release --test tiny --test idle --example gzip
