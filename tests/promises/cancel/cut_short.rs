//! Early ends: what they look like, how to tell them from other ends, and what they lose.

use crate::support::{
    Counter, Gate, SOON, bang, blocks, calls_counted, caught, counted, dawdle, listens, panics_at,
    payload, within,
};
use fanfold::{
    CancelToken, Cancelled, Fanfold, HedgePolicy, ItemError, Merge, Plan, SourceOptions, Stage,
    merge, merge_sorted_by_key, round_robin,
};
use std::convert::Infallible;
use std::iter::from_fn;
use std::ops::Range;
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

type Row = Result<u64, Cancelled>;

// ---- why

#[test]
fn a_token_says_why_it_was_tripped() {
    let by_call = CancelToken::new();
    by_call.cancel();
    let by_deadline = CancelToken::new().with_deadline(Instant::now());
    let why = |token: &CancelToken| token.check().unwrap_err().is_deadline();
    assert!(!why(&by_call) && !why(&by_call.child()) && !why(&by_call.with_timeout(HOUR)));
    assert!(why(&by_deadline) && why(&by_deadline.child()));
    by_deadline.cancel(); // too late
    assert!(why(&by_deadline) && why(&by_deadline.child()));
    assert!(
        !why(&by_call.with_timeout(Duration::ZERO)),
        "it was so already"
    );
    assert!(by_deadline.sleep(HOUR).unwrap_err().is_deadline());
    assert!(!by_call.sleep(HOUR).unwrap_err().is_deadline());
    assert_eq!(by_call.check(), Err(Cancelled::default()));
    assert_eq!(
        by_deadline.check().unwrap_err().to_string(),
        "the deadline has passed"
    );
}

#[test]
fn a_deadline_with_a_hook_trips_for_that_reason() {
    within(SOON, || {
        let root = CancelToken::new();
        let hurried = root.with_timeout(Duration::from_millis(5));
        let below = hurried.child();
        let heard = Gate::new();
        let hook = {
            let heard = heard.clone();
            below.on_cancel(move || heard.open())
        };
        heard.wait();
        assert!(hurried.check().unwrap_err().is_deadline());
        assert!(below.check().unwrap_err().is_deadline());
        assert!(root.check().is_ok());
        drop(hook);
    });
}

// ---- fail_on

/// Everything that yields rows, under a token that makes it fail.
#[allow(clippy::type_complexity)]
const FAILING: &[(
    &str,
    fn(Box<dyn Iterator<Item = u64> + Send>, &CancelToken) -> Box<dyn Early>,
)] = &[
    ("try stage", |source, token| {
        Box::new(source.try_par_map_ordered(3, Row::Ok).fail_on(token))
    }),
    ("try stage without an order", |source, token| {
        Box::new(source.try_par_map_unordered(3, Row::Ok).fail_on(token))
    }),
    ("try filter", |source, token| {
        let stage = source.try_par_filter(3, |_| Ok(true));
        Box::new(stage.fail_on(token))
    }),
    ("try filter_map", |source, token| {
        let stage = source.try_par_filter_map(3, |i| Ok(Some(i)));
        Box::new(stage.fail_on(token))
    }),
    ("try flat_map", |source, token| {
        let stage = source.try_par_flat_map(3, |i| Ok([Ok(i)]));
        Box::new(stage.fail_on(token))
    }),
    ("flat_map of results", |source, token| {
        let stage = source.par_flat_map(3, |i| [Row::Ok(i)]);
        Box::new(stage.fail_on(token))
    }),
    ("weighed", |source, token| {
        let stage = source
            .try_par_map_ordered(3, Row::Ok)
            .parked_weight(2, |_| 1);
        Box::new(stage.in_flight_weight(8, |_| 3).fail_on(token))
    }),
    ("try init", |source, token| {
        let stage = source.try_par_map_ordered_init(3, || Ok(()), |(), i| Ok(i));
        Box::new(stage.fail_on(token))
    }),
    ("stage of results", |source, token| {
        Box::new(source.par_map_ordered(3, Row::Ok).fail_on(token))
    }),
    ("stage without an order", |source, token| {
        Box::new(source.par_map_unordered(3, Row::Ok).fail_on(token))
    }),
    ("stage of one", |source, token| {
        Box::new(
            source
                .par_map_ordered(1, Row::Ok)
                .in_flight(1)
                .fail_on(token),
        )
    }),
    ("keyed", |source, token| {
        Box::new(source.par_map_by_key(3, |i| *i % 5, Row::Ok).fail_on(token))
    }),
    ("readahead", |source, token| {
        Box::new(source.map(Row::Ok).readahead(3).fail_on(token))
    }),
    ("merge", |source, token| {
        Box::new(fanfold::merge([source.map(Row::Ok)]).fail_on(token))
    }),
    ("round_robin", |source, token| {
        Box::new(fanfold::round_robin([source.map(Row::Ok)]).fail_on(token))
    }),
    ("merge_sorted", |source, token| {
        let sorted =
            fanfold::merge_sorted_by_key([source.map(Row::Ok)], |row| row.expect("a number"));
        Box::new(sorted.assume_sorted().fail_on(token))
    }),
];

