//! `Permits`: how much is in use at once, whoever uses it.

use crate::support::{
    Counter, Meter, SOON, bang, caught, dawdle, eventually, message, mix, settle, within,
};
use fanfold::{CancelToken, Cancelled, Fanfold, Permit, Permits, group, parallel_map};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How many threads wait for permits.
pub(crate) fn waiting(permits: &Permits) -> usize {
    let text = format!("{permits:?}");
    let (_, number) = text.split_once("waiting: ").expect("how many wait");
    let digits = number.split(|c: char| !c.is_ascii_digit()).next();
    let number = digits.and_then(|digits| digits.parse().ok());
    number.expect("a number")
}

/// Blocks until so many threads wait.
pub(crate) fn wait_in_line(permits: &Permits, threads: usize) {
    eventually("threads in the line", || waiting(permits) == threads);
}

/// A thread that asks for permits, and is in the line. It reports its number, with what it got.
fn asks(
    permits: &Permits,
    weight: usize,
    token: &CancelToken,
    number: usize,
    tell: &mpsc::Sender<(usize, Result<Permit, Cancelled>)>,
) -> JoinHandle<()> {
    let before = waiting(permits);
    let thread = std::thread::spawn({
        let (permits, token, tell) = (permits.clone(), token.clone(), tell.clone());
        move || {
            let _ = tell.send((number, permits.acquire_with(&token, weight)));
        }
    });
    wait_in_line(permits, before + 1);
    thread
}

// ---- how many

#[test]
fn as_many_as_there_are_at_once_and_no_more() {
    for total in 1..=9 {
        within(SOON, move || {
            let (permits, meter) = (Permits::new(total), Meter::new());
            std::thread::scope(|s| {
                for _ in 0..3 * total {
                    s.spawn(|| {
                        let permit = permits.acquire(1).expect("nothing is cancelled");
                        assert_eq!(permit.weight(), 1);
                        meter.meet(total);
                    });
                }
            });
            assert_eq!(meter.most(), total);
            assert_eq!((permits.available(), permits.total()), (total, total));
        });
    }
}

#[test]
fn a_request_that_can_be_served_does_not_wait() {
    let permits = Permits::new(5);
    let (two, three) = (permits.acquire(2), permits.acquire(3));
    assert_eq!(permits.available(), 0);
    drop(two);
    assert_eq!(permits.available(), 2);
    let one = permits.try_acquire(1).expect("two are free");
    assert!(permits.try_acquire(2).is_none());
    drop((one, three));
    assert_eq!(permits.available(), 5);
}

#[test]
fn clones_are_the_same_permits() {
    let permits = Permits::new(1);
    let clone = permits.clone();
    let permit = permits.acquire(1).expect("it is free");
    assert!(clone.try_acquire(1).is_none());
    drop(permits);
    drop(permit);
    assert_eq!(clone.available(), 1);
}

#[test]
fn no_permits_at_all_are_a_mistake_and_the_message_names_the_fix() {
    let text = message(|| Permits::new(0));
    assert!(text.contains("Permits::new(1)"), "{text}");
}

#[test]
fn what_weighs_more_than_there_is_goes_alone() {
    for total in 1..=9 {
        within(SOON, move || {
            let permits = Permits::new(total);
            let all = permits.try_acquire(usize::MAX).expect("nothing is in use");
            assert_eq!((all.weight(), permits.available()), (total, 0));
            drop(all);
            let one = permits.acquire(1).expect("one is free");
            assert!(permits.try_acquire(total + 1).is_none());
            let (tell, told) = mpsc::channel();
            let token = CancelToken::new();
            let thread = asks(&permits, total + 1, &token, 0, &tell);
            drop(one);
            let (_, permit) = told.recv().expect("it is served");
            assert_eq!(permit.map(|permit| permit.weight()), Ok(total));
            thread.join().expect("no panic");
        });
    }
}

#[test]
fn what_weighs_nothing_never_waits() {
    within(SOON, || {
        let permits = Permits::new(1);
        let held = permits.acquire(1);
        let (tell, told) = mpsc::channel();
        let thread = asks(&permits, 1, &CancelToken::new(), 0, &tell);
        let nothing = permits.acquire(0).expect("it needs nothing");
        assert_eq!(nothing.weight(), 0);
        assert!(permits.try_acquire(0).is_some());
        drop(nothing);
        assert_eq!((permits.available(), waiting(&permits)), (0, 1));
        drop(held);
        thread.join().expect("no panic");
        drop(told);
        assert_eq!(permits.available(), 1);
    });
}

// ---- whose turn it is

