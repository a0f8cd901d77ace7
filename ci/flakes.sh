#!/usr/bin/env bash
# All tests over and over, to find those that fail now and then: built once, and then program by program, with one condition
# after the other. Not part of .ci/run.
#
#     alone            as they are
#     busy             beside two busy processes
#     one, eight       with 1 and with 8 test threads
#     nice             at the lowest priority, beside two busy processes
#
#     ci/flakes.sh [ROUNDS]     5 by default, one of each condition; 200 is a hunt of some hours
#
# A program that does not end within FLAKES_LIMIT seconds (300) is ended, and counts as failed. What failed is in
# target/flakes.log, with the condition and all that the program said.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/programs.bash

rounds=${1:-5}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || {
    echo "usage: ci/flakes.sh [ROUNDS]" >&2
    exit 2
}
target=${CARGO_TARGET_DIR:-target}
log=$target/flakes.log
conditions=(alone busy one eight nice)
# Tests that panic would spend most of their time on the names in backtraces nobody reads.
export RUST_BACKTRACE=0

mapfile -t tests < <(runnable)
mapfile -t programs < <(
    cargo test --all-features --lib "${tests[@]}" --no-run --message-format=json |
        grep -o '"executable":"[^"]*"' | cut -d'"' -f4 | sort -u
)
((${#programs[@]})) || {
    echo "flakes: there are no test programs" >&2
    exit 1
}
: >"$log"
output=$(mktemp)
load=()
quiet_down() {
    if ((${#load[@]})); then kill "${load[@]}" 2>/dev/null || true; fi
    load=()
}
trap 'quiet_down; rm -f "$output"' EXIT

declare -A ran wrong
for ((round = 0; round < rounds; round++)); do
    condition=${conditions[round % ${#conditions[@]}]}
    run=(timeout --signal=ABRT "${FLAKES_LIMIT:-300}")
    case $condition in
    busy | nice)
        for _ in 1 2; do
            bash -c 'while :; do :; done' &
            load+=($!)
        done
        ;;&
    nice) run=(nice -n 19 "${run[@]}") ;;
    one) run=(env RUST_TEST_THREADS=1 "${run[@]}") ;;
    eight) run=(env RUST_TEST_THREADS=8 "${run[@]}") ;;
    esac
    began=$SECONDS failed=0
    for program in "${programs[@]}"; do
        if ! "${run[@]}" "$program" >"$output" 2>&1 </dev/null; then
            failed=$((failed + 1))
            {
                echo "==== round $((round + 1)), $condition: $program"
                cat "$output"
            } >>"$log"
            grep -E '^test .* FAILED$|^stuck|^test .* has been running' "$output" | sort -u | sed "s/^/flakes: $condition: /" || true
        fi
    done
    quiet_down
    ran[$condition]=$((${ran[$condition]:-0} + ${#programs[@]}))
    wrong[$condition]=$((${wrong[$condition]:-0} + failed))
    echo "flakes: round $((round + 1)) of $rounds, $condition: $failed of ${#programs[@]} programs failed, $((SECONDS - began)) s"
done

echo
printf '%-8s %10s %8s\n' condition programs failed
all=0
for condition in "${conditions[@]}"; do
    [[ -n ${ran[$condition]:-} ]] || continue
    printf '%-8s %10d %8d\n' "$condition" "${ran[$condition]}" "${wrong[$condition]}"
    all=$((all + wrong[$condition]))
done
echo "flakes: $rounds rounds in $SECONDS s, $all failures"
if ((all)); then
    echo "flakes: see $log" >&2
    exit 1
fi
