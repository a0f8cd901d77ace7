# For msrv.sh, portable.sh and tsan.sh: another compiler than the machine's, out of Debian's packages, unpacked and not installed.

# Debian's version of `rustc-web` for this Rust version (`1.85`), or the newest; nothing if there is none.
packaged() { # [RUST VERSION]
    apt-cache madison rustc-web | awk -v v="${1:+$1.}" 'index($3, v) == 1 { print $3; exit }'
}

# Unpacks the compiler with its std, and these packages of the same version, whole or not at all. To be called in a
# subshell, also where `set -e` is off: each step says what a failure means.
unpack() { # FOLDER RUST VERSION ('' for the newest) [PACKAGES..]
    local root=$1 full std llvm package wanted
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    full=$(packaged "$2")
    if [[ -z $full ]]; then
        apt-get update -qq || return 1
        full=$(packaged "$2")
    fi
    [[ -n $full ]] || return 1
    std=$(apt-cache depends "libstd-rust-web-dev=$full" | awk '$1 == "Depends:" { print $2; exit }')
    llvm=$(apt-cache depends "$std=$full" | awk '/Depends: libllvm/ { print $2; exit }')
    wanted=("rustc-web=$full" "libstd-rust-web-dev=$full" "$std=$full" ${llvm:+"$llvm"})
    for package in "${@:3}"; do wanted+=("$package=$full"); done
    rm -rf "$root" "$root.part"
    mkdir -p "$root.part/debs" && cd "$root.part/debs" || return 1
    apt-get download -qq "${wanted[@]}" || return 1
    for package in *.deb; do
        dpkg-deb -x "$package" .. || return 1
    done
    cd / && rm -rf "$root.part/debs" && mv "$root.part" "$root"
}

# The newest compiler with the sources of its std, for `-Zbuild-std`: `FOLDER/rustc` is what cargo is to call, and
# RUSTC_BOOTSTRAP and __CARGO_TESTS_ONLY_SRC_ROOT are to be set.
with_sources() { # FOLDER
    [[ -x $1/usr/bin/rustc ]] || (unpack "$1" '' rust-web-src) || return 1
    # `hashbrown`, below `governor`, names an empty crate from the registry that is called `alloc` too, and the compiler
    # cannot choose between that and the one that is built here.
    cat >"$1/rustc" <<'EOF'
#!/usr/bin/env bash
root=$(dirname "$0")
args=()
for arg in "$@"; do
    if [[ $arg == alloc=*rustc_std_workspace_alloc* && " $* " == *" noprelude:alloc="* ]]; then
        unset "args[-1]" # its --extern
    else
        args+=("$arg")
    fi
done
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$root/usr/bin/rustc" "${args[@]}"
EOF
    chmod +x "$1/rustc"
}
