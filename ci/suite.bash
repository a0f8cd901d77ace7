# For asan.sh, tsan.sh and valgrind.sh: what they run, and the line that they end with.

# What is named (`lib`, or a file of tests), or all that runs the library. `api` and `layers` read its sources, and
# `p04_first_result` is about a time slice, which no tool leaves alone.
names=("$@")
if (($# == 0)); then
    names=(lib)
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        [[ " api layers p04_first_result " == *" $name "* ]] || names+=("$name")
    done
fi
suite=()
for name in "${names[@]}"; do
    if [[ $name == lib ]]; then suite+=(--lib); else suite+=(--test "$name"); fi
done

# Tests that panic would spend most of their time on the names in backtraces nobody reads.
export RUST_BACKTRACE=0
# Every program is built once.
export CARGO_INCREMENTAL=0

# Not run: the litmus tests must see a barrier missing within some time; what `faults` has processes for has no room for a
# tool, or no threads; `trybuild` starts compilers.
skip=(--skip litmus --skip threads:: --skip fork:: --skip the_bad_programs_do_not_compile)

# Runs the tests, with these arguments of cargo and of the tests, and says how many there were. All of them are run
# even if one fails, so that every report is seen.
run() { # TOOL [ARGS OF cargo test..] -- [ARGS OF THE TESTS..]
    local tool=$1
    shift
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    cargo test --all-features --no-fail-fast "${suite[@]}" "$@" "${skip[@]}" 2>&1 | tee "$log"
    awk -v tool="$tool" '
        /^ +Running / { programs++ }
        /^test result: ok\. / { tests += $4 }
        END {
            printf "%s: no report in %d test programs, %d tests\n", tool, programs, tests
            exit !(programs && tests)
        }' "$log"
}
