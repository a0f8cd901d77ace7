# For asan.sh, tsan.sh and valgrind.sh: what they run, and the line that they end with.

# What is named (`lib`, or a file of tests), or all that runs the library: `api` and `layers` read its sources, and
# `faults` starts processes without threads or memory.
names=("$@")
if (($# == 0)); then
    names=(lib)
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        [[ " api layers faults " == *" $name "* ]] || names+=("$name")
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

# Runs the tests, with these arguments of cargo and of the tests, and says how many there were. All of them are run
# even if one fails, so that every report is seen.
run() { # TOOL [ARGS OF cargo test..] -- [ARGS OF THE TESTS..]
    local tool=$1
    shift
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # `trybuild` starts compilers, which are not what is to be tested.
    cargo test --all-features --no-fail-fast "${suite[@]}" "$@" --skip the_bad_programs_do_not_compile 2>&1 | tee "$log"
    awk -v tool="$tool" '
        /^ +Running / { programs++ }
        /^test result: ok\. / { tests += $4 }
        END {
            printf "%s: no report in %d test programs, %d tests\n", tool, programs, tests
            exit !(programs && tests)
        }' "$log"
}
