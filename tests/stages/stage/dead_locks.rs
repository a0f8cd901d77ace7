//! A wait for permits that cannot end, because of closures of `limited_by` stages, is a panic in debug builds.
#![cfg(debug_assertions)]

use crate::permits::waiting;
use crate::support::{Meter, SOON, dawdle, eventually, message, payload, within};
use fanfold::{Cancelled, Fanfold, Permits, group, merge, parallel_map, replica};
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::time::Duration;

type Work = fn(&Permits);

/// Waits in a closure that holds a permit, each in another way.
const WAYS: [(&str, Work); 14] = [
    ("at once", |permits| {
        let _ = permits.acquire(1);
    }),
    ("in a stage", |permits| {
        let inner = (0..3).par_map_ordered(2, |i| i).limited_by(permits);
        inner.for_each(drop);
    }),
    ("in a stage that is unordered", |permits| {
        let inner = (0..3).par_map_unordered(2, |i| i).limited_by(permits);
        inner.for_each(drop);
    }),
    ("in a stage by key", |permits| {
        let inner = (0..3).par_map_by_key(2, |i| *i, |i| i).limited_by(permits);
        inner.for_each(drop);
    }),
    ("in a stage with a time limit", |permits| {
        let inner = (0..3).par_map_ordered(2, |i| i).limited_by(permits);
        inner
            .item_timeout(Duration::from_secs(3_600))
            .for_each(drop);
    }),
    ("in a stage with a state", |permits| {
        let inner = (0..3).par_map_ordered_init(2, || (), |(), i| i);
        inner.limited_by(permits).for_each(drop);
    }),
    ("in a closure of a stage without a limit", |permits| {
        let acquire = |_: u8| permits.acquire(1).map(drop);
        let inner = (0..3).par_map_ordered(2, acquire);
        assert!(inner.count() > 0);
    }),
    ("in a stage within that", |permits| {
        let innermost = |_: u8| {
            let inner = (0..3_u8).par_map_ordered(2, |i| i);
            inner.limited_by(permits).count()
        };
        (0..3).par_map_ordered(2, innermost).for_each(drop);
    }),
    ("in the first of a chain", |permits| {
        let inner = (0..3).par_map_ordered(2, |i| i).limited_by(permits);
        inner.par_map_ordered(2, |i| i).for_each(drop);
    }),
    ("in a loop", |permits| {
        let all = parallel_map(0..3, 2, |_| permits.acquire(1).map(drop));
        let _: Result<Vec<()>, Cancelled> = all;
    }),
    ("in a task", |permits| {
        let end = group(2, |g| g.spawn(|| permits.acquire(1).map(drop)));
        let _: Result<_, Cancelled> = end;
    }),
    ("in a replica", |permits| {
        let permits = permits.clone();
        let ask = replica(move |_| permits.acquire(1).map(drop));
        // Its panic is a failure.
        if let Err(why) = [ask].into_iter().hedge().run() {
            panic!("{why:?}");
        }
    }),
    ("in a source", |permits| {
        let sources = (0..2).map(|_| {
            let permits = permits.clone();
            std::iter::from_fn(move || permits.acquire(1).ok().map(drop))
        });
        let _ = merge(sources.collect::<Vec<_>>()).next();
    }),
    ("in a sink", |permits| {
        let sink = |_, items: fanfold::Reader<_, _>| {
            let _permit = permits.acquire(1);
            items.count()
        };
        let _ = (0..3).broadcast_into(2, sink);
    }),
];

/// Fails unless each of these ends with the panic.
#[track_caller]
fn found(name: &str, permits: &Permits, run: impl FnOnce(&Permits) + Send + 'static) {
    let inside = permits.clone();
    let text = payload(|| within(SOON, move || message(|| run(&inside))));
    let text = text.unwrap_or_else(|why| {
        eprintln!("{name}");
        resume_unwind(why)
    });
    assert!(text.contains("dead-lock of permits"), "{name}: {text}");
    // A replica that nobody waits for any more may have just got one.
    let left = || (permits.available(), waiting(permits));
    eventually(name, || left() == (permits.total(), 0));
}

#[test]
fn a_closure_that_waits_for_its_own_permit_is_found() {
    for (name, work) in WAYS {
        found(name, &Permits::new(1), move |permits| {
            let outer = (0..3).par_map_ordered(2, |_| work(permits));
            outer.limited_by(permits).for_each(drop);
        });
    }
}

