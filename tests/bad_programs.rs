//! Programs that must not compile do not, with a message that helps; the twin of each in `ui_good`, which
//! shows the fix, compiles and runs (`house/ui.rs`).
//!
//! This starts a compiler for each program, so plain `cargo test` leaves it out; `.ci/run` runs it. The
//! messages change with the compiler, so they are compared on one version only. To record new ones:
//! `TRYBUILD=overwrite cargo test --test bad_programs`.

use std::process::Command;

/// The compiler whose messages are in the `.stderr` files.
const COMPILER: &str = "rustc 1.95.";

fn is_the_compiler() -> bool {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output();
    version.is_ok_and(|output| output.stdout.starts_with(COMPILER.as_bytes()))
}

#[test]
fn the_bad_programs_do_not_compile() {
    if is_the_compiler() {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
    }
}
