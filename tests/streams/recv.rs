//! `recv`: a channel as a source, in everything that pulls one and outside of all.
#![cfg(feature = "crossbeam-channel")]

use crate::support::{
    Counter, Gate, SOON, bang, blocks, caught, dawdle, eventually, settle, within,
};
use crossbeam_channel::{Receiver, Sender, bounded, never, tick, unbounded};
use fanfold::testing::assert_quiescent;
use fanfold::{
    CancelToken, Cancelled, Fanfold, Merge, Pool, Recv, SourceOptions, group, merge, parallel_map,
    recv, replica,
};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);

/// A channel with these items, whose sender stays.
fn silent(items: std::ops::Range<u64>) -> (Sender<u64>, Receiver<u64>) {
    let (send, receiver) = unbounded();
    for item in items {
        send.send(item).expect("there is a receiver");
    }
    (send, receiver)
}

// ---- outside of everything

#[test]
fn outside_of_everything_it_waits_as_the_receiver_does() {
    within(SOON, || {
        for receiver in [bounded(0), bounded(1), unbounded()] {
            let (send, receiver) = receiver;
            let mut items = recv(receiver);
            let sender = std::thread::spawn(move || {
                for i in 0..3 {
                    settle(); // mostly, the other side waits by now
                    send.send(i).expect("there is a receiver");
                }
                settle();
            });
            assert!(items.by_ref().eq(0..3));
            assert!(!items.is_cut_short());
            assert_eq!(items.next(), None);
            sender.join().expect("no panic");
        }
    });
}

/// A rendezvous without a wait of the sender: the source must really be receiving.
#[test]
fn a_sender_that_does_not_wait_meets_it() {
    for inside in [false, true] {
        within(SOON, move || {
            let (send, receiver) = bounded(0);
            let sender = std::thread::spawn(move || {
                for i in 0..3 {
                    eventually("it receives", || send.try_send(i).is_ok());
                }
            });
            if inside {
                assert!(recv(receiver).readahead(1).eq(0..3));
            } else {
                assert!(recv(receiver).eq(0..3));
            }
            sender.join().expect("no panic");
        });
    }
}

#[test]
fn a_ticker_is_a_channel_too() {
    within(SOON, || {
        let mut ticks = recv(tick(Duration::from_millis(1))).readahead(1);
        let (first, second) = (ticks.next(), ticks.next());
        assert!(first < second);
    });
}

// ---- several sources

fn three() -> ([Sender<u64>; 3], [Recv<u64>; 3]) {
    let channels = [silent(0..2), silent(2..4), silent(4..6)];
    let senders = channels.each_ref().map(|(send, _)| send.clone());
    (senders, channels.map(|(_, receiver)| recv(receiver)))
}

/// All senders stay, and are silent.
#[test]
fn a_merge_with_time_outs_ends_and_is_dropped() {
    within(SOON, || {
        let pool = Pool::builder().build();
        let (_senders, sources) = three();
        let limit = || SourceOptions::new().timeout(Duration::from_millis(20));
        let merged = sources.into_iter().fold(Merge::new(), |merge, source| {
            merge.source_with(source, limit())
        });
        let mut merged = merged.on(&pool);
        let report = merged.report();
        assert_eq!(merged.by_ref().sum::<u64>(), 15);
        let mut silent = report.timed_out();
        silent.sort();
        assert_eq!(silent, ["source 0", "source 1", "source 2"]);
        drop(merged);
        assert_quiescent();
        drop(pool); // joins its threads
    });
}

#[test]
fn a_merge_is_dropped_cancelled_and_drained_while_all_are_silent() {
    for end in 0..4 {
        within(SOON, move || {
            let (pool, token) = (Pool::builder().build(), CancelToken::new());
            let (_senders, sources) = three();
            let mut merged = match end {
                0 => merge(sources),
                1 => merge(sources).cancel_on(&token),
                2 => merge(sources).cancel_on(&token.with_timeout(Duration::from_millis(20))),
                _ => merge(sources).drain_on(&token),
            }
            .on(&pool);
            // A deadline may pass before that.
            let sum = merged.by_ref().take(6).sum::<u64>();
            assert!(sum == 15 || end == 2 && sum < 15);
            if end > 0 {
                let other = (end != 2).then(|| {
                    std::thread::spawn(move || {
                        settle(); // mostly, the consumer waits by now
                        token.cancel();
                    })
                });
                assert_eq!(merged.next(), None);
                assert!(merged.is_cut_short());
                if let Some(other) = other {
                    other.join().expect("no panic");
                }
            }
            drop(merged);
            assert_quiescent();
            drop(pool);
        });
    }
}

