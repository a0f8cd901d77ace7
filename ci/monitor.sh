#!/usr/bin/env bash
# The monitor and the progress example, as a user runs them: as plain text in a pipe, and on a terminal, where lines
# are drawn in place, q ends it, Ctrl-C ends it, and the cursor is there again afterwards. Needs the Rust toolchain,
# bash, awk, coreutils, and for the terminal `script` of util-linux, which every Debian has. MONITOR_BIN and
# PROGRESS_BIN name binaries that are built already.
set -euo pipefail

cd "$(dirname "$0")/.."
tests=()
built=$(realpath -m -- "${CARGO_TARGET_DIR:-target}")/release/examples
if [[ -z ${MONITOR_BIN:-} || -z ${PROGRESS_BIN:-} ]]; then
    cargo build --release --quiet --example monitor --example progress
    cargo test --release --quiet --example monitor
fi
: "${MONITOR_BIN:=$built/monitor}" "${PROGRESS_BIN:=$built/progress}"

dir=$(mktemp -d)
child=
cleanup() {
    if [[ -n $child ]]; then kill -TERM "$child" 2>/dev/null || true; fi
    rm -rf -- "$dir"
}
trap cleanup EXIT
cd "$dir"

fail() {
    echo "monitor: $*" >&2
    for file in stdout stderr seen; do
        if [[ -s $file ]]; then
            echo "-- the end of $file:" >&2
            tail -n 30 "$file" | cat -v >&2
        fi
    done
    exit 1
}

# run CODE ARGS..: runs the monitor to its end, without a terminal; its exit code must be CODE.
run() {
    local want=$1 code=0
    shift
    timeout -k 1 60 "$MONITOR_BIN" "$@" </dev/null >stdout 2>stderr || code=$?
    ((code == want)) || fail "monitor $*: exit code $code, not $want"
}

# 1. A pipe: plain text, and the same documents whatever the width.
run 0 --items 2000 --workers 1 --every 20ms
summary='([0-9]+ documents, .*, checksum [0-9a-f]{16}), in [0-9.]+ s$'
[[ $(tail -n 1 stdout) =~ ^$summary ]] || fail "there is no summary"
want=${BASH_REMATCH[1]}
[[ $want == "2000 documents, "* ]] || fail "$want"
tables=$(grep -c '^stage ' stdout)
for line in '[0-9.]* s: [0-9]* of 2000 documents' make compress check 'consumer  in next()'; do
    (($(grep -c "^$line" stdout) == tables)) || fail "'$line' is not in each of $tables tables"
done
((tables > 2)) || fail "$tables tables in 2000 documents"
run 0 --items 2000 --workers 3
[[ $(tail -n 1 stdout) =~ ^$summary && ${BASH_REMATCH[1]} == "$want" ]] || fail "three workers: not $want"
[[ $(<stdout) != *$'\e'* ]] || fail "there are escapes in the plain text"
tests+=("a pipe: $tables tables")

# 2. What is slow is what limits. The last table is that of the whole run.
# More documents than the stages may hold, or the first ones have done their work at once.
run 0 --items 1500 --slow consumer
[[ $(grep '^consumer' stdout | tail -n 1) == *"< the consumer"* ]] || fail "the consumer is slow"
run 0 --items 600 --slow source
[[ $(grep '^make' stdout | tail -n 1) == *"< the source"* ]] || fail "the source is slow"
tests+=("what limits")

# 3. Exit codes, and errors that name the fix.
run 2 --items 0
[[ $(<stderr) == *"give a number of documents"* ]] || fail "no documents"
run 2 --workers 0
[[ $(<stderr) == *"from 1 to 1024"* ]] || fail "no workers"
run 2 --every 5
[[ $(<stderr) == *"such as 250ms or 5s"* ]] || fail "a time without a unit"
run 2 --slow disk
[[ $(<stderr) == *"[possible values: source, make, compress, check, consumer]"* ]] || fail "a part that there is not"
run 0 --help
[[ $(<stdout) == *"Exit code: 0"* ]] || fail "--help does not tell the exit codes"
if [[ -c /dev/full ]]; then
    code=0
    timeout -k 1 60 "$MONITOR_BIN" --every 10ms </dev/null >/dev/full 2>stderr || code=$?
    ((code == 1)) && [[ $(<stderr) == "monitor: cannot write to stdout: "* ]] || fail "a full disk: exit code $code"
fi
tests+=("exit codes and errors")

