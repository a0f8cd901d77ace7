#!/usr/bin/env bash
# The library and its tests on other machines than this one, as far as these can be had here: other processors, another
# system, no threads, no barrier of the kernel. One closing line a platform; what cannot be had is said by name, and is
# no failure. Not part of .ci/run.
#
#     ci/portable.sh [i686] [aarch64] [windows] [wasm] [fence]     all by default
#
# Apart from rustup's std (or, where rustup gives none, Debian's compiler and the sources of std) it takes from Debian:
#     i686      gcc-i686-linux-gnu, libc6-i386
#     aarch64   gcc-aarch64-linux-gnu, qemu-user
#     windows   gcc-mingw-w64-x86-64-posix, wine, wine64
#     wasm      wasmtime or node on the PATH
set -uo pipefail
cd "$(dirname "$0")/.."
. ci/debian-rustc.bash
. ci/programs.bash

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
# Tests that panic would spend most of their time on the names in backtraces nobody reads, every program is built once.
export RUST_BACKTRACE=0 CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
lines=()
failed=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# The line of a platform that cannot be had. To be called with `return 0`.
cannot() { lines+=("portable: $1: not tried, $2"); }

# Whether this program is there: `cannot` has said so if not.
needs() { # PLATFORM PROGRAM PACKAGE
    command -v "$2" >/dev/null && return
    cannot "$1" "there is no $2 (Debian: $3)"
    return 1
}

# Sets `compiler` (variables for env) and `flags` (of cargo) for a target: rustup's std, or one built here, but for
# wasm32-wasip1, whose std has a libc in it.
std_for() { # PLATFORM TARGET
    compiler=() flags=(--target "$2")
    if command -v rustup >/dev/null && rustup target add "$2" >"$logs/rustup" 2>&1; then
        return
    fi
    echo "portable: rustup gives no std for $2: $(tail -n 1 "$logs/rustup" 2>/dev/null)"
    [[ $2 != wasm* ]] || { cannot "$1" "rustup gives no std for $2" && return 1; }
    local root=$target/portable-toolchain
    if ! with_sources "$root"; then
        cannot "$1" "neither rustup's std for $2 nor Debian's rustc-web could be fetched"
        return 1
    fi
    compiler=(RUSTC="$root/rustc" RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT="$(echo "$root"/usr/src/rustc-*/library)")
    flags+=(-Zbuild-std)
}