// ---- a stage, and what else pulls

type Stage = Box<dyn Iterator<Item = u64>>;

type Pull = fn(Recv<u64>, usize, &CancelToken) -> Stage;

/// Everything that pulls, with a token on which it ends; if none is tripped, by its drop.
const PULLING: [(&str, Pull); 10] = [
    ("ordered", |items, n, token| {
        Box::new(items.par_map_ordered(n, |i| i).cancel_on(token))
    }),
    ("unordered", |items, n, token| {
        Box::new(items.par_map_unordered(n, |i| i).cancel_on(token))
    }),
    ("drained", |items, n, token| {
        Box::new(items.par_map_ordered(n, |i| i).drain_on(token))
    }),
    ("by key", |items, n, token| {
        let keyed = items.par_map_by_key(n, |i| i % 2, |i| i);
        Box::new(keyed.cancel_on(token))
    }),
    ("by key, drained", |items, n, token| {
        let keyed = items.par_map_by_key(n, |i| i % 2, |i| i);
        Box::new(keyed.drain_on(token))
    }),
    ("readahead", |items, n, token| {
        Box::new(items.readahead(n).cancel_on(token))
    }),
    ("readahead, drained", |items, n, token| {
        Box::new(items.readahead(n).drain_on(token))
    }),
    ("windows", |items, n, token| {
        let windows = items.window(n).readahead(1).drain_on(token);
        Box::new(windows.flatten())
    }),
    ("windows by age", |items, n, token| {
        let windows = items.window(n).max_age(Duration::from_millis(1));
        Box::new(windows.cancel_on(token).flatten())
    }),
    ("a chain", |items, n, token| {
        let first = items.par_map_ordered(n, |i| i).in_flight(2);
        Box::new(first.par_map_by_key(n, |i| *i, |i| i).cancel_on(token))
    }),
];

/// The channel has three items, a sender, and no more.
#[test]
fn whatever_pulls_it_is_cancelled_while_the_sender_is_silent() {
    for (name, pull) in PULLING {
        for n in 1..=9 {
            within(SOON, move || {
                let (token, (_send, receiver)) = (CancelToken::new(), silent(0..3));
                let items = recv(receiver.clone());
                let stage = pull(items, n, &token);
                std::thread::scope(|s| {
                    s.spawn(|| {
                        eventually("all are taken", || receiver.is_empty());
                        settle(); // mostly, all is done by now, and the source waits
                        token.cancel();
                    });
                    let mut got: Vec<u64> = stage.collect();
                    got.sort_unstable();
                    let most = got.len();
                    assert!(most <= 3 && got.into_iter().all(|i| i < 3), "{name}");
                    assert!(most == 3 || !name.contains("drained"), "{name}: {most}");
                });
                assert_quiescent();
            });
        }
    }
}

#[test]
fn whatever_pulls_it_is_dropped_while_the_sender_is_silent() {
    for (name, pull) in PULLING {
        for (n, taken) in (1..=9).flat_map(|n| [(n, 0), (n, 1), (n, 3)]) {
            if name == "windows" && taken > 0 {
                continue; // a window that is not full waits
            }
            within(SOON, move || {
                let (token, (_send, receiver)) = (CancelToken::new(), silent(0..3));
                let mut stage = pull(recv(receiver), n, &token);
                assert_eq!(stage.by_ref().take(taken).count(), taken, "{name}");
                drop(stage);
                assert_quiescent();
            });
        }
    }
}

