//! What keeps the promises: each kind of stage is a row of [`KINDS`], and a test of a promise goes through the rows
//! that it is about. The order (P1) is checked by most of them.

use crate::support::{Bang, Ledger, SOON, Tracked, WIDTHS, mix, payload, pushing, slow};
use fanfold::{
    CancelToken, Cancelled, Fanfold, Permits, Pool, merge, merge_sorted_by_key, push_map_ordered,
    round_robin, try_push_map_ordered,
};
use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

/// What the stages pull.
pub(crate) type Items = Box<dyn Iterator<Item = Tracked> + Send>;

/// A stage. One with a local source stays on its thread.
pub(crate) type Built = Box<dyn Iterator<Item = Tracked>>;

/// Items with these ids.
pub(crate) fn items(ids: impl Iterator<Item = u64> + Send + 'static, ledger: &Ledger) -> Items {
    let ledger = ledger.clone();
    Box::new(ids.map(move |id| ledger.track(id)))
}

/// With what a stage is built.
#[derive(Clone)]
pub(crate) struct With {
    n: usize,
    bound: Option<usize>,
    token: Option<CancelToken>,
    pool: Option<Pool>,
    work: Arc<dyn Fn(&Tracked) + Send + Sync>,
    late: bool,
    lane: fn(u64) -> u64,
}

impl With {
    pub(crate) fn n(n: usize) -> Self {
        With {
            n,
            bound: None,
            token: None,
            pool: None,
            work: Arc::new(|_| ()),
            late: false,
            lane: |_| 0,
        }
    }

    pub(crate) fn bound(mut self, k: usize) -> Self {
        self.bound = Some(k);
        self
    }

    pub(crate) fn token(mut self, token: &CancelToken) -> Self {
        self.token = Some(token.clone());
        self
    }

    pub(crate) fn pool(mut self, pool: &Pool) -> Self {
        self.pool = Some(pool.clone());
        self
    }

    /// What the closure does with an item, before it returns it.
    pub(crate) fn work(mut self, work: impl Fn(&Tracked) + Send + Sync + 'static) -> Self {
        self.work = Arc::new(work);
        self
    }

    /// The options are set after the first `next()`.
    pub(crate) fn late(mut self) -> Self {
        self.late = true;
        self
    }

    fn f(&self) -> impl Fn(Tracked) -> Tracked + Send + Sync + use<> {
        let work = Arc::clone(&self.work);
        move |item| {
            work(&item);
            item
        }
    }

    /// A limit for weights of three, with which there are as many items in flight as the bound says, or two for each
    /// worker.
    fn limit(&self) -> usize {
        match self.bound {
            Some(0) => 0,
            bound => 3 * bound.unwrap_or(2 * self.n) + 2,
        }
    }

    fn key(&self) -> impl Fn(&Tracked) -> u64 + Send + use<> {
        let lane = self.lane;
        move |item| lane(item.id)
    }
}

/// See [`KINDS`].
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    name: &'static str,
    build: fn(Items, &With) -> Built,
    /// Items of one lane come out in order.
    pub(crate) lane: fn(u64) -> u64,
    /// The most items that are pulled and not yet yielded, with this bound.
    pub(crate) holds: fn(usize) -> usize,
    /// Of these, how many are pulled at least while the consumer is away.
    pub(crate) fills: fn(n: usize, k: usize) -> usize,
    /// It runs a closure for each item; else it only pulls.
    pub(crate) runs: bool,
    /// Items of different lanes only run at once.
    pub(crate) serial: bool,
    /// It pulls and runs while the consumer is away.
    pub(crate) ahead: bool,
    /// It pulls although all its workers run.
    pub(crate) beside: bool,
    /// With so many results that wait, no closure starts but that of the next item.
    pub(crate) parks: usize,
    /// Its `size_hint` is exact if that of the source is.
    pub(crate) exact: bool,
    /// What a bound of zero is told to be.
    pub(crate) least: &'static str,
}