#[test]
fn the_kind_of_the_outer_stage_does_not_matter() {
    let outers: [Work; 5] = [
        |permits| {
            let outer = (0..9).par_map_unordered(2, |_| WAYS[1].1(permits));
            outer.limited_by(permits).for_each(drop);
        },
        |permits| {
            let outer = (0..9).par_map_by_key(2, |i| *i, |_| WAYS[1].1(permits));
            outer.limited_by(permits).for_each(drop);
        },
        |permits| {
            let outer = (0..9).par_map_ordered(2, |_| WAYS[1].1(permits));
            let outer = outer.item_timeout(Duration::from_secs(3_600));
            outer.limited_by(permits).for_each(drop);
        },
        |permits| {
            let outer = (0..9).try_par_map_ordered(2, |_| {
                WAYS[1].1(permits);
                Ok::<_, Infallible>(())
            });
            outer.limited_by(permits).for_each(drop);
        },
        |permits| {
            let outer = (0..9).local().par_map_ordered(2, |_| WAYS[1].1(permits));
            outer.limited_by(permits).for_each(drop);
        },
    ];
    for outer in outers {
        found("an outer stage", &Permits::new(1), outer);
    }
}

/// Each outer closure leaves something to the inner ones, but all of them together do not.
#[test]
fn closures_that_hold_all_permits_and_all_wait_are_found() {
    for total in 2..=9 {
        for (name, work) in WAYS {
            found(name, &Permits::new(total), move |permits| {
                let meter = Meter::new();
                let outer = (0..40).par_map_ordered(12, |_| {
                    meter.meet(total);
                    work(permits);
                });
                outer.limited_by(permits).for_each(drop);
            });
        }
    }
}

/// Two stages, each of which would find enough permits, were it not for the other.
#[test]
fn closures_of_several_stages_are_found() {
    found("two stages", &Permits::new(4), |permits| {
        let meter = Meter::new();
        let outer = |_: u8| {
            meter.meet(4);
            WAYS[1].1(permits);
        };
        std::thread::scope(|s| {
            let [a, b] = [(); 2].map(|()| {
                s.spawn(|| {
                    (0..2)
                        .par_map_ordered(2, outer)
                        .limited_by(permits)
                        .for_each(drop);
                })
            });
            let ends = [a.join(), b.join()];
            let mut ends = ends.into_iter().filter_map(Result::err);
            resume_unwind(ends.next().expect("at least one is stuck"));
        });
    });
}

/// The last permit that a wait could hope for comes back, and is not enough.
#[test]
fn a_dead_lock_that_begins_with_what_is_given_back_is_found() {
    found("given back", &Permits::new(3), |permits| {
        let one = permits.acquire(1);
        let meter = Meter::new();
        let outer = |_: u8| {
            meter.meet(2);
            let _ = permits.acquire(2);
        };
        std::thread::scope(|s| {
            let stage = s.spawn(|| (0..2).par_map_ordered(2, outer).limited_by(permits).count());
            crate::permits::wait_in_line(permits, 2);
            drop(one);
            resume_unwind(stage.join().expect_err("both are stuck"));
        });
    });
}

/// What a closure has returned is not in it any more.
#[test]
fn a_stage_that_outlives_its_closure_is_not_taken_for_nested() {
    for n in 1..=4 {
        within(SOON, move || {
            let (permits, other) = (Permits::new(1), Permits::new(9));
            let inner = {
                let permits = permits.clone();
                move |i: u64| {
                    let inner = (0..3)
                        .par_map_ordered(2, move |j| i * j)
                        .limited_by(&permits);
                    let mut inner = inner.peekable();
                    // Starts while the closure holds a permit of other ones.
                    assert_eq!(inner.peek(), Some(&0));
                    inner
                }
            };
            let outer = (0..9).par_map_ordered(n, inner).limited_by(&other);
            let outer = outer
                .flatten()
                .par_map_ordered(2, |i| i)
                .limited_by(&permits);
            assert!(outer.eq((0..9).flat_map(|i| (0..3).map(move |j| i * j))));
        });
    }
}

/// Many outer closures at work, but never enough of them to hold all.
#[test]
fn waits_that_end_are_not_taken_for_dead_locks() {
    for total in 3..=9 {
        within(SOON, move || {
            let permits = &Permits::new(total);
            let outer = (0..60).par_map_ordered(total - 1, |i| {
                let inner = (0..5).par_map_ordered(9, dawdle).limited_by(permits);
                inner.count() + i
            });
            let sum: usize = outer.limited_by(permits).sum();
            assert_eq!(sum, 60 * 5 + 59 * 30);
            assert_eq!(permits.available(), total);
        });
    }
}