#[test]
fn permits_are_given_out_in_the_order_of_the_requests() {
    for total in 1..=9 {
        within(SOON, move || {
            let permits = Permits::new(total);
            let held = permits.acquire(total);
            let ((tell, told), token) = (mpsc::channel(), CancelToken::new());
            let weight = |number: usize| 1 + mix(number as u64) as usize % total;
            let threads: Vec<_> = (0..20)
                .map(|number| asks(&permits, weight(number), &token, number, &tell))
                .collect();
            drop((held, tell));
            // Some are served at the same time, and report in any order; but only those that fit together, and no
            // one before an earlier one.
            let mut open: Vec<(usize, Permit)> = Vec::new();
            let mut next = 0;
            while next < 20 || !open.is_empty() {
                let fit = (next..20).scan(0, |sum, number| {
                    *sum += weight(number);
                    let held: usize = open.iter().map(|(_, permit)| permit.weight()).sum();
                    (held + *sum <= total).then_some(number)
                });
                let fit: Vec<usize> = fit.collect();
                let mut served: Vec<_> =
                    fit.iter().map(|_| told.recv().expect("it fits")).collect();
                served.sort_by_key(|(number, _)| *number);
                assert!(served.iter().map(|(number, _)| number).eq(&fit));
                let served = served.into_iter();
                open.extend(
                    served.map(|(number, permit)| (number, permit.expect("not cancelled"))),
                );
                next += fit.len();
                assert_eq!(waiting(&permits), 20 - next);
                assert!(permits.try_acquire(1).is_none() || next == 20);
                // Any of them ends.
                let ends = mix(next as u64) as usize % open.len();
                drop(open.remove(ends));
            }
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert_eq!(permits.available(), total);
        });
    }
}

#[test]
fn a_heavy_request_is_not_overtaken_by_light_ones() {
    within(SOON, || {
        let permits = Permits::new(3);
        let two = permits.acquire(2);
        let ((tell, told), token) = (mpsc::channel(), CancelToken::new());
        let heavy = asks(&permits, 3, &token, 3, &tell);
        // One is free, and remains so.
        assert!(permits.try_acquire(1).is_none());
        let light = asks(&permits, 1, &token, 1, &tell);
        settle();
        assert_eq!((permits.available(), waiting(&permits)), (1, 2));
        drop(two);
        let (first, all) = told.recv().expect("the heavy one");
        assert_eq!((first, waiting(&permits)), (3, 1));
        drop(all);
        let (second, one) = told.recv().expect("the light one");
        assert_eq!((second, one.map(|one| one.weight())), (1, Ok(1)));
        heavy.join().expect("no panic");
        light.join().expect("no panic");
    });
}

#[test]
fn those_behind_one_that_gives_up_get_what_it_did_not() {
    within(SOON, || {
        let permits = Permits::new(3);
        let two = permits.acquire(2);
        let ((tell, told), token) = (mpsc::channel(), CancelToken::new());
        let heavy = asks(&permits, 3, &token.child(), 3, &tell);
        let light = asks(&permits, 1, &CancelToken::new(), 1, &tell);
        token.cancel();
        let mut ends = [told.recv(), told.recv()].map(|end| end.expect("an end"));
        ends.sort_by_key(|(number, _)| *number);
        let [(_, one), (_, none)] = &ends;
        assert!(one.is_ok() && none.is_err());
        assert_eq!((permits.available(), waiting(&permits)), (0, 0));
        drop((two, ends));
        heavy.join().expect("no panic");
        light.join().expect("no panic");
        assert_eq!(permits.available(), 3);
    });
}

// ---- tokens

#[test]
fn a_tripped_token_gets_nothing_even_if_it_is_free() {
    let permits = Permits::new(2);
    let token = CancelToken::new();
    token.cancel();
    for weight in [0, 1, 9] {
        let why = permits.acquire_with(&token, weight).map(drop);
        assert_eq!(why.map_err(|why| why.is_deadline()), Err(false));
    }
    let late = CancelToken::new().with_timeout(Duration::ZERO);
    let why = permits.acquire_with(&late, 1).map(drop);
    assert_eq!(why.map_err(|why| why.is_deadline()), Err(true));
    assert_eq!(permits.available(), 2);
}

#[test]
fn a_wait_ends_when_its_token_is_tripped() {
    for trips_parent in [false, true] {
        within(SOON, move || {
            let permits = Permits::new(1);
            let held = permits.acquire(1);
            let (parent, (tell, told)) = (CancelToken::new(), mpsc::channel());
            let token = parent.child();
            let threads: Vec<_> = (0..9)
                .map(|i| asks(&permits, 1, &token, i, &tell))
                .collect();
            if trips_parent { &parent } else { &token }.cancel();
            for _ in 0..9 {
                let (_, end) = told.recv().expect("an end");
                assert!(end.is_err_and(|why| !why.is_deadline()));
            }
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert_eq!((permits.available(), waiting(&permits)), (0, 0));
            drop(held);
            assert_eq!(permits.available(), 1);
        });
    }
}

