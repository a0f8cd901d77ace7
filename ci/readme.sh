#!/usr/bin/env bash
# What the README tells a reader to type works: every command of its `sh` blocks is run. `cargo test` is run
# by test.sh, so here it is only looked for there; all other commands are run here and now. Then: every script
# that the pages name is there and can be run, and every script is known to .ci/run or to CONTRIBUTING.md.
#
#     ci/readme.sh --list     prints the commands and does no more
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "readme: $*" >&2
    exit 1
}

commands() {
    awk '/^```/ { inside = ($0 == "```sh" && !inside); next } inside' README.md | sed -e 's/[[:space:]]*#.*//' -e '/^$/d'
}

if [[ ${1:-} == --list ]]; then
    commands
    exit
fi

mapfile -t all < <(commands)
((${#all[@]} >= 2)) || fail "where are the two commands?"
for command in "${all[@]}"; do
    if [[ $command == "cargo test"* ]]; then
        grep -q "ci/readme.sh --list" ci/test.sh || fail "ci/test.sh does not take '$command' out of README.md"
    else
        echo "readme: $command"
        bash -euo pipefail -c "$command" </dev/null
    fi
done

for page in README.md DESIGN.md CONTRIBUTING.md; do
    for script in $(grep -oE '\.?ci/[a-z-]+(\.sh)?' "$page" | sort -u); do
        [[ $script == ci/* || $script == .ci/run ]] || continue
        [[ -x $script ]] || fail "$page names $script, which is not there or cannot be run"
    done
done
for script in ci/*.sh; do
    [[ -x $script ]] || fail "$script cannot be run"
    name=$(basename "$script" .sh)
    grep '^jobs=' .ci/run | grep -qw -- "$name" || grep -qF "$script" CONTRIBUTING.md || fail "nothing runs $script, and CONTRIBUTING.md does not name it"
done
echo "readme: ${#all[@]} commands"
