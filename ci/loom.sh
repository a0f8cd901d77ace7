#!/usr/bin/env bash
# The hand-shakes of the engine, in every order of their steps. LOOM_MAX_PREEMPTIONS says how often a thread
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

cargo test --release --lib --target-dir "$target" loom 2>&1 | tee "$log"
# `cargo test` is content with no test at all.
grep -qE '^test result: ok\. [1-9][0-9]* passed' "$log" || fail "no model was run"

mapfile -t bugs < <(grep -rhoE '\bbug\("[a-z_]+"\)' src | cut -d'"' -f2 | sort -u)
((${#bugs[@]})) || fail "no bug is planted"
caught=
for bug in "${bugs[@]}"; do
    # Those beside it, if there are any; else those of the stage.
    beside=$(basename "$(grep -rlE "\bbug\(\"$bug\"\)" src)" .rs)
    grep -qs "fn loom_" "src/engine/$beside.rs" || beside=models
    if FANFOLD_BUG=$bug timeout 120 cargo test --release --lib --target-dir "$target" "engine::$beside" >"$log" 2>&1; then
        fail "no model fails with the planted bug $bug"
    fi
    # The result line of this run would be counted among the others, as a failure.
    # A model that panics while it unwinds ends the process, and is named by its thread only.
    models=$(grep -E "^test .*loom_[a-z_]+ \.\.\. FAILED|^thread '.*loom_[a-z_]+' .*panicked" "$log" | grep -oE 'loom_[a-z_]+' | sort -u | tr '\n' ' ' || true)
    [[ -n $models ]] || { cat "$log"; fail "with the planted bug $bug the models neither passed nor failed"; }
    echo "loom: $bug is caught by $models"
    caught+=" $models"
done
# And the other way round: a model that nothing makes fail proves nothing. Those of the hub, the tee and the keyed
# engine have been failed by hand, where no bug is planted for them.
for model in $(grep -rhoE 'fn loom_[a-z_]+' src/engine/models.rs src/engine/pool.rs src/engine/bell.rs | cut -d' ' -f2); do
    [[ " $caught " == *" $model "* ]] || fail "no planted bug makes $model fail"
done
echo "loom: ${#bugs[@]} planted bugs are caught"
