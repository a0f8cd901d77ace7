# For msrv.sh and tsan.sh: another compiler than the machine's, out of Debian's packages, unpacked and not installed.

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