impl Kind {
    pub(crate) fn build(&self, source: Items, with: &With) -> Built {
        let with = With {
            lane: self.lane,
            ..with.clone()
        };
        (self.build)(source, &with)
    }

    /// Whether its items are taken out of `Vec`s.
    pub(crate) fn comes_in_vecs(&self) -> bool {
        ["write 1 for windows", "write 1 for chunks"].contains(&self.least)
    }

    /// Whether `n` closures run at once, whatever `n` and the items.
    pub(crate) fn is_wide(&self) -> bool {
        let of_its_own = |i| (self.lane)(i) == i;
        let is_unordered = (1..50).all(of_its_own);
        // In order, results of later items may wait for one that has just begun, and keep the others from it.
        let waits_for_others = self.parks < usize::MAX && !is_unordered;
        self.runs && !waits_for_others && (!self.serial || is_unordered)
    }

    /// Fails unless these are, of each lane, the first ones in order.
    #[track_caller]
    pub(crate) fn assert_in_order(&self, ids: &[u64]) {
        let lanes = |ids: &mut dyn Iterator<Item = u64>| {
            let mut lanes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            ids.for_each(|id| lanes.entry((self.lane)(id)).or_default().push(id));
            lanes
        };
        let all = lanes(&mut (0..=ids.iter().copied().max().unwrap_or(0)));
        for (lane, seen) in lanes(&mut ids.iter().copied()) {
            assert!(all[&lane].starts_with(&seen), "not in order: {seen:?}");
        }
    }

    /// Fails unless these are the ids below `len`, each lane in order.
    #[track_caller]
    pub(crate) fn assert_all(&self, ids: &[u64], len: u64) {
        self.assert_in_order(ids);
        assert_eq!(ids.len() as u64, len);
        assert!(ids.iter().all(|id| *id < len));
    }
}

/// A stage whose options are set now, or too late.
fn begun<S: Iterator>(mut stage: S, late: bool) -> S {
    if late {
        assert!(stage.next().is_some());
    }
    stage
}

/// Sets the options of a stage.
macro_rules! built {
    ($stage:expr, $with:expr, limit) => {{
        let stage = $stage.in_flight_weight($with.limit(), |_| 3);
        built!(begun(stage, $with.late), $with)
    }};
    ($stage:expr, $with:expr, $bound:ident) => {{
        let mut stage = begun($stage, $with.late);
        if let Some(k) = $with.bound {
            stage = stage.$bound(k);
        }
        built!(stage, $with)
    }};
    ($stage:expr, $with:expr) => {{
        let mut stage = $stage;
        if let Some(token) = &$with.token {
            stage = stage.cancel_on(token);
        }
        if let Some(pool) = &$with.pool {
            stage = stage.on(pool);
        }
        stage
    }};
}

/// A kind like another one, but for this stage and these fields.
macro_rules! row {
    ($like:ident, $name:literal, $bound:ident, $($field:ident: $value:expr,)* |$source:ident, $with:ident| $stage:expr) => {
        Kind {
            name: $name,
            build: |$source, $with| Box::new(built!($stage, $with, $bound)),
            $($field: $value,)*
            ..$like
        }
    };
}

const STAGE: Kind = Kind {
    name: "par_map_ordered",
    build: |source, with| {
        let stage = source.par_map_ordered(with.n, with.f());
        Box::new(built!(stage, with, in_flight))
    },
    lane: |_| 0,
    holds: |k| k,
    // It pulls on once a part of the bound is free.
    fills: |_, _| 0,
    runs: true,
    serial: false,
    ahead: true,
    beside: false,
    parks: usize::MAX,
    exact: true,
    least: "in_flight(1)",
};

/// The bound is one of weights, of which each item has three. The rest of the limit is too small for one more, but
/// that is seen only when it was pulled, so it waits in hand.
const WEIGHED: Kind = Kind {
    name: "par_map_ordered, heavy",
    build: |source, with| {
        let stage = source.par_map_ordered(with.n, with.f());
        Box::new(built!(stage, with, limit))
    },
    holds: |k| k + 1,
    least: "in_flight_weight must",
    ..STAGE
};

