#!/usr/bin/env bash
# The main job, as a user runs it: the example's CSV against the expected counts, row by row, then a list of
# its own, a stdin that stays open, Ctrl-C, and what the program says when it cannot do what it is asked.
# Needs the Rust toolchain, bash and coreutils. WORDCOUNT_BIN names a binary that is built already.
set -euo pipefail

cd "$(dirname "$0")/.."
repo=$PWD
tests=()
if [[ -z ${WORDCOUNT_BIN:-} ]]; then
    cargo build --release --quiet --example wordcount
    cargo test --release --quiet --example wordcount
    WORDCOUNT_BIN=$(realpath -- "${CARGO_TARGET_DIR:-target}")/release/examples/wordcount
fi
expected=$repo/examples/wordcount/expected.csv
if command -v python3 >/dev/null; then
    python3 examples/wordcount/expected.py --check
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
    echo "wordcount: $*" >&2
    if [[ -s stderr ]]; then cat stderr >&2; fi
    exit 1
}

# run CODE ARGS..: runs the example to its end; its exit code must be CODE.
run() {
    local want=$1 code=0
    shift
    timeout -k 1 60 "$WORDCOUNT_BIN" "$@" >stdout 2>stderr || code=$?
    ((code == want)) || fail "wordcount $*: exit code $code, not $want"
}

# check ROW ERROR NUMBER STATUS WORDS URL: a row of the CSV, field by field. URL is a pattern, ERROR a phrase.
check() {
    local row=$1 want_error=$2 number url status bytes words error
    IFS=, read -r number url status bytes words error <<<"$row"
    # shellcheck disable=SC2053
    [[ $number == "$3" && $status == "$4" && $words == "$5" && $url == $6 ]] || fail "row $3: $row"
    if [[ -z $want_error ]]; then
        # Every word has a letter at least, and a gap.
        [[ -z $error && -n $bytes ]] && ((bytes >= 2 * words - 1)) || fail "row $3 should have no error: $row"
    else
        [[ $error == *"$want_error"* ]] || fail "row $3 should have the error '$want_error': $row"
    fi
}

