//! `tee_into`: two unlike sinks, each called once, that get every item.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, bang, calls_counted, caught, dawdle, message, within,
};
use fanfold::{CancelToken, Cancelled, Fanfold, Overflow, Pool, group, testing::assert_quiescent};
use std::sync::Arc;
use std::thread::current;

#[test]
fn unlike_sinks_own_borrow_and_change_what_they_need() {
    for buffer in 1..=9 {
        within(SOON, move || {
            let words: Vec<String> = (0..100).map(|i| format!("w{i}")).collect();
            let (mut lines, limit) = (Vec::new(), String::from("w50"));
            let twice = words.iter().broadcast(2).buffer(buffer);
            let (count, found) = twice.tee_into(
                |words| {
                    words.for_each(|word| lines.push(word.as_str()));
                    lines.len()
                },
                move |mut words| words.find(|word| **word == limit).map(|word| word.len()),
            );
            assert_eq!((count, found), (100, Some(3)));
            assert!(lines.iter().eq(words.iter()));
        });
    }
}

#[test]
fn both_run_at_the_same_time_and_one_of_them_here() {
    within(SOON, || {
        let (meter, here) = (Meter::new(), current().id());
        let sink = |reader: &mut dyn Iterator<Item = u32>| {
            let first = reader.next();
            meter.meet(2);
            (first, reader.count(), current().id())
        };
        let (a, b) = (0..50).tee_into(|mut a| sink(&mut a), |mut b| sink(&mut b));
        assert_eq!(((a.0, a.1), (b.0, b.1)), ((Some(0), 49), (Some(0), 49)));
        assert!(a.2 == here && b.2 != here);
    });
}

/// All but one get clones, so one of two; and a sink that has returned costs none.
#[test]
fn items_are_cloned_once_each() {
    #[derive(Debug)]
    struct Cloned(u32, Counter);
    impl Clone for Cloned {
        fn clone(&self) -> Self {
            self.1.add();
            Cloned(self.0, self.1.clone())
        }
    }
    within(SOON, || {
        let clones = Counter::new();
        let source = || (0..50).map(|i| Cloned(i, clones.clone()));
        let sums = source().tee_into(
            |a| a.map(|item| item.0).sum::<u32>(),
            |b| b.map(|item| item.0).collect::<Vec<_>>(),
        );
        assert_eq!(sums, (1_225, (0..50).collect()));
        assert_eq!(clones.get(), 50);
        // not `Clone`, and nothing of it is copied
        let ledger = Ledger::new();
        let source = (0..50).map(|i| Arc::new(ledger.track(i)));
        let ids = source.tee_into(|a| a.map(|item| item.id).sum::<u64>(), |b| b.count());
        assert_eq!(ids, (1_225, 50));
        ledger.assert_dropped_once();
    });
}

#[test]
fn a_sink_that_returns_early_does_not_hold_up_the_other() {
    for (taken, buffer) in (0..9).flat_map(|taken| [1, 2, 16].map(|buffer| (taken, buffer))) {
        within(SOON, move || {
            let source = || (0..200_u64).broadcast(2).buffer(buffer);
            let (a, b) = source().tee_into(|a| a.take(taken).count(), |b| b.count());
            assert_eq!((a, b), (taken, 200));
            let (a, b) = source().tee_into(|a| a.count(), |b| b.take(taken).count());
            assert_eq!((a, b), (200, taken));
            // nobody wants the rest
            let calls = Counter::new();
            let source = calls_counted(0_u64.., &calls).broadcast(2).buffer(buffer);
            let (a, b) = source.tee_into(|a| a.take(taken).count(), |b| b.take(3).count());
            assert_eq!((a, b), (taken, 3));
            assert!(calls.get() <= taken.max(3) + buffer + 1);
        });
    }
}

#[test]
fn a_panic_of_either_is_raised_when_both_have_ended() {
    for at in [0, 1, 40] {
        within(SOON, move || {
            let (ledger, done) = (Ledger::new(), Counter::new());
            let source = || (0..100).map(|i| Arc::new(ledger.track(i)));
            let all = |ended: &Counter, reader: &mut dyn Iterator<Item = Arc<_>>| {
                assert_eq!(reader.count(), 100);
                ended.add();
            };
            let bangs = |reader: &mut dyn Iterator<Item = Arc<crate::support::Tracked>>| {
                reader.for_each(|item| {
                    if item.id == at {
                        bang(at);
                    }
                });
            };
            let raised =
                caught(|| source().tee_into(|mut a| bangs(&mut a), |mut b| all(&done, &mut b)));
            assert_eq!((raised, done.get()), (Err(at), 1));
            let raised =
                caught(|| source().tee_into(|mut a| all(&done, &mut a), |mut b| bangs(&mut b)));
            assert_eq!((raised, done.get()), (Err(at), 2));
            // of the source: with its own payload, whichever sink meets it
            let source = (0..100).inspect(move |i| {
                if *i == at {
                    bang(at);
                }
            });
            let raised = caught(|| source.tee_into(|a| a.count(), |b| b.count()));
            assert_eq!(raised, Err(at));
            assert_eq!(ledger.alive(), 0);
            assert_quiescent();
        });
    }
}