const KEYED: Kind = Kind {
    name: "par_map_by_key, one key",
    build: |source, with| {
        let stage = source.par_map_by_key(with.n, with.key(), with.f());
        Box::new(built!(stage, with, in_flight))
    },
    serial: true,
    fills: |n, k| if n > 1 && k < 10 { k } else { 0 },
    beside: true,
    ..STAGE
};

const fn keyed(name: &'static str, lane: fn(u64) -> u64) -> Kind {
    Kind {
        name,
        lane,
        ..KEYED
    }
}

/// Only pulls.
const MERGE: Kind = Kind {
    name: "merge of one",
    build: |source, with| Box::new(built!(merge([source]), with, buffer)),
    // A source that has filled its buffer is resumed once half of it is free.
    fills: |_, k| if k <= 2 { k } else { k / 2 },
    runs: false,
    beside: true,
    least: "buffer(1)",
    ..STAGE
};

/// Pulls when it is asked.
const READER: Kind = Kind {
    name: "partition_readers",
    build: |source, with| {
        let parts = source.partition_readers(|_| true);
        let parts = parts.buffer(with.bound.unwrap_or(16));
        Box::new(parts.pair().0)
    },
    holds: |_| 0,
    fills: |_, _| 0,
    runs: false,
    ahead: false,
    exact: false,
    least: "buffer(1)",
    ..STAGE
};

