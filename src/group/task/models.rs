use super::*;

/// End / join: whoever joins gets the value, or learns that there is none, whichever side is first.
#[test]
fn loom_join_a_task() {
    for gives in [Some(Some(7)), Some(None), None] {
        loom::model(move || {
            let (task, end) = task();
            let thread = loom::thread::spawn(move || {
                if let Some(value) = gives {
                    end.give(value);
                }
            });
            assert_eq!(task.join(), gives.flatten());
            thread.join().expect("no panic");
        });
    }
}