/// One after the other, and what was pulled for the second is kept meanwhile.
#[test]
fn without_threads_the_second_runs_after_the_first() {
    within(SOON, || {
        let none = || Pool::builder().stack_size(usize::MAX / 4 * 3).build();
        let (order, here) = (Counter::new(), current().id());
        let twice = (0..200).broadcast(2).buffer(1).on(&none());
        let (a, b) = twice.tee_into(
            |a| (a.count(), order.add(), current().id()),
            |b| (b.count(), order.add(), current().id()),
        );
        assert_eq!((a, b), ((200, 1, here), (200, 2, here)));
        let capped = (0..200)
            .broadcast(2)
            .overflow(Overflow::Grow(10))
            .on(&none());
        let said = message(|| capped.tee_into(|a| a.count(), |b| b.count()));
        assert!(said.contains("Grow(10)"), "{said}");
    });
}

#[test]
fn a_broadcast_of_another_number_says_what_to_write() {
    for readers in [1, 3] {
        let said = message(|| {
            (0..3)
                .broadcast(readers)
                .tee_into(|a| a.count(), |b| b.count())
        });
        assert!(said.contains("write broadcast(2)"), "{said}");
    }
}

/// What is around the call reaches both sinks.
#[test]
fn the_sinks_see_the_token_of_what_they_run_in() {
    for n in 1..=9 {
        within(SOON, move || {
            let (begun, gate) = (Counter::new(), Gate::new());
            let mut stage = (0..9).par_map_ordered(n, {
                let begun = begun.clone();
                move |i| {
                    if i == 0 {
                        return 0;
                    }
                    let waits = || {
                        begun.add();
                        CancelToken::current().wait();
                    };
                    (0..3).tee_into(|_| waits(), |_| waits());
                    i
                }
            });
            let _opener = gate.opener();
            assert_eq!(stage.next(), Some(0));
            begun.wait_for(if n > 1 { 2 } else { 0 });
            drop(stage);
            assert_quiescent();
        });
    }
}

/// It is the same token, not a child of it: a sink that cancels it reaches the other.
#[test]
fn the_sinks_share_the_token() {
    within(SOON, || {
        let done: Result<(), ()> = group(1, |g| {
            g.spawn(|| {
                (0..3).tee_into(
                    |_| CancelToken::current().wait(),
                    |_| CancelToken::current().cancel(),
                );
                (0..3).tee_into(
                    |_| CancelToken::current().cancel(),
                    |_| CancelToken::current().wait(),
                );
                Ok(())
            });
        });
        assert_eq!(done, Ok(()));
    });
}

/// What either makes of a part is not taken for a result, also not on the thread that is not in the closure.
#[test]
fn a_sink_that_is_cut_short_is_heard_of() {
    for place in 0..2 {
        within(SOON, move || {
            let (token, begun) = (CancelToken::new(), Counter::new());
            let counts = std::thread::scope(|s| {
                s.spawn(|| {
                    begun.wait_for(3); // all have been pulled, so nothing but the sinks is cut short
                    token.cancel();
                });
                fanfold::parallel_map_with(&token, 0..3, 3, |_| {
                    let part = |own: usize| {
                        if own != place {
                            return 0;
                        }
                        let begun = begun.clone();
                        let waits = move |_| {
                            begun.add();
                            CancelToken::current().wait();
                        };
                        (0..9).par_map_ordered(1, waits).count()
                    };
                    let counts = (0..3).tee_into(|a| a.count() + part(0), |b| b.count() + part(1));
                    Ok::<_, Cancelled>(counts)
                })
            });
            // The first result is missing already.
            assert_eq!(counts.expect_err("it was cut short").seq(), Some(0));
        });
    }
}

/// The sink on a thread of its own is in nothing then.
#[test]
fn detached_sinks_do_not_see_the_token() {
    within(SOON, || {
        let done: Result<(), ()> = group(1, |g| {
            g.spawn(|| {
                let token = CancelToken::current();
                token.cancel();
                let twice = (0..3).broadcast(2).detached();
                let (a, b) = twice.tee_into(
                    |a| a.count(),
                    |b| (CancelToken::current().is_cancelled(), b.count()),
                );
                assert_eq!((a, b), (3, (false, 3)));
                Ok(())
            });
        });
        assert_eq!(done, Ok(()));
    });
}

/// Stages as the source, and within the sinks.
#[test]
fn stages_before_and_behind_it() {
    for n in 1..=9 {
        within(SOON, move || {
            let source = (0..300_u64).par_map_ordered(n, |i| {
                dawdle(i);
                i
            });
            let (sum, keyed) = source.tee_into(
                |a| a.par_map_ordered(n, |i| i * 2).sum::<u64>(),
                |b| b.par_map_by_key(n, |i| i % 3, |i| i).count(),
            );
            assert_eq!((sum, keyed), (299 * 300, 300));
        });
    }
}
