# The programs of tests, as `Cargo.toml` has them: `cargo test --tests` leaves out those with `test = false`.

# One a line, as `cargo` wants to hear them.
programs() { # [left-out: only those that plain `cargo test` leaves out]
    awk -v only="${1:-}" '
        function tell() { if (name && (!only || out)) print "--test=" name; name = "" }
        /^\[/ { tell(); test = ($0 == "[[test]]"); out = 0 }
        test && /^name = / { gsub(/.* = "|"/, ""); name = $0 }
        test && /^test = false/ { out = 1 }
        END { tell() }' Cargo.toml
}

# Those that can be run anywhere, again and again: the bad programs are about the compiler.
runnable() { programs | grep -vx -- --test=bad_programs; }