/// Every kind of stage: ways to spread items over keys count as kinds.
pub(crate) const KINDS: &[Kind] = &[
    STAGE,
    row!(STAGE, "par_map_unordered", in_flight, lane: |i| i, |source, with| {
        source.par_map_unordered(with.n, with.f())
    }),
    row!(STAGE, "par_filter", in_flight, exact: false, |source, with| {
        let work = Arc::clone(&with.work);
        source.par_filter(with.n, move |item| (work(item), true).1)
    }),
    row!(STAGE, "par_filter_map", in_flight, exact: false, |source, with| {
        let f = with.f();
        source.par_filter_map(with.n, move |item| Some(f(item)))
    }),
    row!(STAGE, "par_flat_map", in_flight, exact: false, |source, with| {
        let f = with.f();
        source.par_flat_map(with.n, move |item| [f(item)])
    }),
    row!(STAGE, "par_flat_map, lazy", in_flight, exact: false, |source, with| {
        let work = Arc::clone(&with.work);
        source.par_flat_map(with.n, move |item| {
            let work = Arc::clone(&work);
            std::iter::once(item).inspect(move |item| work(item))
        })
    }),
    Kind {
        name: "try_par_flat_map",
        build: |source, with| {
            let f = with.f();
            let f = move |item| Ok::<_, Infallible>([Ok(f(item))]);
            let stage = source.try_par_flat_map(with.n, f);
            Box::new(built!(stage, with, in_flight).map(|Ok(item)| item))
        },
        exact: false,
        ..STAGE
    },
    row!(STAGE, "par_map_ordered_init", in_flight, |source, with| {
        let f = with.f();
        source.par_map_ordered_init(with.n, || (), move |(), item| f(item))
    }),
    Kind {
        name: "try_par_map_ordered",
        build: |source, with| {
            let f = with.f();
            let f = move |item| Ok::<_, Infallible>(f(item));
            let stage = source.try_par_map_ordered(with.n, f);
            Box::new(built!(stage, with, in_flight).map(|Ok(item)| item))
        },
        exact: false,
        ..STAGE
    },
    Kind {
        name: "try_par_map_unordered",
        build: |source, with| {
            let f = with.f();
            let f = move |item| Ok::<_, Infallible>(f(item));
            let stage = source.try_par_map_unordered(with.n, f);
            Box::new(built!(stage, with, in_flight).map(|Ok(item)| item))
        },
        lane: |i| i,
        exact: false,
        ..STAGE
    },
    Kind {
        name: "try_par_filter",
        build: |source, with| {
            let work = Arc::clone(&with.work);
            let keep = move |item: &Tracked| (work(item), Ok::<_, Infallible>(true)).1;
            let stage = source.try_par_filter(with.n, keep);
            Box::new(built!(stage, with, in_flight).map(|Ok(item)| item))
        },
        exact: false,
        ..STAGE
    },
    Kind {
        name: "try_par_filter_map",
        build: |source, with| {
            let f = with.f();
            let f = move |item| Ok::<_, Infallible>(Some(f(item)));
            let stage = source.try_par_filter_map(with.n, f);
            Box::new(built!(stage, with, in_flight).map(|Ok(item)| item))
        },
        exact: false,
        ..STAGE
    },
    Kind {
        name: "try_par_map_ordered_init",
        build: |source, with| {
            let f = with.f();
            let f = move |(): &mut (), item| Ok::<_, Infallible>(f(item));
            let stage = source.try_par_map_ordered_init(with.n, || Ok(()), f);
            Box::new(built!(stage, with, in_flight).map(|Ok(item)| item))
        },
        exact: false,
        ..STAGE
    },
    Kind {
        name: "a chain of two",
        build: |source, with| {
            let first = source.par_map_ordered(with.n, |item| item);
            let first = built!(first, with, in_flight);
            let second = first.par_map_ordered(with.n, with.f());
            Box::new(built!(
                second,
                With {
                    late: false,
                    ..with.clone()
                },
                in_flight
            ))
        },
        holds: |k| 2 * k,
        ..STAGE
    },
    row!(
        STAGE,
        "par_map_ordered, limited",
        in_flight,
        |source, with| {
            let stage = source.par_map_ordered(with.n, with.f());
            stage.limited_by(&Permits::new(with.n.max(1)))
        }
    ),
    row!(STAGE, "par_map_unordered, limited", in_flight, lane: |i| i, |source, with| {
        let stage = source.par_map_unordered(with.n, with.f());
        stage.limited_by(&Permits::new(with.n.max(1)))
    }),
    row!(STAGE, "par_flat_map, limited", in_flight, exact: false, |source, with| {
        let f = with.f();
        let stage = source.par_flat_map(with.n, move |item| [f(item)]);
        stage.limited_by(&Permits::new(with.n.max(1)))
    }),
    WEIGHED,
    row!(WEIGHED, "par_map_unordered, heavy", limit, lane: |i| i, |source, with| {
        source.par_map_unordered(with.n, with.f())
    }),
    row!(WEIGHED, "par_map_ordered, local and heavy", limit, ahead: false, |source, with| {
        source.local().par_map_ordered(with.n, with.f())
    }),
    row!(STAGE, "par_map_ordered, few parked", in_flight, parks: 2, |source, with| {
        let stage = source.par_map_ordered(with.n, with.f());
        stage.parked_weight(2, |_| 1)
    }),
    row!(STAGE, "par_map_unordered, few parked", in_flight, lane: |i| i, parks: 2, |source, with| {
        let stage = source.par_map_unordered(with.n, with.f());
        stage.parked_weight(2, |_| 1)
    }),
    row!(WEIGHED, "par_map_ordered, heavy and few parked", limit, parks: 2, |source, with| {
        let stage = source.par_map_ordered(with.n, with.f());
        stage.parked_weight(2, |_| 1)
    }),
    Kind {
        name: "a chain of two, limited",
        build: |source, with| {
            let permits = Permits::new(with.n.max(1));
            let first = source.par_map_ordered(with.n, |item| item);
            let first = built!(first.limited_by(&permits), with, in_flight);
            let second = first.par_map_ordered(with.n, with.f());
            Box::new(built!(
                second.limited_by(&permits),
                With {
                    late: false,
                    ..with.clone()
                },
                in_flight
            ))
        },
        holds: |k| 2 * k,
        ..STAGE
    },
    row!(STAGE, "par_map_ordered, local", in_flight, ahead: false, |source, with| {
        source.local().par_map_ordered(with.n, with.f())
    }),
    row!(STAGE, "par_flat_map, local", in_flight, ahead: false, exact: false, |source, with| {
        let f = with.f();
        source.local().par_flat_map(with.n, move |item| [f(item)])
    }),
    Kind {
        name: "push_map_ordered",
        build: |mut source, with| {
            let mut stage = push_map_ordered(with.n, with.f());
            if with.late {
                drop(stage.push(source.next().expect("an item")));
            }
            let now = With {
                late: false,
                ..with.clone()
            };
            Box::new(pushing(source, built!(stage, now, in_flight)))
        },
        // One more waits in front of the stage.
        holds: |k| k + 1,
        ahead: false,
        exact: false,
        ..STAGE
    },
    Kind {
        name: "push_map_ordered, heavy and few parked",
        build: |source, with| {
            let stage = push_map_ordered(with.n, with.f()).parked_weight(2, |_| 1);
            Box::new(pushing(source, built!(stage, with, limit)))
        },
        ahead: false,
        parks: 2,
        exact: false,
        ..WEIGHED
    },
    Kind {
        name: "try_push_map_ordered",
        build: |source, with| {
            let f = with.f();
            let stage = try_push_map_ordered(with.n, move |item| Ok::<_, Cancelled>(f(item)));
            let outputs = pushing(source, built!(stage, with, in_flight));
            Box::new(outputs.map(|output| output.expect("it is not cancelled")))
        },
        holds: |k| k + 1,
        ahead: false,
        exact: false,
        ..STAGE
    },
    KEYED,
    keyed("par_map_by_key, a key for each", |i| i),
    keyed("par_map_by_key, three keys", |i| i % 3),
    keyed("par_map_by_key, sixteen keys at random", |i| mix(i) % 16),
    keyed("par_map_by_key, ten neighbours to a key", |i| i / 10),
    keyed("par_map_by_key, most of one key", |i| {
        if mix(i) % 4 > 0 { 0 } else { i }
    }),
    row!(KEYED, "par_map_by_key_init", in_flight, lane: |i| i, beside: false, |source, with| {
        let f = with.f();
        source.par_map_by_key_init(with.n, with.key(), || (), move |(), item| f(item))
    }),
    Kind {
        name: "try_par_map_by_key",
        build: |source, with| {
            let f = with.f();
            let f = move |item| Ok::<_, Infallible>(f(item));
            let stage = source.try_par_map_by_key(with.n, with.key(), f);
            Box::new(built!(stage, with, in_flight).map(|Ok(item)| item))
        },
        lane: |i| i,
        exact: false,
        ..KEYED
    },
    row!(KEYED, "par_map_by_key, limited", in_flight, lane: |i| i % 3, |source, with| {
        let stage = source.par_map_by_key(with.n, with.key(), with.f());
        stage.limited_by(&Permits::new(with.n.max(1)))
    }),
    row!(KEYED, "par_map_by_key, local", in_flight, lane: |i| i % 3, ahead: false, fills: |_, _| 0, |source, with| {
        source.local().par_map_by_key(with.n, with.key(), with.f())
    }),
    Kind {
        name: "readahead",
        build: |source, with| {
            let ahead = source.readahead(with.bound.unwrap_or(16));
            Box::new(built!(begun(ahead, with.late), with))
        },
        // Resumed when half of its buffer is free.
        fills: |_, k| k / 2 + 1,
        least: "readahead(1)",
        ..MERGE
    },
    MERGE,
    Kind {
        name: "merge_sorted_by_key of one",
        build: |source, with| {
            let merged = merge_sorted_by_key([source], |item| item.id);
            let merged = built!(merged, with, buffer);
            Box::new(merged.map(|item| item.expect("it is sorted")))
        },
        exact: false,
        ..MERGE
    },
    row!(MERGE, "round_robin of one", buffer, |source, with| {
        round_robin([source])
    }),
    Kind {
        name: "windows by age",
        build: |source, with| {
            let windows = source.window(with.bound.unwrap_or(4));
            let windows = windows.max_age(Duration::from_millis(1));
            Box::new(built!(begun(windows, with.late), with).flatten())
        },
        // One that is taken apart, and the next one.
        holds: |k| 2 * k - 1,
        fills: |_, _| 0,
        exact: false,
        least: "write 1 for windows",
        ..MERGE
    },
    Kind {
        name: "ready_chunks",
        build: |source, with| {
            let chunks = source.ready_chunks(with.bound.unwrap_or(4));
            Box::new(built!(begun(chunks, with.late), with).flatten())
        },
        // One that is taken apart, and what is there for the next one.
        holds: |k| 2 * k - 1,
        fills: |_, _| 0,
        exact: false,
        least: "write 1 for chunks",
        ..MERGE
    },
    READER,
    Kind {
        name: "broadcast of one",
        build: |source, with| {
            let shared = source.map(Arc::new).broadcast(1);
            let mut readers = shared.buffer(with.bound.unwrap_or(16)).readers();
            let reader = readers.pop().expect("one");
            Box::new(reader.map(|item| Arc::into_inner(item).expect("the only clone")))
        },
        exact: true,
        ..READER
    },
    Kind {
        name: "broadcast of two, in turns",
        build: |source, with| {
            let shared = source.map(Arc::new).broadcast(2);
            let mut readers = shared.buffer(with.bound.unwrap_or(16)).readers();
            let (b, a) = (readers.pop().expect("two"), readers.pop().expect("two"));
            Box::new(a.zip(b).map(|(item, clone)| {
                drop(clone);
                Arc::into_inner(item).expect("two clones")
            }))
        },
        exact: true,
        ..READER
    },
];

