#!/usr/bin/env bash
# The search example, as a user runs it: its table (hedging takes the tail away, within its budget), its plot, the
# hits of a query, Ctrl-C, and what it says when it cannot do what it is asked. Needs the Rust toolchain, bash, awk and
# coreutils. SEARCH_BIN names a binary that is built already.
set -euo pipefail

cd "$(dirname "$0")/.."
tests=()
if [[ -z ${SEARCH_BIN:-} ]]; then
    cargo build --release --quiet --example search
    cargo test --release --quiet --example search
    SEARCH_BIN=$(realpath -- "${CARGO_TARGET_DIR:-target}")/release/examples/search
fi

dir=$(mktemp -d)
child=
cleanup() {
    if [[ -n $child ]]; then kill -TERM "$child" 2>/dev/null || true; fi
    rm -rf -- "$dir"
}
trap cleanup EXIT
cd "$dir"

fail() {
    echo "search: $*" >&2
    if [[ -s stdout ]]; then cat stdout >&2; fi
    if [[ -s stderr ]]; then cat stderr >&2; fi
    exit 1
}

# run CODE ARGS..: runs the example to its end; its exit code must be CODE.
run() {
    local want=$1 code=0
    shift
    timeout -k 1 60 "$SEARCH_BIN" "$@" >stdout 2>stderr || code=$?
    ((code == want)) || fail "search $*: exit code $code, not $want"
}

# cell NAME COLUMN: a whole number of the table; column 1 is without hedging, 2 with it. Milliseconds are rounded up.
cell() {
    awk -v name="$1" -v column="$2" '
        index($0, name " ") == 1 {
            cells = substr($0, length(name) + 1)
            gsub(/ms|%/, "", cells)
            split(cells, each, " ")
            value = each[column] + 0
            print (value == int(value)) ? value : int(value) + 1
            exit
        }' stdout | grep . || fail "no row $1 in the table"
}

# 1. The table: four shards of three replicas, one of them broken. On a machine that is busy with other things all
# requests are slow now and then, and no budget is for that: so one run of three is enough.
SECONDS=0
for try in 1 2 3; do
    run 0 --queries 400 --budget 0.1 --seed $try --plot plot.svg
    without=$(cell p99 1) with=$(cell p99 2)
    ((without >= 300)) || fail "without hedging the p99 is $without ms: no query was slow"
    ((2 * with >= without)) || break
    ((try < 3)) || fail "the p99 is $with ms with hedging and $without ms without"
done
needed=$(cell "requests needed" 2) hedges=$(cell "hedges sent" 2)
((needed == 1600)) || fail "$needed requests for 400 queries of 4 shards"
((hedges > 0 && hedges <= needed / 10 + 10)) || fail "$hedges hedges for $needed requests, with a budget of 10 % and 10"
(($(cell "  won" 2) + $(cell "  lost" 2) == hedges)) || fail "won and lost hedges do not add up to $hedges"
for column in 1 2; do
    # A twelfth of the requests goes to the broken replica first, and to the next one after that.
    failed=$(cell "  failed" $column)
    ((failed > 100)) || fail "only $failed requests have failed"
done
(($(cell "requests sent" 1) == needed + $(cell "  failed" 1))) || fail "requests that nobody asked for"
(($(cell "  hung up on" 1) == 0 && $(cell "  hung up on" 2) > 0)) || fail "the losers were not hung up on"
[[ $(<stdout) == *"are those of one index over all pages, in both runs"* ]] || fail "the hits were not compared"
tests+=("p99 $without ms without hedging, $with ms with; $hedges hedges for $needed requests; in $SECONDS s")

# 2. The plot.
svg=$(<plot.svg)
[[ $svg == "<svg"*"</svg>"* && $svg == *"<polyline"*"<polyline"* && $svg == *"with hedging"* ]] || fail "this is no plot: ${svg:0:200}"
if command -v python3 >/dev/null; then
    python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' plot.svg || fail "the plot is not well-formed"
fi
tests+=("the plot")

# 3. No budget: nothing is hedged.
run 0 --queries 50 --budget 0 --plot plot.svg
(($(cell "hedges sent" 2) <= 10)) || fail "more hedges than the reserve"
tests+=("no budget")

# 4. The hits of a query are the same however the pages are split.
run 0 --shards 1 --replicas 1 --query "pride prejudice"
hits=$(<stdout)
[[ $(wc -l <stdout) == 10 && $hits == " 1. "*" /chapter-"* ]] || fail "these are no ten hits"
run 0 --shards 7 --query "PREJUDICE, pride!"
[[ $(<stdout) == "$hits" ]] || fail "seven shards have other hits"
run 0 --query "xyzzy"
[[ $(<stdout) == "no page has any of these words" ]] || fail "a word that is nowhere"
[[ ! -e search.svg ]] || fail "a query needs no plot"
tests+=("a query")

# 5. Ctrl-C in mid-run, when every back end is slow.
SECONDS=0
timeout --foreground -k 30 60 "$SEARCH_BIN" --slow 1 --queries 100000 --plot stopped.svg >stdout 2>stderr &
child=$!
while [[ ! -e stopped.svg ]]; do
    ((SECONDS < 30)) || fail "it does not begin"
    sleep 0.01
done
kill -INT "$child"
code=0
wait "$child" || code=$?
child=
((code == 130)) || fail "exit code $code after Ctrl-C, not 130"
((SECONDS < 30)) || fail "Ctrl-C took $SECONDS s"
[[ $(<stderr) == *interrupted* && ! -s stdout ]] || fail "it does not say that it was interrupted"
tests+=("Ctrl-C")

# 6. Exit codes, and errors that name the fix.
run 2 --slow 5
[[ $(<stderr) == *"from 0 to 1, such as 0.03"* ]] || fail "a share that is none"
run 2 --queries 0
run 2 --query "?!"
[[ $(<stderr) == *"give some words"* ]] || fail "a query without words"
run 1 --plot no/such/dir.svg
[[ $(<stderr) == *"no/such/dir.svg"*"--plot"* && ! -s stdout ]] || fail "a plot that cannot be written"
run 0 --help
[[ $(<stdout) == *"Exit code: 0"* ]] || fail "--help does not tell the exit codes"
if [[ -c /dev/full ]]; then
    run 1 --queries 10 --plot /dev/full
    [[ $(<stderr) == *"/dev/full"*"--plot"* ]] || fail "a full disk"
fi
tests+=("exit codes and errors")

printf 'search: %s: ok\n' "${tests[@]}"