/// The thread in the source is the consumer's, as the source stays with it, or as the pool has no thread left.
#[test]
fn the_consumers_own_wait_ends() {
    for n in 1..=9 {
        within(SOON, move || {
            let (pool, gate) = (Pool::builder().max_threads(1).build(), Gate::new());
            let mut other = blocks::<u64>(&gate).readahead(1).on(&pool);
            let _opener = gate.opener();
            assert!(other.next_within(Duration::from_millis(1)).is_err());
            let local: fn(_, _, &CancelToken, &Pool) -> Stage = |items: Recv<u64>, n, token, _| {
                Box::new(items.local().par_map_ordered(n, |i| i).cancel_on(token))
            };
            let keyed: fn(_, _, &CancelToken, &Pool) -> Stage = |items: Recv<u64>, n, token, _| {
                let keyed = items.local().par_map_by_key(n, |i| *i, |i| i);
                Box::new(keyed.cancel_on(token))
            };
            let ahead: fn(_, _, &CancelToken, &Pool) -> Stage =
                |items: Recv<u64>, n, token, pool| {
                    Box::new(items.readahead(n).on(pool).cancel_on(token))
                };
            let alone: fn(_, _, &CancelToken, &Pool) -> Stage =
                |items: Recv<u64>, n, token, pool| {
                    let stage = items.par_map_ordered(n, |i| i).on(pool);
                    Box::new(stage.cancel_on(token))
                };
            for make in [local, keyed, ahead, alone] {
                let (token, (_send, receiver)) = (CancelToken::new(), silent(0..3));
                let stage = make(recv(receiver.clone()), n, &token, &pool);
                std::thread::scope(|s| {
                    s.spawn(|| {
                        eventually("all are taken", || receiver.is_empty());
                        settle(); // mostly, the consumer waits by now
                        token.cancel();
                    });
                    assert!(stage.count() <= 3);
                });
            }
        });
    }
}

/// What is in the channel when the token is tripped stays there; what was taken comes out of a drain.
#[test]
fn a_drain_loses_nothing_and_leaves_the_rest() {
    for n in 1..=9 {
        for round in 0..10_u64 {
            within(SOON, move || {
                let (token, (send, receiver)) = (CancelToken::new(), bounded(8));
                let items = recv(receiver.clone());
                let stage = items.par_map_ordered(n, |i: u64| i).drain_on(&token);
                let (got, sent) = std::thread::scope(|s| {
                    let sender = s.spawn({
                        let token = token.clone();
                        move || {
                            let mut sent = 0;
                            // Until nobody takes any more: then the channel is full, and stays so.
                            loop {
                                if sent == round * 7 {
                                    token.cancel();
                                }
                                if send.send_timeout(sent, Duration::from_millis(20)).is_err() {
                                    return sent;
                                }
                                sent += 1;
                            }
                        }
                    });
                    let got = stage.count() as u64;
                    (got, sender.join().expect("no panic"))
                });
                let left: Vec<u64> = receiver.try_iter().collect();
                assert!(left.into_iter().eq(got..sent), "{got} of {sent}");
            });
        }
    }
}

// ---- in closures and tasks

/// An item of the outer stage fails while another one waits for the channel.
#[test]
fn a_failure_beside_it_ends_its_wait() {
    for n in 2..=9 {
        within(SOON, move || {
            let (_send, receiver) = silent(0..3);
            let taken = Counter::new();
            let all = parallel_map(0..n, n, |i| {
                if i == 0 {
                    taken.wait_for(3);
                    settle();
                    return Err("fails");
                }
                let mut items = recv(receiver.clone());
                items.by_ref().for_each(|_| _ = taken.add());
                assert!(items.is_cut_short());
                Ok(i)
            });
            assert_eq!(all, Err("fails"));
        });
    }
}

/// Outside of what has ended, they are still to be had.
#[test]
fn nothing_is_taken_where_nothing_is_wanted() {
    within(SOON, || {
        let (_send, receiver) = silent(0..3);
        let result: Result<(), ()> = group(1, |g| {
            g.token().cancel();
            g.spawn(|| {
                for _ in 0..100 {
                    let mut items = recv(receiver.clone());
                    for _ in 0..2 {
                        assert!(items.next().is_none() && items.is_cut_short());
                    }
                }
                Ok(())
            });
        });
        assert_eq!(result, Ok(()));
        assert!(receiver.try_iter().eq(0..3));
    });
}

/// The closure never waits, as there is always an item.
#[test]
fn a_full_channel_does_not_keep_it_from_hearing() {
    within(SOON, || {
        let (send, receiver) = unbounded();
        let taken = Counter::new();
        let result = group(2, |g| {
            g.spawn(|| {
                let mut items = recv(receiver.clone());
                items.by_ref().for_each(|i: u64| {
                    taken.add();
                    send.send(i).expect("there is a receiver");
                });
                assert!(items.is_cut_short());
                Ok(())
            });
            send.send(1).expect("there is a receiver");
            taken.wait_for(1_000);
            g.spawn(|| Err::<(), _>("fails"));
        });
        assert_eq!(result, Err("fails"));
    });
}

