//! The good twins of the programs in `ui`, which must not compile (`bad_programs` sees to that), are the way out:
//! they compile and run.

/// The good twins are compiled into this test, and run.
macro_rules! good {
    ($($name:ident)*) => {
        const GOOD: &[&str] = &[$(stringify!($name)),*];
        $(
            mod $name {
                include!(concat!("../ui_good/", stringify!($name), ".rs"));

                #[test]
                fn compiles_and_runs() {
                    main();
                }
            }
        )*
    };
}

good! {
    borrowed_by_the_closure
    borrowed_chain_with_an_ordinary_adaptor
    borrowed_filter
    borrowed_for_loop
    borrowed_next
    borrowed_one_liners
    borrowed_parameter
    borrowed_returned
    closure_that_counts
    closure_with_an_rc
    group_borrowed_inside
    hook_dropped_at_once
    item_with_an_rc
    option_behind_within
    result_with_an_rc
    scope_borrowed_inside
    scope_left
    scope_left_by_assignment
    scope_of_the_wrong_stage
    scope_pulled_from_under
    scope_spawned
    scoped_in_a_longer_scope
    scoped_left
    sinks_of_what_is_not_clone
    source_behind_a_local_one
    source_forged
    source_in_a_box
    source_is_a_collection
    source_local_in_a_loop
    source_local_mapped
    source_of_stdin
    source_with_an_rc
    task_without_a_type
    terminal_call_twice
    width_below_zero
    width_of_i32
}

fn names(folder: &str, ending: &str) -> Vec<String> {
    let folder = format!("{}/tests/{folder}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = files
        .map(|file| file.expect("a file").file_name().into_string())
        .map(|name| name.expect("a name"))
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn each_bad_program_has_a_good_twin_and_its_error_on_record() {
    assert_eq!(names("ui", ".rs"), GOOD);
    assert_eq!(names("ui_good", ".rs"), GOOD);
    assert_eq!(names("ui", ".stderr"), GOOD);
}

/// The recorded error of a bad program.
fn words_of(name: &str) -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{folder}/tests/ui/{name}.stderr")).expect("the error")
}

#[test]
fn a_source_that_cannot_leave_its_thread_is_pointed_to_local() {
    for name in [
        "source_with_an_rc",
        "source_of_stdin",
        "source_in_a_box",
        "source_behind_a_local_one",
    ] {
        let words = words_of(name);
        assert!(
            words.contains("put `.local()` before this call"),
            "{name}: {words}"
        );
    }
}

#[test]
fn a_source_in_a_box_is_told_to_be_send_first() {
    let words = words_of("source_in_a_box");
    let (send, local) = (words.find("+ Send>`"), words.find("`.local()`"));
    assert!(send.is_some() && send < local, "{words}");
}

/// rustc shows the line of ours that asks for `'static`, with its comment.
#[test]
fn a_stage_that_borrows_is_pointed_to_scoped() {
    for name in ["borrowed_filter", "borrowed_one_liners"] {
        let words = words_of(name);
        let errors = words.matches("error[E0597]").count();
        let pointers = words.matches("borrows? see `Stage::scoped`").count();
        assert!(errors > 0 && pointers >= errors, "{name}: {words}");
    }
}

#[test]
fn a_hook_is_told_to_get_a_name() {
    let words = words_of("hook_dropped_at_once");
    assert!(
        words.contains("`let _hook = ..`, not `let _ = ..`"),
        "{words}"
    );
}

#[test]
fn a_collection_is_told_to_become_an_iterator() {
    let words = words_of("source_is_a_collection");
    assert!(words.contains("call `.into_iter()` first"), "{words}");
}
