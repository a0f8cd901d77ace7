# For asan.sh, tsan.sh and valgrind.sh: what they run, and the line that they end with.

. ci/programs.bash

# What is named (`lib`, a program of tests, a module of one, or a folder of modules), or all that runs the library. `house` looks at sources and
# types, and `bad_programs` starts compilers.
names=("$@")
if (($# == 0)); then
    mapfile -t names < <(programs | sed 's/--test=//' | grep -vx 'house\|bad_programs')
    names+=(lib)
fi
suite=() only=()
for name in "${names[@]}"; do
    if [[ $name == lib ]]; then
        suite+=(--lib)
    elif grep -q "^name = \"$name\"" Cargo.toml; then
        suite+=(--test "$name")
    else
        program=$(basename "$(dirname "$(grep -lE "^ *mod $name(;| \{)$" tests/*/main.rs)")")
        suite+=(--test "$program") only+=("$name::")
    fi
done

# Tests that panic would spend most of their time on the names in backtraces nobody reads.
export RUST_BACKTRACE=0
# Every program is built once.
export CARGO_INCREMENTAL=0

# Not run: `p04_first_result` is about a time slice, which no tool leaves alone; the litmus tests must see a barrier missing within some time; what `faults` has processes for has no room for a
# tool, or no threads.
skip=(--skip p04_first_result --skip litmus --skip threads:: --skip fork::)

# Runs the tests, with these arguments of cargo and of the tests, and says how many there were. All of them are run
# even if one fails, so that every report is seen.
run() { # TOOL [ARGS OF cargo test..] -- [ARGS OF THE TESTS..]
    local tool=$1
    shift
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    cargo test --all-features --no-fail-fast "${suite[@]}" "$@" "${only[@]}" "${skip[@]}" 2>&1 | tee "$log"
    awk -v tool="$tool" '
        /^ +Running / { programs++ }
        /^test result: ok\. / { tests += $4 }
        END {
            printf "%s: no report in %d test programs, %d tests\n", tool, programs, tests
            exit !(programs && tests)
        }' "$log"
}