# start COMMAND..: runs it in the background, with its stdin and stdout as 3 and 4.
start() {
    rm -f in out seen
    mkfifo in out
    timeout --foreground -k 30 60 "$@" <in >out 2>stderr &
    child=$!
    exec 3>in 4<out
}
# Reads on until a line matches: waits for the event, not for a while.
await() {
    local line
    while IFS= read -r -t 30 line <&4; do
        printf '%s\n' "$line" >>seen
        [[ ! $line =~ $1 ]] || return 0
    done
    fail "'$1' does not come"
}
# finish CODE: to the end.
finish() {
    local code=0
    cat <&4 >>seen
    wait "$child" || code=$?
    child=
    exec 3>&- 4<&-
    ((code == $1)) || fail "exit code $code, not $1"
}

# 4. Ctrl-C without a terminal.
start "$MONITOR_BIN" --every 20ms
await '^consumer  in next'
kill -INT "$child"
finish 130
[[ $(tail -n 1 seen) =~ ^"interrupted: "$summary ]] || fail "it does not say that it was interrupted"
tests+=("Ctrl-C")

if ! script --version 2>/dev/null | grep -q util-linux; then
    printf 'monitor: %s: ok\n' "${tests[@]}"
    echo "monitor: the terminal was NOT checked: there is no script of util-linux"
    exit 0
fi

# terminal COMMAND..: starts it on a terminal of its own, of 24 rows and 80 columns.
terminal() {
    local command
    printf -v command '%q ' "$@"
    start env SHELL=/bin/sh TERM=xterm script -qefc "exec $command" /dev/null
}
# in_place: it goes up as many lines as were written before, every time, and hides the cursor until it ends.
in_place() {
    awk -v RS='\033\\[' '
        NR == 1 { next }
        /^[0-9]+A/ { ups++; up += $0 + 0; down = newlines }
        { newlines += gsub(/\n/, "") }
        /^\?25l/ { hidden++ }
        /^\?25h/ { shown++ }
        END {
            printf "%d times up, %d lines up, %d lines down, hidden %d, shown %d\n", ups, up, down, hidden, shown
            exit !(ups > 2 && up == down && hidden == 1 && shown == 1)
        }' seen >place || fail "not in place: $(<place)"
}

# Some frames, each of which ends with this line.
frames() {
    for _ in {1..4}; do await 'q and Enter'; done
}

# 5. A run to the end.
terminal "$MONITOR_BIN" --items 5000 --every 20ms
finish 0
in_place
[[ $(tail -n 1 seen) == *"5000 documents, "* ]] || fail "there is no summary on a terminal"
# Without the escapes, and the summary.
sed -e '$d' -e 's/\x1b\[[?0-9]*[A-Za-z]//g' -e 's/\r//g' seen >lines
longest=$(awk 'length($0) > longest { longest = length($0) } END { print longest }' lines)
((longest > 70 && longest <= 80)) || fail "a line of $longest columns"
tests+=("a terminal: $(<place)")

# 6. q and Enter, after another line, which moves the cursor.
terminal "$MONITOR_BIN" --every 20ms
frames
printf 'hello\n' >&3
await 'hello'
frames
printf 'q\n' >&3
finish 0
in_place
[[ $(tail -n 1 seen) == *"stopped: "* ]] || fail "it does not say that it was stopped"
tests+=("q and Enter")

# 7. Ctrl-C.
terminal "$MONITOR_BIN" --every 20ms
frames
printf '\003' >&3
finish 130
in_place
[[ $(tail -n 1 seen) == *"interrupted: "* ]] || fail "it does not say that it was interrupted"
tests+=("Ctrl-C on a terminal")

# 8. Ctrl-C once more, while a slow consumer keeps what is in flight. It says nothing more, and the cursor is there.
terminal "$MONITOR_BIN" --every 20ms --slow consumer
await '[5-9][0-9][0-9] of 50000 ' # so there is a second's work in flight
printf '\003' >&3
await 'stopping: '
printf '\003' >&3
finish 130
[[ $(<seen) == *$'\e[?25h'* && $(<seen) != *interrupted* ]] || fail "a second Ctrl-C"
tests+=("a second Ctrl-C")

# 9. The progress bar: what is done and what is in flight.
terminal "$PROGRESS_BIN"
await ' 2000 done; in flight: [1-9][0-9]* run, [1-9][0-9]* wait; '
finish 0
[[ $(tail -n 1 seen) == *"2000 pages, "* ]] || fail "the bar has no end"
tests+=("the progress bar")

printf 'monitor: %s: ok\n' "${tests[@]}"
