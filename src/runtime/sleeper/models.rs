use super::*;
use crate::sync::{AtomicBool, Ordering};
use std::task::Wake;

/// A task that notes that it was woken.
#[derive(Default)]
pub(crate) struct Woken(std::sync::atomic::AtomicBool);

impl Woken {
    pub(crate) fn is_woken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Poll / call: a consumer that leaves its waker, and then looks, finds what was made visible before the call, or its task
/// is woken.
#[test]
fn loom_poll_and_call() {
    loom::model(|| {
        let mut sleeper = Sleeper::new();
        let there = Arc::new(AtomicBool::new(false));
        let bringer = loom::thread::spawn({
            let (there, caller) = (Arc::clone(&there), sleeper.caller().clone());
            move || {
                there.store(true, Ordering::Relaxed);
                caller.unpark();
            }
        });
        let task = Arc::new(Woken::default());
        sleeper.begin_poll(&Arc::clone(&task).into());
        let found = there.load(Ordering::Relaxed);
        sleeper.end_poll();
        bringer.join().expect("no panic");
        assert!(found || task.is_woken());
    });
}