trait Early: Iterator<Item = Row> {
    fn cut(&self) -> bool;
}

impl<P: Plan<Output = Row> + 'static> Early for Stage<P> {
    fn cut(&self) -> bool {
        self.is_cut_short()
    }
}

#[test]
fn a_stage_that_fails_on_a_token_ends_with_one_error() {
    for (name, make) in FAILING {
        for after in [0, 1, 5, 77] {
            within(SOON, move || {
                let token = CancelToken::new();
                let mut rows = make(Box::new(0..), &token);
                for _ in 0..after {
                    assert!(rows.next().expect("it is endless").is_ok(), "{name}");
                }
                token.cancel();
                let rest: Vec<Row> = rows.by_ref().collect();
                let (last, done) = rest.split_last().expect("an error at least");
                assert!(done.iter().all(Result::is_ok), "{name}: {rest:?}");
                assert!(!last.expect_err("the last").is_deadline(), "{name}");
                assert_eq!(rows.next(), None, "{name}: nothing behind it");
                assert!(rows.cut(), "{name}");
            });
        }
    }
}

#[test]
fn the_error_says_why_and_where() {
    for n in 1..=9 {
        within(SOON, move || {
            let limit = CancelToken::new().with_timeout(Duration::from_millis(5));
            let rows = (0..).try_par_map_ordered(n, Row::Ok).fail_on(&limit);
            let rows: Vec<Row> = rows.collect();
            let why = rows.last().expect("an error").expect_err("the last");
            assert!(why.is_deadline());
            assert_eq!(why.seq(), Some(rows.len() as u64 - 1));
            let said = format!(
                "the deadline has passed before item {} was done",
                rows.len() - 1
            );
            assert_eq!(why.to_string(), said);
        });
    }
}

#[test]
fn a_complete_stage_does_not_fail_on_its_token() {
    for (name, make) in FAILING {
        within(SOON, move || {
            let token = CancelToken::new();
            let mut rows = make(Box::new(0..100), &token);
            let (low, high) = rows.size_hint();
            assert!(low <= 100 && high.is_none_or(|high| high >= 100), "{name}");
            assert_eq!(rows.by_ref().flatten().count(), 100, "{name}");
            token.cancel();
            assert_eq!(rows.next(), None, "{name}");
            assert!(!rows.cut(), "{name}");
        });
    }
}

