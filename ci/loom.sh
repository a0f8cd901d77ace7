#!/usr/bin/env bash
# The handshakes of the engine, in every order of their steps. LOOM_MAX_PREEMPTIONS says how often a thread
# may be interrupted in mid-step: 2 by default, 3 takes much longer. Then the same models on an engine with a
# planted bug, one after the other: each must make a model fail, or the models prove nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

export LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2}
export RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}"
target=${CARGO_TARGET_DIR:-target}/loom
mkdir -p "$target"
target=$(cd "$target" && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() {
    echo "loom: $*" >&2
    exit 1
}

cargo test --manifest-path ci/loom/Cargo.toml --release --lib --target-dir "$target" loom 2>&1 | tee "$log"
# `cargo test` is content with no test at all.
grep -qE '^test result: ok\. [1-9][0-9]* passed' "$log" || fail "no model was run"

binary=$(cargo test --manifest-path ci/loom/Cargo.toml --release --lib --target-dir "$target" --no-run 2>&1 | sed -nE 's/.*Executable .*\((.*)\)$/\1/p')
[[ -x $binary ]] || fail "no program with the models"

mapfile -t bugs < <(grep -rhoE '\bbug\("[a-z_]+"\)' src | cut -d'"' -f2 | sort -u)
((${#bugs[@]})) || fail "no bug is planted"
caught=
for bug in "${bugs[@]}"; do
    # Those of its file, or else of its folder, or else those of the ordered scheduler.
    file=$(grep -rlE "\bbug\(\"$bug\"\)" src)
    for models in "${file%.rs}/models.rs" "$(dirname "$file")/models.rs" src/ordered/models.rs; do
        if grep -qs "fn loom_" "$models"; then break; fi
    done
    models=${models#src/} models=${models%.rs} models=${models//\//::}
    # Each in a process of its own: one that panics while it unwinds ends the process, and would hide the others.
    failed=
    for model in $("$binary" --list "$models::" | sed -n 's/: test$//p'); do
        # The shell's own word on a process that aborts is not wanted.
        if ! { FANFOLD_BUG=$bug timeout 120 "$binary" --exact "$model" >"$log" 2>&1; } 2>/dev/null; then
            # It must have failed in the model, not have been cut short.
            grep -qE "^test $model \.\.\. FAILED|^thread '$model' .*panicked" "$log" ||
                { cat "$log"; fail "with the planted bug $bug $model neither passed nor failed"; }
            failed+=" ${model##*::}"
        fi
    done
    [[ -n $failed ]] || fail "no model fails with the planted bug $bug"
    echo "loom: $bug is caught by$failed"
    caught+=$failed
done
# And the other way round: a model that nothing makes fail proves nothing. Those of the fan-in, the fan-out and the keyed
# engine have been failed by hand, where no bug is planted for them.
for model in $(grep -rhoE 'fn loom_[a-z_]+' src/ordered/models.rs src/group/task/models.rs src/runtime/{pool,event,gauge,permits}/models.rs | cut -d' ' -f2); do
    [[ " $caught " == *" $model "* ]] || fail "no planted bug makes $model fail"
done
echo "loom: ${#bugs[@]} planted bugs are caught"