# 1. No arguments: every row of the embedded site.
SECONDS=0
run 0
mapfile -t want <"$expected"
mapfile -t got <counts.csv
((${#got[@]} == ${#want[@]})) || fail "${#got[@]} lines in counts.csv, ${#want[@]} expected"
[[ ${got[0]} == number,url,status,bytes,words,error ]] || fail "the header is ${got[0]}"
for ((i = 1; i < ${#want[@]}; i++)); do
    IFS=, read -r number url status words error <<<"${want[i]}"
    url=${url//\[/\\[}
    [[ $url != /* ]] || url="http://127.0.0.1:+([0-9])$url"
    check "${got[i]}" "$error" "$number" "$status" "$words" "$url"
done
[[ $(<stderr) == *"$((${#want[@]} - 1)) URLs, 11 failed"* ]] || fail "the totals are missing"
((SECONDS < 20)) || fail "the embedded site took $SECONDS s"
tests+=("embedded site: $((${#want[@]} - 1)) rows in $SECONDS s")

# One page never answers, so for most of the time the bound of the first stage is full behind it, and nobody computes.
run 0 --stats
mapfile -t stages < <(grep -E '^(fetch|extract|count) ' stderr)
((${#stages[@]} == 3)) || fail "no line for each stage"
[[ ${stages[0]} == fetch*" < the head of the line"* ]] || fail "what limits is not the head: ${stages[0]}"
tests+=("statistics")

# 2. A list of one's own: comments, blank lines, Windows line ends, and everything that can be wrong with a line.
mkdir pages 'pages/a dir'
printf '<title>none</title><p>one <b>t</b>wo<br>three<script>four()</script>' >pages/three.html
printf '<p>caf\xe9' >pages/latin-1.html
printf 'a < b, she said' >'pages/a dir/plain.txt'
: >pages/empty.htm
{
    printf '\xef\xbb\xbf# a comment\r\n\r\n'
    printf '  pages/three.html  \r\n'
    printf 'file://%s/pages/a%%20dir/plain.txt\n' "$dir"
    printf 'pages/latin-1.html\n   # another\n'
    printf 'pages/\xff\xfe.html\n'
    printf 'http://\nftp://127.0.0.1/x\nhttp://127.0.0.1:1/\nhttp://no-such-host.invalid/\n'
    printf 'pages\npages/no.html\n'
    printf 'pages/empty.htm' # and no line end
} >urls.txt
run 0 urls.txt --out own.csv --workers 4 --timeout 5s --retries 1
mapfile -t got <own.csv
((${#got[@]} == 12)) || fail "${#got[@]} lines in own.csv, 12 expected"
check "${got[1]}" '' 1 '' 3 pages/three.html
check "${got[2]}" '' 2 '' 4 'file://*/plain.txt'
check "${got[3]}" 'not UTF-8' 3 '' '' pages/latin-1.html
check "${got[4]}" 'not UTF-8' 4 '' '' '*'
check "${got[5]}" 'http' 5 '' '' 'http://'
check "${got[6]}" 'cannot fetch ftp' 6 '' '' 'ftp://*'
check "${got[7]}" '(2 tries)' 7 '' '' 'http://127.0.0.1:1/'
check "${got[8]}" '(2 tries)' 8 '' '' 'http://no-such-host.invalid/'
check "${got[9]}" 'not a file' 9 '' '' pages
check "${got[10]}" 'cannot read pages/no.html' 10 '' '' pages/no.html
check "${got[11]}" '' 11 '' 0 pages/empty.htm
run 0 urls.txt --out - --workers 1 --retries 1
[[ $(<stdout) == "$(<own.csv)" ]] || fail "one worker and --out - give other rows"
tests+=("a list with bad lines")

# start ARGS..: runs the example in the background, with its stdin and stdout as 3 and 4. `timeout` passes a
# signal on, and from then on allows 30 s.
start() {
    rm -f in out
    mkfifo in out
    timeout --foreground -k 30 60 "$WORDCOUNT_BIN" "$@" <in >out 2>stderr &
    child=$!
    exec 3>in 4<out
}
# Waits for the next row: for the event, not for a while.
next_row() {
    IFS= read -r -t 30 row <&4 || fail "no row $1 in 30 s"
}
# finish CODE
finish() {
    local code=0
    wait "$child" || code=$?
    child=
    ((code == $1)) || fail "exit code $code, not $1"
}

# 3. Rows appear while stdin is still open.
start - --out -
echo pages/three.html >&3
next_row 0
next_row 1
check "$row" '' 1 '' 3 pages/three.html
printf 'pages/no.html\npages/three.html\n' >&3
next_row 2
next_row 3
check "$row" '' 3 '' 3 pages/three.html
exec 3>&-
[[ -z $(cat <&4) ]] || fail "more rows than lines"
finish 0
tests+=("stdin while it is open")

# 4. Ctrl-C while stdin is open and silent: it ends all the same.
start - --out -
echo pages/three.html >&3
next_row 0
next_row 1
kill -INT "$child"
[[ -z $(cat <&4) ]] || fail "a row too many after Ctrl-C"
finish 130
exec 3>&-
[[ $(<stderr) == *"interrupted: 1 rows were written"* ]] || fail "it does not say how much was written"
tests+=("Ctrl-C at a silent stdin")

# 5. Ctrl-C in the middle of the embedded site, while /silent at row 9 hangs: what runs comes out, in order, and no more.
start --out - --timeout 2s
for row_number in {0..8}; do next_row "$row_number"; done
kill -INT "$child"
mapfile -t -u 4 got
finish 130
((${#got[@]} > 0 && ${#got[@]} + 9 < ${#want[@]})) || fail "${#got[@]} rows came after Ctrl-C"
for ((i = 0; i < ${#got[@]}; i++)); do
    IFS=, read -r number url status bytes words error <<<"${got[i]}"
    IFS=, read -r _ want_url _ want_words _ <<<"${want[i + 9]}"
    ((number == i + 9)) && [[ $url == *"$want_url" ]] || fail "row $((i + 9)) after Ctrl-C: ${got[i]}"
    [[ -n $error || $words == "$want_words" ]] || fail "row $((i + 9)) after Ctrl-C: ${got[i]}"
done
[[ $(<stderr) == *"interrupted: $((${#got[@]} + 8)) rows were written"* ]] || fail "it does not say how much was written"
exec 3>&-
tests+=("Ctrl-C in mid-run")

# 6. A second Ctrl-C does not wait for the page that hangs.
SECONDS=0
start --out - --timeout 60s
for row_number in {0..8}; do next_row "$row_number"; done
kill -INT "$child"
while [[ $(<stderr) != *"Ctrl-C again"* ]]; do
    ((SECONDS < 30)) || fail "no word after Ctrl-C"
    sleep 0.01
done
kill -INT "$child"
finish 130
((SECONDS < 30)) || fail "the second Ctrl-C took $SECONDS s"
exec 3>&- 4<&-
tests+=("a second Ctrl-C")

# 7. Exit codes, and errors that name the fix.
run 1 no-such-list.txt
[[ $(<stderr) == *no-such-list.txt*"give a file with one URL a line"* ]] || fail "a missing list"
run 1 pages
[[ $(<stderr) == *pages*directory* ]] || fail "a directory as the list"
run 1 urls.txt --out no/such/dir.csv
[[ $(<stderr) == *no/such/dir.csv*"--out"* ]] || fail "an output that cannot be written"
run 1 urls.txt --out ./urls.txt
[[ $(<stderr) == *"is the list itself"* && -s urls.txt ]] || fail "the list as the output"
run 2 urls.txt --timeout 5
[[ $(<stderr) == *"such as 500ms, 5s or 2m"* ]] || fail "a time without a unit"
run 2 urls.txt --workers 0
run 2 one.txt two.txt
run 0 --help
[[ $(<stdout) == *"(retries + 1) x timeout"* ]] || fail "--help does not say how long a URL may take"
if [[ -c /dev/full ]]; then
    run 1 urls.txt --out /dev/full --retries 0
    [[ $(<stderr) == *"/dev/full"*"--out"* ]] || fail "a full disk"
fi
tests+=("exit codes and errors")

printf 'wordcount: %s: ok\n' "${tests[@]}"