/// Even if the stage has yielded as many items as the hint promised.
#[test]
fn the_hint_has_room_for_the_error() {
    for (name, make) in FAILING {
        within(SOON, move || {
            let (gate, token) = (Gate::new(), CancelToken::new());
            let source = (0..3).chain(gated(&gate));
            let mut rows = make(Box::new(source), &token);
            let _open = gate.opener(); // before the drop, which waits for the source
            for _ in 0..3 {
                assert!(rows.next().is_some());
            }
            token.cancel();
            let (_, high) = rows.size_hint();
            assert!(high.is_none_or(|high| high >= 1), "{name}");
            assert!(rows.next().is_some_and(|row| row.is_err()), "{name}");
            assert_eq!(rows.size_hint().0, 0, "{name}");
            assert_eq!(rows.next(), None, "{name}");
        });
    }
}

/// Yields no item, and ends only once the gate is open.
fn gated(gate: &Gate) -> impl Iterator<Item = u64> + Send + use<> {
    let gate = gate.clone();
    let mut asked = 0..1;
    from_fn(move || {
        asked.next()?;
        gate.wait();
        None
    })
}

#[test]
fn a_stage_under_fail_on_fails_on_any_other_token_too() {
    within(SOON, || {
        let (fails, cancels) = (CancelToken::new(), CancelToken::new());
        cancels.cancel();
        let rows = (0..).try_par_map_ordered(2, Row::Ok);
        let rows = rows.cancel_on(&cancels).fail_on(&fails);
        let rows: Vec<Row> = rows.collect();
        assert_eq!(rows.iter().filter(|row| row.is_err()).count(), 1);
        // And so is the end of the surrounding stage.
        let (cancels, started) = (CancelToken::new(), Gate::new());
        let f = |_| {
            let rows = (0..).try_par_map_ordered(2, Row::Ok).fail_on(&fails);
            let rows = rows.inspect(|_| started.open());
            assert!(rows.last().is_some_and(|row| row.is_err()));
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                started.wait();
                cancels.cancel();
            });
            let stage = (0..9).par_map_ordered(2, f).cancel_on(&cancels);
            assert!(stage.count() <= 2, "those that run come to their end");
        });
    });
}

#[test]
fn an_isolated_stage_fails_on_a_token() {
    for isolated_last in [false, true] {
        within(SOON, move || {
            let token = CancelToken::new();
            let f = |i: u64| if i == 2 { bang(i) } else { Row::Ok(i) };
            let stage = (0..).par_map_ordered(2, f);
            let results: Vec<Result<Row, ItemError>> = if isolated_last {
                let stage = stage.fail_on(&token).isolate();
                stage.inspect(|_| token.cancel()).collect()
            } else {
                let stage = stage.isolate().fail_on(&token);
                stage.inspect(|_| token.cancel()).collect()
            };
            let last = results.last().expect("some").as_ref().unwrap_err();
            assert!(last.is_cancelled() && !last.is_panic() && !last.is_timeout());
            assert_eq!(last.seq(), results.len() as u64 - 1);
            let said = format!("item {} was not done: cancelled", results.len() - 1);
            assert_eq!(last.to_string(), said);
        });
    }
}

#[test]
fn an_error_of_the_stage_comes_instead_of_that_of_the_token() {
    for n in 1..=9 {
        within(SOON, move || {
            let token = CancelToken::new();
            let f = |i: u64| {
                if i == 40 {
                    token.cancel();
                    return Err(Cancelled::default());
                }
                Ok(i)
            };
            let rows = (0..).try_par_map_ordered(n, f).in_flight(1);
            let rows: Vec<Row> = rows.fail_on(&token).collect();
            assert_eq!(rows.len(), 41);
            assert_eq!(rows[40].unwrap_err().seq(), None, "it is the closure's own");
        });
    }
}