/// What a closure makes of a part of the items is not taken for a result.
#[test]
fn a_closure_that_was_cut_off_has_no_result() {
    within(SOON, || {
        let (token, (_send, receiver)) = (CancelToken::new(), silent(0..3));
        let sums = (0..4).par_map_ordered(2, {
            let receiver = receiver.clone();
            move |_| recv(receiver.clone()).sum::<u64>()
        });
        let mut sums = sums.cancel_on(&token);
        std::thread::scope(|s| {
            s.spawn(|| {
                eventually("all are taken", || receiver.is_empty());
                token.cancel();
            });
            assert_eq!(sums.next(), None);
        });
        assert!(sums.is_cut_short());
        // All closures return a value, and nothing else tells that it is of a part.
        let (token, (_send, receiver)) = (CancelToken::new(), silent(0..3));
        std::thread::scope(|s| {
            s.spawn(|| {
                eventually("all are taken", || receiver.is_empty());
                token.cancel();
            });
            let sums = fanfold::parallel_map_with(&token, 0..3, 3, |_| {
                Ok::<_, Cancelled>(recv(receiver.clone()).sum::<u64>())
            });
            assert_eq!(sums.expect_err("it was cut short").seq(), Some(0));
        });
    });
}

/// The last sender is dropped while it waits, or is about to: an end like any other, and the result counts.
#[test]
fn a_channel_that_ends_during_a_wait_has_not_been_cut_short() {
    for round in 0..20 {
        within(SOON, move || {
            let (send, receiver) = silent(0..3);
            let mut sums = (0..1).par_map_ordered(1, {
                let receiver = receiver.clone();
                move |_| {
                    let mut items = recv(receiver.clone());
                    (items.by_ref().sum::<u64>(), items.is_cut_short())
                }
            });
            std::thread::scope(|s| {
                s.spawn(move || {
                    eventually("all are taken", || receiver.is_empty());
                    if round % 2 == 0 {
                        settle(); // mostly, it waits by now
                    }
                    drop(send);
                });
                assert_eq!(sums.next(), Some((3, false)));
            });
            assert!(!sums.is_cut_short());
        });
    }
}

#[test]
fn it_hears_a_deadline_and_the_end_of_a_hedge() {
    within(SOON, || {
        let (_send, receiver) = silent(0..0);
        let began = Instant::now();
        let token = CancelToken::new().with_timeout(Duration::from_millis(20));
        let all = fanfold::parallel_map_with(&token, 0..3, 3, |i: u32| -> Result<u32, Cancelled> {
            let mut items = recv(receiver.clone());
            assert!(items.next().is_none() && items.is_cut_short());
            CancelToken::current().check()?;
            Ok(i)
        });
        assert!(all.expect_err("a deadline").is_deadline());
        assert!(began.elapsed() >= Duration::from_millis(20));
        let replicas = [0, 1].map(|number| {
            let receiver = receiver.clone();
            replica(move |_| match number {
                0 => recv(receiver).next().ok_or("nothing"),
                _ => Ok(7),
            })
        });
        let hedge = replicas.into_iter().hedge().timeout(HOUR).wait_for_losers();
        assert_eq!(hedge.run(), Ok(7));
    });
}

/// A stage that pulls it runs in a closure, and the item of that closure is given up.
#[test]
fn a_stage_within_a_closure_ends_with_it() {
    for n in 1..=9 {
        within(SOON, move || {
            let (_send, receiver) = silent(0..3);
            let mut outer = (0..9).par_map_ordered(n, {
                let receiver = receiver.clone();
                move |i| {
                    if i == 0 {
                        return 0;
                    }
                    recv(receiver.clone())
                        .par_map_ordered(2, |i| i)
                        .sum::<u64>()
                }
            });
            assert_eq!(outer.next(), Some(0));
            eventually("a closure has begun", || n == 1 || receiver.is_empty());
            drop(outer);
            assert_quiescent();
        });
    }
}

// ---- lent, shared, and at the end

