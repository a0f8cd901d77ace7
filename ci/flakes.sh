#!/usr/bin/env bash
# All tests over and over, to find those that fail now and then: built once, and then program by program, with one condition
# after the other. Not part of .ci/run.
#
#     alone            as they are
#     busy             beside two busy processes
#     one, eight       with 1 and with 8 test threads
#     nice             at the lowest priority, beside two busy processes; limits that tell stuck from slow are ten times longer
#
#     ci/flakes.sh [ROUNDS [JOBS [lib] [TEST PROGRAMS..]]]     5 rounds by default, one of each condition, of all programs;
#                                                              200 is a hunt of some hours
#
# With JOBS, so many rounds run side by side: faster in all, and each is beside the others instead of beside two busy
# processes.
#
# A program that does not end within FLAKES_LIMIT seconds is ended, and counts as failed; by default 300 times one more
# than JOBS. What failed is in target/flakes.log, with the condition and all that the program said.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/programs.bash

rounds=${1:-5} jobs=${2:-1}
[[ $rounds =~ ^[1-9][0-9]*$ && $jobs =~ ^[1-9][0-9]*$ ]] || {
    echo "usage: ci/flakes.sh [ROUNDS [JOBS [lib] [TEST PROGRAMS..]]]" >&2
    exit 2
}
target=${CARGO_TARGET_DIR:-target}
log=$target/flakes.log
limit=${FLAKES_LIMIT:-$((300 * (jobs + 1)))}
conditions=(alone busy one eight nice)
# Tests that panic would spend most of their time on the names in backtraces nobody reads.
export RUST_BACKTRACE=0

if (($# > 2)); then
    tests=("${@:3}")
    tests=("${tests[@]/#/--test=}")
    tests=("${tests[@]/#--test=lib/--lib}")
else
    mapfile -t tests < <(runnable)
    tests+=(--lib)
fi
mapfile -t programs < <(
    cargo test --all-features "${tests[@]}" --no-run --message-format=json |
        grep -o '"executable":"[^"]*"' | cut -d'"' -f4 | sort -u
)
((${#programs[@]})) || {
    echo "flakes: there are no test programs" >&2
    exit 1
}
: >"$log"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# One round of all programs; leaves `condition programs failed` in the scratch folder.
one_round() { # number
    local condition=${conditions[($1 - 1) % ${#conditions[@]}]} output=$scratch/$1.output
    local run=(timeout --signal=ABRT "$limit") load=() failed=0 began=$SECONDS program
    case $condition in
    busy | nice)
        if ((jobs == 1)); then
            for _ in 1 2; do
                bash -c 'while :; do :; done' &
                load+=($!)
            done
        fi
        ;;&
    nice) run=(env FANFOLD_SLOW=10 nice -n 19 "${run[@]}") ;; # its share of a busy core may be a hundredth
    one) run=(env RUST_TEST_THREADS=1 "${run[@]}") ;;
    eight) run=(env RUST_TEST_THREADS=8 "${run[@]}") ;;
    esac
    ((${#load[@]})) && trap 'kill "${load[@]}" 2>/dev/null || true' EXIT
    for program in "${programs[@]}"; do
        if ! "${run[@]}" "$program" >"$output" 2>&1 </dev/null; then
            failed=$((failed + 1))
            { echo "==== round $1, $condition: $program"; cat "$output"; } >>"$log"
            grep -E '^test .* FAILED$|^stuck|^test .* has been running' "$output" | sort -u | sed "s/^/flakes: $condition: /" || true
        fi
    done
    echo "$condition ${#programs[@]} $failed" >"$scratch/$1.result"
    echo "flakes: round $1 of $rounds, $condition: $failed of ${#programs[@]} programs failed, $((SECONDS - began)) s"
}

running=0
for ((round = 1; round <= rounds; round++)); do
    if ((running == jobs)); then
        wait -n
        running=$((running - 1))
    fi
    (one_round "$round") &
    running=$((running + 1))
done
wait

cat "$scratch"/*.result | awk -v rounds="$rounds" -v seconds="$SECONDS" -v log_file="$log" -v names="${conditions[*]}" '
    { ran[$1] += $2; wrong[$1] += $3; all += $3 }
    END {
        printf "\n%-8s %10s %8s\n", "condition", "programs", "failed"
        count = split(names, name, " ")
        for (i = 1; i <= count; i++) if (name[i] in ran) printf "%-8s %10d %8d\n", name[i], ran[name[i]], wrong[name[i]]
        printf "flakes: %d of %d rounds in %d s, %d failures\n", NR, rounds, seconds, all
        if (all || NR != rounds) { print "flakes: see " log_file; exit 1 }
    }'