#[test]
fn a_late_stage_is_not_cut_short() {
    within(SOON, || {
        let (token, gate) = (CancelToken::new(), Gate::new());
        let inner = gate.clone();
        let rows = (0..2).try_par_map_ordered(2, move |i| {
            inner.wait();
            Row::Ok(i)
        });
        let mut rows = rows.fail_on(&token);
        assert!(rows.next_within(Duration::ZERO).is_err());
        assert!(!rows.is_cut_short());
        gate.open();
        assert_eq!(rows.next_within(HOUR), Ok(Some(Ok(0))));
        token.cancel();
        let mut errors = 0;
        while let Some(row) = rows.next_within(HOUR).expect("it is over") {
            errors += usize::from(row.is_err());
        }
        assert_eq!(errors, usize::from(rows.is_cut_short()));
    });
}

// ---- is_cut_short

#[test]
fn other_ends_are_not_cuts() {
    within(SOON, || {
        let mut whole = (0..9).par_map_ordered(2, |i| i);
        assert!(!whole.is_cut_short());
        assert_eq!(whole.by_ref().count(), 9);
        assert!(!whole.is_cut_short());
        let mut failed = (0..9).try_par_map_ordered(2, |i| if i == 3 { Err(i) } else { Ok(i) });
        assert_eq!(failed.by_ref().count(), 4);
        assert!(!failed.is_cut_short());
        let mut panicked = (0..9_u64).par_map_ordered(2, |i| if i == 3 { bang(i) } else { i });
        assert_eq!(caught(|| panicked.by_ref().count()), Err(3));
        assert_eq!(panicked.next(), None);
        assert!(!panicked.is_cut_short());
        let mut keyed = (0..9_u64).par_map_by_key(2, |i| *i, |i| if i == 3 { bang(i) } else { i });
        assert_eq!(caught(|| keyed.by_ref().count()), Err(3));
        assert!(!keyed.is_cut_short());
        let outputs = |i| Ok([Ok(i), if i == 3 { Err(i) } else { Ok(i) }]);
        let mut flat = (0..9).try_par_flat_map(2, outputs);
        assert_eq!(flat.by_ref().count(), 8);
        assert!(!flat.is_cut_short());
        let mut readers = (0..9).broadcast(1).readers();
        assert_eq!(readers[0].by_ref().count(), 9);
        assert!(!readers[0].is_cut_short());
        fanfold::scope(|s| {
            let mut stage = (0..9).par_map_ordered(2, |i| i).within(s);
            assert_eq!(stage.by_ref().count(), 9);
            assert!(!stage.is_cut_short());
            let token = CancelToken::new();
            token.cancel();
            let mut stage = (0..9).par_map_ordered(2, |i| i).cancel_on(&token).within(s);
            assert_eq!(stage.next(), None);
            assert!(stage.is_cut_short());
            let mut ahead = (0..9).readahead(2).cancel_on(&token).within(s);
            while ahead.next().is_some() {}
            assert!(ahead.is_cut_short());
        });
    });
}

/// How a stage ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Whole,
    /// A token is tripped after that.
    TooLate,
    SourcePanic,
    Cancelled,
    Deadline,
    Drained,
}

impl End {
    const ALL: [End; 6] = [
        End::Whole,
        End::TooLate,
        End::SourcePanic,
        End::Cancelled,
        End::Deadline,
        End::Drained,
    ];

    fn source(self) -> Box<dyn Iterator<Item = u64> + Send> {
        match self {
            End::Whole | End::TooLate => Box::new(0..9),
            End::SourcePanic => Box::new(panics_at(9, &Counter::new())),
            _ => Box::new(0..),
        }
    }

    /// Ends the stage like this. Returns whether it says that it was cut short.
    fn cuts<P: Plan + 'static>(self, stage: Stage<P>) -> bool {
        let (cancel, drain) = (CancelToken::new(), CancelToken::new());
        let limit = match self {
            End::Deadline => cancel.with_timeout(Duration::from_millis(5)),
            _ => cancel.clone(),
        };
        let mut stage = stage.cancel_on(&limit).drain_on(&drain);
        assert!(!stage.is_cut_short());
        if self == End::SourcePanic {
            assert_eq!(caught(|| stage.by_ref().count()), Err(9));
        } else {
            assert!(stage.next().is_some() || self == End::Deadline);
        }
        match self {
            End::Cancelled => cancel.cancel(),
            End::Drained => drain.cancel(),
            _ => {}
        }
        assert!(!stage.is_cut_short() || self == End::Deadline);
        stage.by_ref().for_each(drop);
        if self == End::TooLate {
            cancel.cancel();
            drain.cancel();
        }
        stage.is_cut_short()
    }
}