# Runs this command, counts what it says, and adds the closing line.
counted() { # PLATFORM WHAT COMMAND..
    local platform=$1 what=$2 log=$logs/$1 tests
    shift 2
    echo "==== $platform: $what"
    "$@" 2>&1 | tee "$log"
    local ended=${PIPESTATUS[0]}
    tests=$(awk '
        /^ +Running / { programs++ }
        /^test result: / { passed += $4; wrong += $6 }
        END { printf "%d programs, %d tests passed, %d failed", programs, passed, wrong }' "$log")
    if ((ended)) || ! grep -q '^test result: ' "$log"; then
        failed=1
        lines+=("portable: $platform: FAILED ($what): $tests")
    else
        lines+=("portable: $platform: $what: $tests")
    fi
}

mapfile -t programs < <(runnable)

# All tests by this command, but those that `skip` has; and the litmus tests by themselves, as they take both cores.
all_tests() { # PLATFORM WHAT COMMAND..
    local platform=$1 what=$2
    shift 2
    counted "$platform" "$what" "$@" --lib "${programs[@]}" -- ${skip[@]+"${skip[@]}"}
    counted "$platform" "its barriers" "$@" --lib litmus -- --ignored --test-threads=1
}

# All tests for this target but those with one of these names.
suite() { # PLATFORM WHAT TARGET [VARIABLES OF env..] -- [NAMES TO LEAVE OUT..]
    local platform=$1 what=$2 triple=$3 variables=()
    shift 3
    while [[ $1 != -- ]]; do variables+=("$1") && shift; done
    shift
    std_for "$platform" "$triple" || return 0
    local skip=() name
    for name; do skip+=(--skip "$name"); done
    all_tests "$platform" "$what" env ${compiler[@]+"${compiler[@]}"} "${variables[@]}" \
        cargo test --all-features --no-fail-fast "${flags[@]}" --target-dir "$target/portable"
}

# 32 bits, on the same processor.
i686() {
    needs i686 i686-linux-gnu-gcc gcc-i686-linux-gnu || return 0
    [[ -e /lib/ld-linux.so.2 ]] || { cannot i686 "there is no /lib/ld-linux.so.2 (Debian: libc6-i386)" && return 0; }
    suite i686 "32 bits, native" i686-unknown-linux-gnu CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_LINKER=i686-linux-gnu-gcc --
}

# Tests that run their own program once more, which the kernel must know how to.
processes=(
    a_closure_that_never_returns a_process_ends threads:: fork:: workers_come_from_the_environment
    a_variable_that_holds_no_number
)

# Emulated: what qemu shows of its memory order, and what not, is in DESIGN.md, "Other processors".
aarch64() {
    local qemu name
    qemu=$(command -v qemu-aarch64 qemu-aarch64-static | head -n 1)
    [[ $qemu ]] || { cannot aarch64 "there is no qemu-aarch64 (Debian: qemu-user)" && return 0; }
    needs aarch64 aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu || return 0
    local left=()
    if ! grep -qs enabled /proc/sys/fs/binfmt_misc/qemu-aarch64; then
        left=("${processes[@]}")
    fi
    suite aarch64 "qemu-user" aarch64-unknown-linux-gnu \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -L /usr/aarch64-linux-gnu" \
        FANFOLD_SLOW="${FANFOLD_SLOW:-10}" -- "${left[@]}"
}

# Under wine, in the form with fences if this wine has no barrier: that of wine 8 does nothing, and the litmus tests say so.
windows() {
    local gcc=x86_64-w64-mingw32-gcc form="wine" flags=${RUSTFLAGS:-}
    needs windows $gcc gcc-mingw-w64-x86-64-posix || return 0
    needs windows wine "wine, wine64" || return 0
    export WINEPREFIX=$target/wine WINEDEBUG=-all
    mkdir -p "$target"
    # Does not end before the prefix is made.
    wine wineboot --init >"$logs/wine" 2>&1 || { cannot windows "wine does not start: $(tail -n 1 "$logs/wine")" && return 0; }
    local system=$WINEPREFIX/drive_c/windows/system32
    if [[ ! -e $system/bcryptprimitives.dll ]]; then
        $gcc -shared -o "$system/bcryptprimitives.dll" ci/portable/bcryptprimitives.c -ladvapi32 || { failed=1 && return 0; }
    fi
    $gcc -o "$logs/barrier.exe" ci/portable/barrier.c || { failed=1 && return 0; }
    if WINEDEBUG=fixme+virtual wine "$logs/barrier.exe" 2>&1 | grep -q 'FlushProcessWriteBuffers.*stub'; then
        form="wine, with fences, as the barrier of this wine is a stub"
        flags="--cfg fanfold_fence $flags"
    fi
    suite windows "$form" x86_64-pc-windows-gnu RUSTFLAGS="$flags" \
        CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine FANFOLD_SLOW="${FANFOLD_SLOW:-10}" --
}

# No thread can be started: the consumer does it all. A package of tests of its own, as what the others are built of
# does not build there.
wasm() {
    local runner
    if command -v wasmtime >/dev/null; then
        runner="wasmtime run"
    elif command -v node >/dev/null; then
        runner="node --no-warnings $PWD/ci/portable/wasi.mjs"
    else
        cannot wasm "there is neither wasmtime nor node" && return 0
    fi
    std_for wasm wasm32-wasip1 || return 0
    counted wasm "wasm32-wasip1 without threads, ${runner%% *}" env ${compiler[@]+"${compiler[@]}"} \
        CARGO_TARGET_WASM32_WASIP1_RUNNER="$runner" \
        cargo test --manifest-path ci/portable/wasm/Cargo.toml --locked "${flags[@]}" --target-dir "$target/portable"
}

# This machine, as if its kernel had no barrier: both sides of each hand-shake have a fence.
fence() {
    local skip=()
    all_tests fence "fences in place of the kernel's barrier, native" env RUSTFLAGS="--cfg fanfold_fence ${RUSTFLAGS:-}" \
        cargo test --all-features --no-fail-fast --target-dir "$target/fence"
}

platforms=("$@")
(($#)) || platforms=(i686 aarch64 windows wasm fence)
for platform in "${platforms[@]}"; do
    case $platform in
    i686 | aarch64 | windows | wasm | fence) "$platform" ;;
    *)
        echo "usage: ci/portable.sh [i686] [aarch64] [windows] [wasm] [fence]" >&2
        exit 2
        ;;
    esac
done
echo
printf '%s\n' "${lines[@]}"
exit "$failed"