#[test]
fn one_that_was_lent_goes_on() {
    for n in 1..=9 {
        within(SOON, move || {
            let (send, receiver) = silent(0..3);
            let mut items = recv(receiver.clone());
            fanfold::scope(|s| {
                let mut stage = items.by_ref().par_map_ordered(n, |i| i).within(s);
                assert!(stage.by_ref().take(3).eq(0..3));
                drop(stage);
            });
            send.send(3).expect("there is a receiver");
            assert_eq!(items.next(), Some(3));
            assert!(!items.is_cut_short());
            // the source of a source: the outer one ends, the inner one goes on
            let mut ahead = items.readahead(1);
            fanfold::scope(|s| {
                let mut outer = ahead.by_ref().par_map_ordered(n, |i| i).within(s);
                send.send(4).expect("there is a receiver");
                assert_eq!(outer.next(), Some(4));
            });
            send.send(5).expect("there is a receiver");
            assert_eq!(ahead.next(), Some(5));
            drop(send);
            assert_eq!(ahead.next(), None);
            assert!(!ahead.is_cut_short());
        });
    }
}

/// A stage that stays on this thread waits in it, and is lent to another one that does. The end of the latter is not an
/// end of the former, but it ends the wait.
#[test]
fn a_wait_below_a_stage_that_was_lent_ends() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, (send, receiver)) = (CancelToken::new(), silent(0..3));
            let mut inner = recv(receiver.clone()).local().par_map_ordered(n, |i| i);
            let got = fanfold::scope(|s| {
                let outer = inner.by_ref().local().par_map_ordered(n, |i| i);
                let outer = outer.cancel_on(&token).within(s);
                std::thread::scope(|s| {
                    s.spawn(|| {
                        eventually("all are taken", || receiver.is_empty());
                        settle(); // mostly, it waits by now
                        token.cancel();
                    });
                    outer.count()
                })
            });
            assert!(got <= 3);
            send.send(3).expect("there is a receiver");
            drop(send);
            assert_eq!(inner.by_ref().last(), Some(3));
            assert!(!inner.is_cut_short());
        });
    }
}

#[test]
fn several_share_a_channel() {
    for n in 1..=9 {
        within(SOON, move || {
            let (send, receiver) = bounded(4);
            let sender = std::thread::spawn(move || {
                (0..1_000_u64).for_each(|i| {
                    dawdle(i);
                    send.send(i).expect("there is a receiver");
                });
            });
            let mut all: Vec<u64> = merge((0..n).map(|_| recv(receiver.clone()))).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..1_000));
            sender.join().expect("no panic");
        });
    }
}

/// The race of an item with the trip: what is taken is yielded, what is not stays.
#[test]
fn no_item_is_lost_between_the_channel_and_the_token() {
    within(SOON, || {
        for round in 0..1_000_u64 {
            let (send, receiver) = bounded(1);
            let (mut got, items) = (0, round % 5);
            let result: Result<(), ()> = group(1, |g| {
                g.spawn(|| {
                    for item in recv(receiver.clone()) {
                        assert_eq!(item, got);
                        got += 1;
                    }
                    Ok(())
                });
                for item in 0..items {
                    send.send(item).expect("there is a receiver");
                    dawdle(round << 8 | item);
                }
                g.token().cancel();
            });
            assert_eq!(result, Ok(()));
            assert!(receiver.try_iter().eq(got..items), "round {round}");
        }
    });
}

#[test]
fn a_channel_without_a_sender_or_an_end() {
    within(SOON, || {
        let (send, receiver) = unbounded::<u64>();
        drop(send);
        for n in 1..=9 {
            let items = || recv(receiver.clone());
            assert_eq!(items().par_map_ordered(n, |i| i).next(), None);
            assert_eq!(items().readahead(n).count(), 0);
            assert_eq!(items().par_map_by_key(n, |i| *i, |i| i).count(), 0);
            let token = CancelToken::new().with_timeout(Duration::from_millis(1));
            let nothing = recv(never::<u64>()).par_map_ordered(n, |i| i);
            assert_eq!(nothing.cancel_on(&token).next(), None);
        }
    });
}

/// A panic of a closure ends the stage, whose source waits.
#[test]
fn a_panic_beside_it_ends_its_wait() {
    for n in 1..=9 {
        within(SOON, move || {
            let (_send, receiver) = silent(0..3);
            let stage = recv(receiver).par_map_ordered(n, |i| if i == 1 { bang(i) } else { i });
            assert_eq!(caught(|| stage.count()), Err(1));
            assert_quiescent();
        });
    }
}