type Cuts = fn(End) -> bool;

/// Every kind, ended like this: whether it says that it was cut short.
const CUT: &[(&str, Cuts)] = &[
    ("ordered", |end| {
        end.cuts(end.source().par_map_ordered(2, |i| i))
    }),
    ("unordered", |end| {
        end.cuts(end.source().par_map_unordered(2, |i| i))
    }),
    ("fallible", |end| {
        end.cuts(end.source().try_par_map_ordered(2, Row::Ok))
    }),
    ("local", |end| {
        end.cuts(end.source().local().par_map_ordered(2, |i| i))
    }),
    ("with states", |end| {
        end.cuts(end.source().par_map_ordered_init(2, || (), |(), i| i))
    }),
    ("isolated", |end| {
        end.cuts(end.source().par_map_ordered(2, |i| i).isolate())
    }),
    ("timed", |end| {
        end.cuts(end.source().par_map_ordered(2, |i| i).item_timeout(HOUR))
    }),
    ("hedged", |end| {
        let policy = HedgePolicy::after(HOUR);
        end.cuts(end.source().par_map_ordered(2, |i| i).hedge_slow(&policy))
    }),
    ("weighed", |end| {
        let stage = end.source().par_map_ordered(2, |i| i);
        let stage = stage.in_flight_weight(8, |_| 3);
        end.cuts(stage.parked_weight(2, |_| 1))
    }),
    ("a chain", |end| {
        let first = end.source().par_map_ordered(2, |i| i);
        end.cuts(first.par_map_ordered(2, |i| i))
    }),
    ("keyed", |end| {
        end.cuts(end.source().par_map_by_key(2, |i| i % 3, |i| i))
    }),
    ("flat", |end| {
        end.cuts(end.source().par_flat_map(2, |i| [i]))
    }),
    ("flat and local", |end| {
        end.cuts(end.source().local().par_flat_map(2, |i| [i]))
    }),
    ("flat and fallible", |end| {
        end.cuts(end.source().try_par_flat_map(2, |i| Ok([Row::Ok(i)])))
    }),
    ("readahead", |end| end.cuts(end.source().readahead(2))),
    ("ready_chunks", |end| end.cuts(end.source().ready_chunks(2))),
    ("windows by age", |end| {
        end.cuts(end.source().window(2).max_age(HOUR))
    }),
    ("merge", |end| end.cuts(merge([end.source()]))),
    ("merge with a time-out", |end| {
        let patient = SourceOptions::new().timeout(HOUR);
        end.cuts(Merge::new().source_with(end.source(), patient))
    }),
    ("merge_sorted", |end| {
        end.cuts(merge_sorted_by_key([end.source()], |i| *i))
    }),
    ("round_robin", |end| end.cuts(round_robin([end.source()]))),
];

#[test]
fn only_a_token_cuts_a_stage_short_whatever_its_kind() {
    for (kind, cuts) in CUT {
        for end in End::ALL {
            within(SOON, move || {
                let by_token = [End::Cancelled, End::Deadline, End::Drained].contains(&end);
                assert_eq!(cuts(end), by_token, "{kind}, {end:?}");
            });
        }
    }
}

