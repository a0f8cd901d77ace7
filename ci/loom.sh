#!/usr/bin/env bash
# The handshakes of the engine, in every order of their steps. LOOM_MAX_PREEMPTIONS says how often a thread
# may be interrupted in mid-step: 2 by default, 3 takes much longer. Then the same models on an engine with a
# planted bug, one for each process: each must make a model fail, or the models prove nothing.
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

# Of these files it is asked the other way round too: a model that nothing makes fail proves nothing. So all their models are
# run with each bug, and of other files as many as it takes. The models of the fan-in, the fan-out, and of the keyed and the
# flat engine have been failed by hand, where no bug is planted for them.
both_ways=" src/ordered/models.rs src/group/task/models.rs $(echo src/runtime/{pool,event,gauge,permits}/models.rs) "

# Runs the models on an engine with this bug, and says which of them fail.
check_bug() {
    local bug=$1 file models model failed= log
    log=$(mktemp)
    # Those of its file, or else of its folder, or else those of the ordered scheduler.
    file=$(grep -rlE "\bbug\(\"$bug\"\)" src)
    for models in "${file%.rs}/models.rs" "$(dirname "$file")/models.rs" src/ordered/models.rs; do
        if grep -qs "fn loom_" "$models"; then break; fi
    done
    local file_of_models=$models
    models=${models#src/} models=${models%.rs} models=${models//\//::}
    # Each in a process of its own: one that panics while it unwinds ends the process, and would hide the others.
    for model in $("$binary" --list "$models::" | sed -n 's/: test$//p'); do
        # The shell's own word on a process that aborts is not wanted.
        if ! { FANFOLD_BUG=$bug timeout 120 "$binary" --exact "$model" >"$log" 2>&1; } 2>/dev/null; then
            # It must have failed in the model, not have been cut short.
            grep -qE "^test $model \.\.\. FAILED|^thread '$model' .*panicked" "$log" ||
                { cat "$log"; fail "with the planted bug $bug $model neither passed nor failed"; }
            failed+=" ${model##*::}"
            [[ $both_ways == *" $file_of_models "* ]] || break
        fi
    done
    rm -f "$log"
    [[ -n $failed ]] || fail "no model fails with the planted bug $bug"
    echo "loom: $bug is caught by$failed"
}
export -f check_bug fail
export binary both_ways

# A model has one thread at a time, so several bugs are planted at once, each in processes of its own.
printf '%s\n' "${bugs[@]}" | xargs -P "$(nproc)" -I {} bash -euo pipefail -c 'check_bug {}' | tee "$log"
caught=$(sed -n 's/.* is caught by//p' "$log" | tr '\n' ' ')
# shellcheck disable=SC2086 # a list of files
for model in $(grep -rhoE 'fn loom_[a-z_]+' $both_ways | cut -d' ' -f2); do
    [[ " $caught " == *" $model "* ]] || fail "no planted bug makes $model fail"
done
echo "loom: ${#bugs[@]} planted bugs are caught"
