//! What must not compile does not, in words that help; its twin in `ui_good`, the way out, compiles
//! and runs (`ui.rs`).
//!
//! It starts a compiler for each program, so plain `cargo test` leaves it out and `.ci/run` does not. The words are
//! the compiler's own and change with it, so they are compared on one version only. To take down new ones:
//! `TRYBUILD=overwrite cargo test --test bad_programs`.

use std::process::Command;

/// The compiler whose words are in the `.stderr` files.
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