/// A time limit is a rule of the stage: it goes on without the item or the source, and says so elsewhere.
#[test]
fn a_time_limit_for_an_item_or_a_source_is_no_cut() {
    within(SOON, || {
        let waits = |i| CancelToken::current().sleep(if i == 1 { HOUR } else { Duration::ZERO });
        let stage = || (0..3).par_map_ordered(2, waits).item_timeout(SHORT);
        let mut isolated = stage().isolate();
        let done: Vec<_> = isolated.by_ref().collect();
        assert!(done.len() == 3 && done[1].is_err());
        assert!(!isolated.is_cut_short());
        let mut raised = stage();
        assert!(payload(|| raised.by_ref().count()).is_err());
        assert_eq!(raised.next(), None);
        assert!(!raised.is_cut_short());
    });
    within(SOON, || {
        let token = CancelToken::new();
        let merged = |more: Range<u64>| {
            let silent = (0..3).map(Row::Ok).chain(listens());
            let limit = SourceOptions::new().timeout(SHORT);
            let mut merged = Merge::new().source_with(silent, limit);
            let report = merged.report();
            let more = more.map(Row::Ok);
            (merged.source(more).fail_on(&token), report)
        };
        let (mut whole, report) = merged(3..9);
        assert!(
            whole.by_ref().all(|row| row.is_ok()),
            "no error behind them"
        );
        assert_eq!(report.timed_out(), ["source 0"]);
        assert!(!whole.is_cut_short());
        // Of one that a token cuts short after that, it is told.
        let (mut cut, report) = merged(3..u64::MAX);
        while report.timed_out().is_empty() {
            assert!(cut.next().is_some_and(|row| row.is_ok()));
        }
        token.cancel();
        assert!(cut.by_ref().last().is_some_and(|last| last.is_err()));
        assert!(cut.is_cut_short());
    });
}

#[test]
fn readers_that_are_cut_short_say_so() {
    within(SOON, || {
        let token = CancelToken::new();
        let (waits, told) = (Counter::new(), Counter::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                waits.wait_for(1);
                token.cancel();
            });
            let f = |_| {
                let source = (0..3).chain(calls_counted(listens(), &waits));
                source.broadcast_into(2, |_, mut reader| {
                    assert!(reader.by_ref().eq(0..3));
                    told.add();
                    assert!(reader.is_cut_short());
                });
            };
            assert_eq!((0..1).par_map_unordered(1, f).cancel_on(&token).count(), 0);
        });
        assert_eq!(told.get(), 2);
    });
}

// ---- drain_on