#[test]
fn a_wait_ends_at_its_deadline() {
    within(SOON, || {
        let permits = Permits::new(1);
        let _held = permits.acquire(1);
        let token = CancelToken::new().with_timeout(Duration::from_millis(2));
        let why = permits.acquire_with(&token, 1).map(drop);
        assert_eq!(why.map_err(|why| why.is_deadline()), Err(true));
    });
}

type Work = fn(&Permits, &Counter);

/// The closures of these wait for a permit that never comes, until what surrounds them ends.
const WORKS: [(&str, Work); 6] = [
    ("a stage that is dropped", |permits, given_up| {
        let mut stage = (0..9).par_map_unordered(3, {
            let (permits, given_up) = (permits.clone(), given_up.clone());
            move |i| {
                if i > 0 && permits.acquire(1).is_err() {
                    given_up.add();
                }
            }
        });
        assert!(stage.next().is_some());
        wait_in_line(permits, 3);
        drop(stage);
    }),
    ("a stage that is cancelled", |permits, given_up| {
        let token = CancelToken::new();
        let stage = (0..9).par_map_ordered(3, |_| {
            if permits.acquire(1).is_err() {
                given_up.add();
            }
        });
        std::thread::scope(|s| {
            s.spawn(|| {
                wait_in_line(permits, 3);
                token.cancel();
            });
            stage.cancel_on(&token).for_each(drop);
        });
    }),
    ("a loop of which an item fails", |permits, given_up| {
        let all = parallel_map(0..9, 4, |i| {
            if i == 0 {
                wait_in_line(permits, 3);
                return Err(());
            }
            permits.acquire(1).map(drop).map_err(|_| {
                given_up.add();
            })
        });
        assert_eq!(all, Err(()));
    }),
    ("a group of which a task fails", |permits, given_up| {
        let end = group(9, |g| {
            for _ in 0..3 {
                g.spawn(|| {
                    permits.acquire(1).map(drop).map_err(|_| {
                        given_up.add();
                    })
                });
            }
            g.spawn(|| {
                wait_in_line(permits, 3);
                Err::<(), _>(())
            });
        });
        assert_eq!(end, Err(()));
    }),
    ("a keyed stage that fails", |permits, given_up| {
        let stage = (0..9).try_par_map_by_key(
            4,
            |i| *i,
            |i| {
                if i == 0 {
                    wait_in_line(permits, 3);
                    return Err(());
                }
                permits.acquire(1).map(drop).map_err(|_| {
                    given_up.add();
                })
            },
        );
        assert_eq!(stage.collect::<Vec<_>>().last(), Some(&Err(())));
    }),
    ("a source that is dropped", |permits, given_up| {
        let merged = fanfold::merge((0..3).map(|_| {
            let (permits, given_up) = (permits.clone(), given_up.clone());
            std::iter::once(()).chain(std::iter::from_fn(move || {
                let end = permits.acquire(1).ok();
                if end.is_none() {
                    given_up.add();
                }
                end.map(drop)
            }))
        }));
        let mut merged = merged;
        assert!(merged.next().is_some());
        wait_in_line(permits, 3);
        drop(merged);
    }),
];

#[test]
fn a_wait_ends_with_the_work_that_it_is_part_of() {
    for (name, work) in WORKS {
        let (permits, given_up) = (Permits::new(1), Counter::new());
        let held = permits.acquire(1);
        within(SOON, {
            let (permits, given_up) = (permits.clone(), given_up.clone());
            move || work(&permits, &given_up)
        });
        assert!(given_up.get() >= 3, "{name}");
        assert_eq!((permits.available(), waiting(&permits)), (0, 0), "{name}");
        drop(held);
        assert_eq!(permits.available(), 1, "{name}");
    }
}

/// In a source the wait ends when nothing is wanted from it, also if no token says so: the inner stage may have been
/// lent, so it is not cancelled.
#[test]
fn a_wait_in_a_source_ends_when_its_items_are_not_wanted_any_more() {
    within(SOON, || {
        let (permits, given_up) = (Permits::new(1), Counter::new());
        let held = permits.acquire(1);
        let inner = std::iter::once(0).chain(std::iter::from_fn({
            let (permits, given_up) = (permits.clone(), given_up.clone());
            move || {
                let permit = permits.acquire(1).map_err(|_| given_up.add()).ok();
                permit.map(|_| 1)
            }
        }));
        let readers = inner.broadcast(1).readers().pop().expect("one");
        let mut outer = readers.par_map_ordered(2, |i| i);
        assert_eq!(outer.next(), Some(0));
        wait_in_line(&permits, 1);
        drop(outer);
        assert_eq!((given_up.get(), waiting(&permits)), (1, 0));
        drop(held);
    });
}

// ---- what becomes of a permit

