use super::SharedWidth;
use crate::runtime::pool::LeasedTask;
use crate::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// What a stage does: its task stores the width, and leaves the next one.
fn follow(handles: &Arc<SharedWidth>, stage: &Arc<AtomicUsize>) {
    let (again, width) = (Arc::clone(handles), Arc::clone(stage));
    let task = LeasedTask::uncounted(Box::new(move || {
        width.store(again.get(), SeqCst);
        follow(&again, &width);
    }));
    handles.arm(task, stage.load(SeqCst));
}

#[test]
fn it_is_applied_when_the_stage_has_begun() {
    let (handles, stage) = (SharedWidth::new(2), Arc::new(AtomicUsize::new(2)));
    handles.set(3);
    assert_eq!((handles.get(), stage.load(SeqCst)), (3, 2));
    follow(&handles, &stage); // 3 was set while it began
    assert_eq!(stage.load(SeqCst), 3);
    handles.set(4);
    assert_eq!((handles.get(), stage.load(SeqCst)), (4, 4));
    handles.close();
}

#[test]
fn the_end_drops_the_task_and_keeps_the_width() {
    let (handles, stage) = (SharedWidth::new(2), Arc::new(AtomicUsize::new(2)));
    follow(&handles, &stage);
    assert_eq!(Arc::strong_count(&stage), 2);
    handles.close();
    assert_eq!(Arc::strong_count(&stage), 1);
    handles.set(5);
    assert_eq!((handles.get(), stage.load(SeqCst)), (2, 2));
    // One that was being run meanwhile, and leaves the next.
    follow(&handles, &stage);
    assert_eq!(Arc::strong_count(&stage), 1);
}

#[test]
fn many_threads_set_it_and_the_last_one_counts() {
    let (handles, stage) = (SharedWidth::new(1), Arc::new(AtomicUsize::new(1)));
    follow(&handles, &stage);
    std::thread::scope(|s| {
        for thread in 0..4 {
            let handles = &handles;
            s.spawn(move || (1..500).for_each(|i| handles.set(4 * i + thread)));
        }
    });
    assert_eq!(handles.get(), stage.load(SeqCst));
    handles.close();
}