/// Everything that pulls, under a token that makes it drain; what comes out is what went in.
#[allow(clippy::type_complexity)]
const DRAINING: &[(
    &str,
    fn(Box<dyn Iterator<Item = u64> + Send>, usize, &CancelToken) -> Box<dyn Iterator<Item = u64>>,
)] = &[
    ("stage", |source, n, token| {
        Box::new(source.par_map_ordered(n, |i| i).drain_on(token))
    }),
    ("stage of work", |source, n, token| {
        let f = |i| {
            dawdle(i);
            i
        };
        Box::new(source.par_map_ordered(n, f).drain_on(token))
    }),
    ("stage without an order", |source, n, token| {
        Box::new(source.par_map_unordered(n, |i| i).drain_on(token))
    }),
    ("small bound", |source, n, token| {
        let stage = source.par_map_ordered(n, |i| i).in_flight(2);
        Box::new(stage.drain_on(token))
    }),
    ("local", |source, n, token| {
        let stage = source.local().par_map_ordered(n, |i| i);
        Box::new(stage.drain_on(token))
    }),
    ("states", |source, n, token| {
        let stage = source.par_map_ordered_init(n, || (), |(), i| i);
        Box::new(stage.drain_on(token))
    }),
    ("timed", |source, n, token| {
        let stage = source.par_map_ordered(n, |i| i).item_timeout(HOUR);
        Box::new(stage.drain_on(token))
    }),
    ("eager", |source, n, token| {
        let stage = source.par_map_ordered(n, |i| i).eager();
        Box::new(stage.drain_on(token))
    }),
    ("weighed", |source, n, token| {
        let stage = source.par_map_ordered(n, |i| i).parked_weight(2, |_| 1);
        Box::new(stage.in_flight_weight(8, |_| 3).drain_on(token))
    }),
    ("weighed, without an order", |source, n, token| {
        let stage = source.par_map_unordered(n, |i| i).parked_weight(2, |_| 1);
        Box::new(stage.in_flight_weight(8, |_| 3).drain_on(token))
    }),
    ("flat", |source, n, token| {
        Box::new(source.par_flat_map(n, |i| [i]).drain_on(token))
    }),
    ("flat, with a small bound", |source, n, token| {
        let stage = source.try_par_flat_map(n, |i| Ok::<_, Infallible>([Ok(i)]));
        Box::new(stage.in_flight(2).drain_on(token).map(|Ok(i)| i))
    }),
    ("flat and local", |source, n, token| {
        let stage = source.local().par_flat_map(n, |i| [i]);
        Box::new(stage.drain_on(token))
    }),
    ("keyed", |source, n, token| {
        let stage = source.par_map_by_key(n, |i| i % 7, |i| i);
        Box::new(stage.drain_on(token))
    }),
    ("readahead", |source, n, token| {
        Box::new(source.readahead(n).drain_on(token))
    }),
    ("ready_chunks", |source, n, token| {
        Box::new(source.ready_chunks(n).drain_on(token).flatten())
    }),
    ("merge", |source, n, token| {
        let merge = Merge::new().buffer(n).source(source);
        Box::new(merge.drain_on(token))
    }),
    ("in a chain", |source, n, token| {
        let stage = source.par_map_ordered(n, |i| i).drain_on(token);
        Box::new(stage.par_map_ordered(n, |i| i).readahead(3))
    }),
];

#[test]
fn a_drain_loses_nothing_that_was_pulled() {
    for (name, make) in DRAINING {
        for n in 1..=9 {
            for after in [0, 1, 40] {
                within(SOON, move || {
                    let (pulled, token) = (Counter::new(), CancelToken::new());
                    let source = counted(0.., &pulled);
                    let mut stage = make(Box::new(source), n, &token);
                    let mut got: Vec<u64> = stage.by_ref().take(after).collect();
                    token.cancel();
                    got.extend(stage.by_ref());
                    got.sort_unstable();
                    let pulled = pulled.get() as u64;
                    assert!(got.iter().copied().eq(0..pulled), "{name}, n = {n}");
                    assert_eq!(stage.next(), None);
                });
            }
        }
    }
    fanfold::testing::assert_quiescent();
}

/// From another thread, at any time.
#[test]
fn a_drain_at_any_time_loses_nothing() {
    for (name, make) in DRAINING {
        for round in 0..40_u64 {
            within(SOON, move || {
                let (pulled, token) = (Counter::new(), CancelToken::new());
                let source = counted(0.., &pulled);
                let mut stage = make(Box::new(source), 1 + round as usize % 4, &token);
                let got = std::thread::scope(|scope| {
                    scope.spawn(|| {
                        for step in 0..round * 3 {
                            dawdle(round * 100 + step);
                        }
                        token.cancel();
                    });
                    stage.by_ref().count()
                });
                drop(stage);
                assert_eq!(got, pulled.get(), "{name}, round {round}");
            });
        }
    }
}

/// The call of the source that is under way may already have taken an item. It sees the token.
#[test]
fn a_drain_waits_for_the_source_and_tells_it() {
    for (name, make) in DRAINING {
        for n in 1..=3 {
            within(SOON, move || {
                let (waits, token) = (Gate::new(), CancelToken::new());
                let inside = waits.clone();
                let mut items = 0..5_u64;
                let source = from_fn(move || {
                    if items.start == 4 {
                        inside.open();
                        CancelToken::current().sleep(HOUR).expect_err("drained");
                    }
                    items.next()
                });
                let mut stage = make(Box::new(source), n, &token);
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        waits.wait();
                        token.cancel();
                    });
                    let mut got: Vec<u64> = stage.by_ref().collect();
                    got.sort_unstable();
                    assert_eq!(got, [0, 1, 2, 3, 4], "{name}, n = {n}");
                });
            });
        }
    }
}

