use super::*;
use crate::sync::AtomicUsize;
use std::thread;

#[test]
fn current_is_the_innermost() {
    struct Fixed(CancelToken, Started);

    impl Current for Fixed {
        fn token(&self) -> CancelToken {
            // A frame may do the same: nothing is borrowed.
            drop(in_closure(Plain::new(CancelToken::new())));
            self.0.clone()
        }

        fn started(&self) -> &Started {
            &self.1
        }
    }

    let fixed = |token: &CancelToken| Rc::new(Fixed(token.clone(), Started::default()));
    let same = CancelToken::is;
    let (outer, inner) = (CancelToken::new(), CancelToken::new());
    let provider = fixed(&outer);
    let entered = in_closure(provider.clone());
    assert!(same(&CancelToken::current(), &outer));
    {
        let _entered = in_closure(fixed(&inner));
        assert!(same(&CancelToken::current(), &inner));
        assert!(thread::scope(|scope| {
            let elsewhere = scope.spawn(|| !same(&CancelToken::current(), &inner));
            elsewhere.join().unwrap()
        }));
    }
    assert!(same(&CancelToken::current(), &outer));
    drop(entered);
    assert_eq!(Rc::strong_count(&provider), 1);
    assert!(!same(&CancelToken::current(), &outer));
    outer.cancel();
    assert!(!CancelToken::current().is_cancelled());
}

#[test]
fn current_works_while_the_thread_ends() {
    struct Last(CancelToken);
    impl Drop for Last {
        fn drop(&mut self) {
            if !CancelToken::current().is_cancelled() {
                self.0.cancel();
            }
        }
    }
    thread_local! {
        static EARLY: RefCell<Option<Last>> = const { RefCell::new(None) };
    }
    let ended = CancelToken::new();
    let tell = ended.clone();
    thread::spawn(move || {
        EARLY.set(Some(Last(tell)));
        drop(CancelToken::current());
        EARLY.with_borrow(|_| ());
    })
    .join()
    .unwrap();
    assert!(ended.is_cancelled());
}

#[derive(Default)]
struct Inner(AtomicUsize);

impl Interrupt for Inner {
    fn interrupt(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn interrupt_reaches_each_live_wait_once_and_forgets_dead_ones() {
    let inside = Interrupts::default();
    let waits: Vec<Arc<Inner>> = (0..3).map(|_| Arc::default()).collect();
    let gone = Arc::new(Inner::default());
    assert!(inside.enter(&gone));
    drop(gone);
    for inner in waits.iter().chain(&waits) {
        assert!(inside.enter(inner));
    }
    assert_eq!(inside.0.lock().list.len(), 3);
    inside.interrupt();
    inside.interrupt();
    assert!(inside.is_over() && !inside.enter(&waits[0]));
    assert!(inside.0.lock().list.is_empty());
    for inner in waits {
        assert_eq!(inner.0.load(Ordering::Relaxed), 1);
    }
}

fn frame() -> Rc<Plain> {
    Plain::new(CancelToken::new())
}

#[test]
fn outer_sources_interrupt_a_wait_up_to_a_closure_or_shield() {
    let insides: Vec<Arc<Interrupts>> = (0..4).map(|_| Arc::default()).collect();
    let _a = in_source(frame(), &insides[0]);
    let _b = in_closure(frame());
    assert!(!is_in_source());
    let _c = in_source(frame(), &insides[1]);
    let _d = in_source(frame(), &insides[2]);
    assert!(is_in_source() && !is_unwanted());
    let wait = Arc::new(Inner::default());
    tell_outer(&wait);
    insides[0].interrupt();
    assert!(!is_unwanted(), "behind a closure");
    insides[1].interrupt();
    assert!(is_unwanted());
    assert_eq!(wait.0.load(Ordering::Relaxed), 1);
    tell_outer(&wait);
    assert_eq!(wait.0.load(Ordering::Relaxed), 2, "it comes too late");
    {
        let _e = in_shared_source(frame(), &insides[3]);
        assert!(!is_unwanted(), "behind a shield");
        insides[3].interrupt();
        assert!(is_unwanted());
    }
}

#[test]
fn a_token_is_tripped_with_those_around_it() {
    let (outer, inner) = (CancelToken::new(), CancelToken::new());
    let _outer = in_source(PerCall::new(&outer), &Arc::default());
    let per_call = PerCall::new(&inner);
    let linked = nested(Rc::clone(&per_call) as _, || false);
    assert!(
        std::ptr::addr_eq(Rc::as_ptr(&linked), Rc::as_ptr(&per_call)),
        "its link does it"
    );
    let _inner = in_own_closure(Rc::clone(&per_call) as _, || true);
    let tripped = || innermost().is_some_and(|frame| frame.is_tripped());
    let (first, again) = (CancelToken::current(), CancelToken::current());
    assert!(first.is(&again) && !tripped());
    per_call.call_over();
    let second = CancelToken::current();
    {
        let shared = CancelToken::new();
        let _shared = in_shared_source(Plain::new(shared.clone()), &Arc::default());
        outer.cancel();
        assert!(!shared.is_cancelled(), "others still want it");
    }
    assert!(second.is_cancelled() && tripped() && !inner.is_cancelled());
    assert!(!first.is_cancelled(), "its call was over");
    per_call.call_over();
    assert!(CancelToken::current().is_cancelled(), "too late");
}

#[test]
fn a_link_ends_with_its_closure() {
    assert!(link().is_none() && link_of_iterator().is_none());
    let token = CancelToken::new();
    let (told, count) = (Arc::new(Inner::default()), |told: &Inner| {
        told.0.load(Ordering::Relaxed)
    });
    let hook = || {
        let told = Arc::clone(&told);
        move |_| told.interrupt()
    };
    let current = Plain::new(token.clone());
    let entered = in_closure(Rc::clone(&current) as _);
    let first = link_of_iterator().expect("a closure").on_trip(hook());
    drop(entered);
    assert!(!current.over());
    drop(first);
    let entered = in_closure(Rc::clone(&current) as _);
    let second = link().expect("a closure").on_trip(hook());
    token.cancel();
    assert_eq!(count(&told), 1, "the second alone");
    second.cut_short();
    assert!(current.over(), "it was cut short");
    assert!(!current.over());
    tell_cut();
    assert!(current.over());
    let born_late = link().expect("a closure").on_trip(hook());
    assert_eq!(count(&told), 2);
    drop((born_late, entered));
    let _in_source = in_source(current, &Arc::default());
    assert!(link_of_iterator().is_none(), "it may be lent");
    assert!(link().is_some());
}