/// Each width with each of the others.
pub(crate) fn widths_and<T: Clone>(
    others: impl IntoIterator<Item = T> + Clone,
) -> impl Iterator<Item = (usize, T)> {
    let with = move |n| others.clone().into_iter().map(move |other| (n, other));
    WIDTHS.into_iter().flat_map(with)
}

/// Those that run a closure.
pub(crate) fn runs() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.runs)
}

/// Those that work while the consumer is away.
pub(crate) fn ahead() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.ahead)
}

/// Checks all cases of each kind, the kinds at the same time, and names the kind and the case that fail.
#[track_caller]
pub(crate) fn each<C: Copy + Debug + Send + Sync + 'static>(
    kinds: impl IntoIterator<Item = &'static Kind>,
    cases: impl IntoIterator<Item = C>,
    check: fn(&Kind, C),
) {
    let cases: &Vec<C> = &cases.into_iter().collect();
    let failure = move |kind: &'static Kind| {
        let outcomes = checked(kind, cases.clone(), check);
        cases.iter().find_map(|case| {
            let outcome = outcomes.recv_timeout(slow(SOON));
            let said = outcome.unwrap_or_else(|_| Err("stuck".into())).err()?;
            Some(format!("{}, case {case:?}: {said}", kind.name))
        })
    };
    let failures: Vec<String> = std::thread::scope(|s| {
        let start = |kind| s.spawn(move || failure(kind));
        let started: Vec<_> = kinds.into_iter().map(start).collect();
        let ended = |check: ScopedJoinHandle<_>| check.join().expect("no panic");
        started.into_iter().filter_map(ended).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a check that fails says.
type Outcome = Result<(), String>;

/// Checks one case after the other, on a thread of its own, until one fails.
fn checked<C: Copy + Send + 'static>(
    kind: &'static Kind,
    cases: Vec<C>,
    check: fn(&Kind, C),
) -> Receiver<Outcome> {
    let (tell, outcomes) = mpsc::channel();
    std::thread::spawn(move || {
        for case in cases {
            let outcome = payload(|| check(kind, case)).map_err(|raised| said(&*raised));
            let ends = outcome.is_err();
            if tell.send(outcome).is_err() || ends {
                return;
            }
        }
    });
    outcomes
}

fn said(raised: &(dyn Any + Send)) -> String {
    let text = raised.downcast_ref::<String>().cloned();
    let text = text.or_else(|| raised.downcast_ref().map(|text: &&str| (*text).into()));
    let bang = || raised.downcast_ref().map(|bang: &Bang| format!("{bang:?}"));
    text.or_else(bang).unwrap_or_default()
}