#[test]
fn a_drained_stage_says_that_it_was_cut_short() {
    within(SOON, || {
        let token = CancelToken::new();
        let mut stage = (0..).par_map_ordered(2, |i| i).drain_on(&token);
        assert_eq!(stage.next(), Some(0));
        token.cancel();
        assert!(stage.by_ref().count() < 1 << 20);
        assert!(stage.is_cut_short());
        let mut ahead = (0..).readahead(2).drain_on(&token);
        while ahead.next().is_some() {}
        assert!(ahead.is_cut_short());
        let rows = (0..).par_map_ordered(2, Row::Ok).drain_on(&token);
        let rows: Vec<Row> = rows.fail_on(&CancelToken::new()).collect();
        assert!(rows.last().is_some_and(Result::is_err), "it says so");
        let late = CancelToken::new();
        let mut whole = (0..9).par_map_ordered(2, |i| i).drain_on(&late);
        assert_eq!(whole.by_ref().count(), 9);
        late.cancel();
        assert!(!whole.is_cut_short());
    });
}

/// A source that obeys its token has ended because it was told to, and not by itself.
#[test]
fn a_source_that_was_told_to_end_has_not_ended_by_itself() {
    type Source = Box<dyn Iterator<Item = u64> + Send>;
    /// Fails unless the stage says that there might have been more than its three items.
    fn ends<P: Plan<Output = u64> + 'static>(drained: bool, make: impl FnOnce(Source) -> Stage<P>) {
        let (token, waits) = (CancelToken::new(), Counter::new());
        let source = (0..3).chain(calls_counted(listens(), &waits));
        let stage = make(Box::new(source));
        let mut stage = if drained {
            stage.drain_on(&token)
        } else {
            stage.cancel_on(&token)
        };
        let name = format!("{stage:?}, drained: {drained}");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                waits.wait_for(1);
                token.cancel();
            });
            let count = stage.by_ref().count();
            assert!(count == 3 || count < 3 && !drained, "{name}: {count}");
        });
        assert!(stage.is_cut_short(), "{name}");
    }
    for round in 0..60 {
        let (n, drained) = (1 + round % 3, round % 2 == 0);
        within(SOON, move || {
            ends(drained, |source| source.par_map_ordered(n, |i| i));
            ends(drained, |source| source.par_map_unordered(n, |i| i));
            ends(drained, |source| source.local().par_map_ordered(n, |i| i));
            ends(drained, |source| source.par_map_by_key(n, |i| i % 2, |i| i));
            ends(drained, |source| {
                source.local().par_map_by_key(n, |i| i % 2, |i| i)
            });
            ends(drained, |source| source.par_flat_map(n, |i| [i]));
            ends(drained, |source| source.local().par_flat_map(n, |i| [i]));
            ends(drained, |source| source.readahead(n));
            ends(drained, |source| merge([source]));
            ends(drained, |source| round_robin([source]));
        });
    }
}

/// A caller that does not want to wait cancels.
#[test]
fn a_drain_can_be_cancelled() {
    within(SOON, || {
        let (drain, cancel, gate) = (CancelToken::new(), CancelToken::new(), Gate::new());
        let mut stage = (0..3_u64)
            .chain(blocks(&gate))
            .par_map_ordered(2, |i| i)
            .drain_on(&drain)
            .cancel_on(&cancel);
        let _open = gate.opener(); // before the drop, which waits for the source
        assert_eq!(stage.next(), Some(0));
        drain.cancel();
        cancel.cancel();
        assert!(stage.by_ref().count() <= 2);
        assert!(stage.is_cut_short());
    });
}
