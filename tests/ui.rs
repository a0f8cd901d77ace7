//! What must not compile does not, in words that help; its twin in `ui_good`, the way out, compiles
//! and runs.
//!
//! The words are the compiler's own and change with it, so they are compared on one version only.
//! To take down new ones: `TRYBUILD=overwrite cargo test --test ui`.

use std::process::Command;

/// The compiler whose words are in the `.stderr` files.
const COMPILER: &str = "rustc 1.95.";

fn is_the_compiler() -> bool {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output();
    version.is_ok_and(|output| output.stdout.starts_with(COMPILER.as_bytes()))
}

#[test]
fn the_bad_do_not_compile_and_their_good_twins_do() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui_good/*.rs");
    if is_the_compiler() {
        cases.compile_fail("tests/ui/*.rs");
    }
}

fn names(folder: &str, ending: &str) -> Vec<String> {
    let folder = format!("{}/tests/{folder}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = files
        .map(|file| {
            file.expect("a file")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn each_bad_program_has_a_good_twin_and_its_error_on_record() {
    assert_eq!(names("ui", ".rs"), names("ui_good", ".rs"));
    assert_eq!(names("ui", ".rs"), names("ui", ".stderr"));
}

#[test]
fn a_source_that_cannot_leave_its_thread_is_pointed_to_local() {
    for name in names("ui", ".stderr") {
        let words = std::fs::read_to_string(format!(
            "{}/tests/ui/{name}.stderr",
            env!("CARGO_MANIFEST_DIR")
        ));
        let words = words.expect("the error");
        if ["source_with_an_rc", "source_of_stdin", "source_in_a_box"].contains(&name.as_str()) {
            assert!(words.contains(".local()"), "{name}: {words}");
        }
    }
}