#[test]
fn a_permit_may_be_dropped_on_another_thread() {
    within(SOON, || {
        let permits = Permits::new(2);
        let (send, received) = mpsc::channel::<Permit>();
        let other = std::thread::spawn(move || received.into_iter().for_each(drop));
        for _ in 0..100 {
            send.send(permits.acquire(2).expect("not cancelled"))
                .expect("it is there");
        }
        drop(send);
        other.join().expect("no panic");
        assert_eq!(permits.available(), 2);
    });
}

#[test]
fn a_permit_may_go_along_with_an_item() {
    for n in 1..=9 {
        within(SOON, move || {
            let (permits, meter) = (Permits::new(3), Meter::new());
            let source = (0..100_u64).map({
                let (permits, meter) = (permits.clone(), meter.clone());
                move |i| {
                    let permit = permits.acquire(1).expect("not cancelled");
                    (i, meter.enter(), permit)
                }
            });
            let mut stage = source.par_map_ordered(n, |item| item);
            assert!((&mut stage).map(|(i, ..)| i).eq(0..100));
            assert!(meter.most() <= 3);
            assert_eq!(permits.available(), 3);
        });
    }
}

#[test]
fn a_panic_gives_its_permit_back() {
    let permits = Permits::new(4);
    let end = caught(|| {
        let _permit = permits.acquire(3);
        bang(7);
    });
    assert_eq!((end, permits.available()), (Err(7), 4));
}

/// Requests of all kinds and ends of all kinds, at random. What is in use never exceeds the total, and nothing is lost.
#[test]
fn nothing_is_lost_or_made_whatever_happens() {
    for total in 1..=9 {
        within(2 * SOON, move || {
            let (permits, in_use) = (Permits::new(total), AtomicUsize::new(0));
            let (send, received) = mpsc::channel::<Used>();
            let token = CancelToken::new();
            std::thread::scope(|s| {
                // Permits that end on another thread.
                s.spawn(|| received.into_iter().for_each(drop));
                for thread in 0..8 {
                    let (permits, in_use, token, send) = (&permits, &in_use, &token, send.clone());
                    s.spawn(move || {
                        let mut child = token.child();
                        for step in 0..200 {
                            let random = mix(total as u64 ^ thread << 20 ^ step << 40);
                            if child.is_cancelled() {
                                child = token.child();
                            }
                            one_step(permits, in_use, &mut child, random, &send);
                        }
                    });
                }
                drop(send);
            });
            assert_eq!(in_use.load(SeqCst), 0);
            assert_eq!((permits.available(), waiting(&permits)), (total, 0));
        });
    }
}

/// What is in use, beside the permit for it.
struct Used<'a> {
    in_use: &'a AtomicUsize,
    permit: Permit,
}

impl<'a> Used<'a> {
    fn new(in_use: &'a AtomicUsize, permit: Permit, total: usize) -> Self {
        let now = in_use.fetch_add(permit.weight(), SeqCst) + permit.weight();
        assert!(now <= total, "{now} of {total} are in use");
        Used { in_use, permit }
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.permit.weight(), SeqCst);
    }
}

fn one_step<'a>(
    permits: &Permits,
    in_use: &'a AtomicUsize,
    token: &mut CancelToken,
    random: u64,
    send: &mpsc::Sender<Used<'a>>,
) {
    let total = permits.total();
    let weight = (random >> 8) as usize % (total + 2);
    let permit = match random % 4 {
        0 => permits.try_acquire(weight),
        1 => permits.acquire(weight).ok(),
        2 => {
            let soon = Duration::from_micros(random >> 16 & 255);
            permits.acquire_with(&token.with_timeout(soon), weight).ok()
        }
        _ => {
            // Tripped by another thread, at any moment of the wait.
            let stop = token.child();
            let trips = stop.clone();
            let thread = std::thread::spawn(move || {
                dawdle(random >> 16);
                trips.cancel();
            });
            let permit = permits.acquire_with(&stop, weight).ok();
            let used = permit.map(|permit| Used::new(in_use, permit, total));
            thread.join().expect("no panic");
            return drop(used);
        }
    };
    let Some(permit) = permit else { return };
    let used = Used::new(in_use, permit, total);
    dawdle(random >> 24);
    match random >> 32 & 7 {
        0 => send.send(used).expect("it is there"),
        1 => {
            let end = caught(move || {
                let _used = used;
                bang(1);
            });
            assert_eq!(end, Err(1));
        }
        _ => drop(used),
    }
}

#[test]
fn what_it_is_can_be_seen() {
    let permits = Permits::new(3);
    let permit = permits.acquire(2);
    let text = format!("{permits:?}");
    assert_eq!(text, "Permits { total: 3, available: 1, waiting: 0 }");
    assert!(format!("{permit:?}").contains("weight: 2"));
}
