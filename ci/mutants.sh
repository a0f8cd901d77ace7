#!/usr/bin/env bash
# What the tests notice: wrong lines, planted one after the other. The mutants are those of cargo-mutants (27, with
# `.cargo/mutants.toml`), but that builds each of them, which takes a minute with the test programs, and
# there are some 3,300. So `ci/mutants/` plants all of them into a copy of the crate, each behind a switch, builds it once,
# sees which tests pass by which mutant, and runs those, the quick ones first, up to the first that fails.
#
#     ci/mutants.sh                       all, some hours
#     ci/mutants.sh src/ordered/chunk.rs ..  these files
#     ci/mutants.sh --build FILTER ..     by cargo-mutants itself: those whose names match, for what cannot be switched
#
# The outcomes are in target/mutants/out/outcomes.txt:
#
#     caught      a test failed, or the program died
#     stuck       a test did not end in five seconds and five times its usual time; it was caught too
#     survived    all tests passed that pass by it; "0 tests" if there is none
#     unviable    it does not compile
#     unplanted   it cannot be behind a switch: in a constant, behind `impl Trait`, a field left out; see --build
#
# What is known stays known: a run that was ended goes on where it was. After a change remove target/mutants/out.
# Tests of MUTANTS_LONGEST=3 seconds or more are left out. Those of `tests/tiny/inline.rs` are none without optimization:
#
#     MUTANTS_RELEASE=tiny MUTANTS_LONGEST=30 MUTANTS_AT_ONCE=1 ci/mutants.sh src/ordered/inline.rs src/runtime/biased.rs
#     MUTANTS_RELEASE=loom MUTANTS_LONGEST=60 ci/mutants.sh src/ordered/chunk.rs src/ordered/signals.rs     by the models
#
# MUTANTS_BUDGET=25 gives each mutant so many seconds of tests, the shortest first; MUTANTS_AT_ONCE is 3; a test that
# does not end among others may take MUTANTS_PATIENCE=25 seconds by itself.
#
# Not in CI: it takes long, and a survivor is a question and no failure. ci/mutants/explained.txt has the answers, by the
# functions and the lines that they change, without numbers and types, so that it outlives a change elsewhere; what is not
# in there is printed.
set -euo pipefail
export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2}
cd "$(dirname "$0")/.."

if ! command -v cargo-mutants >/dev/null; then
    echo "mutants: needs cargo-mutants: cargo install cargo-mutants --locked" >&2
    exit 1
fi

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
if [[ ${1:-} == --build ]]; then
    exec cargo mutants --output "$target" --timeout 60 --re "${2:?a filter}" -- --lib --tests
fi

place=$target/mutants${MUTANTS_RELEASE:+-$MUTANTS_RELEASE}
mkdir -p "$place/tree" "$place/out"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -cf - | tar -xf - -C "$place/tree"
cargo mutants --list --json >"$place/list.json"
cargo build --release --manifest-path ci/mutants/Cargo.toml --target-dir "$place/tool"
CARGO_TARGET_DIR=$place/build "$place/tool/release/mutants" . "$place/tree" "$place/list.json" "$place/out" "$@"
cut -f 1 "$place/out/outcomes.txt" | sort | uniq -c
echo "survived, and not in ci/mutants/explained.txt:"
awk -F '\t' '
    # What is changed, in which function, in which line: a type or a file that is renamed asks nothing anew.
    function key(mutant) { sub(/^src\/[^ ]*: /, "", mutant); sub(/ in [^|]*::/, " in ", mutant); sub(/^replace [^|]*::/, "replace ", mutant); return mutant }
    NR == FNR { known[key($0)]; next }
    $1 == "survived" && !(key($2 " | " $4) in known) { print "  " $2 " (" $3 ")" }' ci/mutants/explained.txt "$place/out/outcomes.txt"
