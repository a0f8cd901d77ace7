//! Every kind of operation where no thread can be started: the calling thread does all the work, nothing panics
//! (a panic ends the program there), and a timed wait lasts its whole time.

use fanfold::{CancelToken, Fanfold, HedgePolicy, Overflow, Permits, Pool, Rate, Workers};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const A_WHILE: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

fn squares(n: u64) -> Vec<u64> {
    (0..n).map(|i| i * i).collect()
}

fn sorted(outputs: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut outputs: Vec<_> = outputs.collect();
    outputs.sort_unstable();
    outputs
}

/// Takes long enough for a stage that measures costs.
fn works(i: u64) -> u64 {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(50) {}
    i * i
}

#[test]
fn no_thread_can_be_started() {
    assert!(std::thread::Builder::new().spawn(|| ()).is_err());
    assert_eq!((0..100).par_map_ordered(4, |i: u64| i).count(), 100);
    assert_eq!(Pool::global().threads(), 0);
    assert_eq!(Workers::cpus().get(), 1);
}

#[test]
fn stages() {
    assert_eq!(
        (0..5_000).par_map_ordered(4, |i| i * i).collect::<Vec<_>>(),
        squares(5_000)
    );
    assert_eq!(
        (0..500).par_map_ordered(4, works).collect::<Vec<_>>(),
        squares(500)
    );
    assert_eq!(sorted((0..500).par_map_unordered(4, works)), squares(500));
    let mut stage = (0..500)
        .par_map_ordered(3, works)
        .in_flight(5)
        .eager()
        .named("eager");
    assert_eq!(stage.by_ref().take(7).collect::<Vec<_>>(), squares(7));
    assert_eq!(stage.next(), Some(49));
    drop(stage);
    assert_eq!((0..100_u64).par_filter(2, |i| i % 2 == 0).count(), 50);
    assert_eq!(
        (0..100_u64)
            .par_filter_map(2, |i| (i % 2 == 0).then_some(i))
            .unordered()
            .count(),
        50
    );
    assert_eq!((0..100_u64).par_flat_map(2, |i| [i, i]).sum::<u64>(), 9_900);
    let with_state = (0..100_u64).par_map_ordered_init(2, Vec::new, |seen, i| {
        seen.push(i);
        i * i
    });
    assert_eq!(with_state.collect::<Vec<_>>(), squares(100));
    let fails = |i: u64| if i == 40 { Err(i) } else { Ok(i) };
    let mut stage = (0..100).try_par_map_ordered(4, fails);
    assert_eq!(stage.by_ref().take(40).filter(Result::is_ok).count(), 40);
    assert_eq!((stage.next(), stage.next()), (Some(Err(40)), None));
    drop(stage);
    let weight = |i: &u64| *i as usize % 5;
    let stage = (0..500).par_map_ordered(4, works);
    let stage = stage.in_flight_weight(7, weight).parked_weight(3, weight);
    assert_eq!(stage.collect::<Vec<_>>(), squares(500));
    let stage = (0..500).par_map_unordered(4, works);
    let stage = stage.in_flight_weight(7, weight).parked_weight(3, weight);
    assert_eq!(sorted(stage), squares(500));
    let stage = (0..100).par_map_ordered(4, works);
    let stage = stage.limited_by(&Permits::new(1));
    assert_eq!(stage.collect::<Vec<_>>(), squares(100));
    let pool = Pool::builder().stack_size(1 << 20).build();
    assert_eq!(
        (0..100)
            .par_map_ordered(4, works)
            .on(&pool)
            .collect::<Vec<_>>(),
        squares(100)
    );
    fanfold::testing::assert_quiescent();
}

#[test]
fn chains_and_what_is_nested() {
    let chain = (0..300_u64)
        .par_filter(2, |i| i % 3 > 0)
        .par_map_ordered(2, works)
        .par_map_unordered(2, |i| i + 1);
    assert_eq!(chain.count(), 200);
    let nested = (0..20_u64).par_map_ordered(3, |i| (0..i).par_map_ordered(2, works).sum::<u64>());
    let want = (0..20_u64).map(|i| (0..i).map(|i| i * i).sum::<u64>());
    assert_eq!(nested.collect::<Vec<_>>(), want.collect::<Vec<_>>());
    let borrowed = String::from("lent");
    let lengths = fanfold::scope(|scope| {
        let stage = (0..9)
            .par_map_ordered(2, |i| borrowed.len() + i)
            .within(scope);
        stage.take(5).sum::<usize>()
    });
    assert_eq!(lengths, 30);
    let mut unsent = std::rc::Rc::new(0..50_u64);
    let local = std::iter::from_fn(move || std::rc::Rc::get_mut(&mut unsent)?.next());
    assert_eq!(
        local.local().par_map_ordered(3, works).collect::<Vec<_>>(),
        squares(50)
    );
}

#[test]
fn stages_that_are_pushed_into() {
    let mut stage = fanfold::push_map_ordered(4, works).in_flight(3);
    let mut got = Vec::new();
    for i in 0..100 {
        got.extend(stage.push(i));
    }
    assert!(got.len() >= 97);
    got.extend(stage.finish());
    assert_eq!(got, squares(100));
    let mut stage = fanfold::push_map_ordered(4, works);
    assert_eq!((stage.try_push(3), stage.try_next()), (Ok(()), Some(9)));
    assert_eq!((stage.try_next(), stage.next()), (None, None));
}

#[test]
fn options_about_time() {
    let mut stage = (0..50).par_map_ordered(3, works);
    assert_eq!(stage.next_within(LONG), Ok(Some(0)));
    assert_eq!(stage.count(), 49);
    assert_eq!(
        (0..50)
            .par_map_ordered(3, works)
            .item_timeout(LONG)
            .collect::<Vec<_>>(),
        squares(50)
    );
    let late = |i: u64| {
        if i == 3 {
            std::thread::sleep(50 * A_WHILE);
        }
    };
    let stage = (0..9)
        .par_map_ordered(3, late)
        .item_timeout(25 * A_WHILE)
        .isolate();
    let failed = stage.find_map(Result::err).expect("one was late");
    assert!(failed.is_timeout() && failed.seq() == 3, "{failed}");
    let policy = HedgePolicy::after(A_WHILE / 10).budget(1.0);
    assert_eq!(
        (0..50)
            .par_map_ordered(3, works)
            .hedge_slow(&policy)
            .collect::<Vec<_>>(),
        squares(50)
    );
}

#[test]
fn keyed_stages() {
    let mut last = BTreeMap::new();
    let keyed = (0..500_u64).par_map_by_key(4, |i| i % 7, |i| (i % 7, works(i)));
    for (key, square) in keyed {
        assert!(
            last.insert(key, square)
                .is_none_or(|before| before < square)
        );
    }
    assert_eq!(last.len(), 7);
}

#[test]
fn whole_calls() {
    assert_eq!(
        fanfold::parallel_map(0..200, 4, |i| Ok::<_, ()>(works(i))),
        Ok(squares(200))
    );
    assert_eq!(
        fanfold::parallel_map(0..200, 4, |i| if i < 50 { Ok(i) } else { Err(i) }),
        Err(50)
    );
    let tasks = std::cell::Cell::new(0);
    let result = fanfold::group(2, |group| {
        for i in 0..9_u64 {
            group.spawn(move || if works(i) == 64 { Err(i) } else { Ok(()) });
            tasks.set(tasks.get() + 1);
        }
    });
    assert_eq!((result, tasks.get()), (Err(8), 9));
    let errors = fanfold::group_all(2, |group| {
        for i in 0..5_u64 {
            let refused = group.try_spawn(move || Err::<(), _>(i));
            assert!(refused.is_ok());
        }
    });
    let errors: Result<(), Vec<u64>> = errors;
    assert_eq!(errors.map_err(|errors| errors.len()), Err(5));
}

#[test]
fn read_ahead_merges_and_windows() {
    assert_eq!(
        (0..300).map(works).readahead(8).collect::<Vec<_>>(),
        squares(300)
    );
    assert!(
        (0..300_u64)
            .readahead(8)
            .overflow(Overflow::DropOldest)
            .count()
            <= 300
    );
    let merge = fanfold::merge([(0..100).map(works), (100..200).map(works)]);
    assert_eq!(sorted(merge), squares(200));
    let timed = fanfold::SourceOptions::new().timeout(LONG).weight(2);
    let merge = fanfold::Merge::new()
        .source_with((0..100).map(works), timed)
        .source(100..101);
    assert_eq!(merge.count(), 101);
    let parts = [0, 1].map(|part| (0..100).map(works).skip(part).step_by(2));
    assert_eq!(
        fanfold::merge_sorted_by_key(parts, |i| *i)
            .filter_map(Result::ok)
            .collect::<Vec<_>>(),
        squares(100)
    );
    assert_eq!(
        fanfold::round_robin([0..50_u64, 50..100])
            .take(3)
            .collect::<Vec<_>>(),
        [0, 50, 1]
    );
    assert_eq!(
        (0..10_u64)
            .window(4)
            .map(|window| window.len())
            .collect::<Vec<_>>(),
        [4, 4, 2]
    );
    assert_eq!((0..10_u64).window(4).max_age(LONG).count(), 3);
    assert_eq!((0..10_u64).ready_chunks(4).count(), 10);
    assert_eq!((0..10_u64).window(4).sliding(1).count(), 7);
}

#[test]
fn one_source_for_several() {
    let readers = (0..50_u64).broadcast(2).buffer(64).readers();
    assert!(readers.into_iter().all(|reader| reader.count() == 50));
    let sums = (0..50_u64).broadcast_into(3, |_, reader| reader.sum::<u64>());
    assert_eq!(sums, [1_225; 3]);
    let both = (0..50_u64).tee_into(|a| a.sum::<u64>(), |b| b.collect::<Vec<_>>().len());
    assert_eq!(both, (1_225, 50));
    let (even, odd) =
        (0..50_u64).partition_into(|i| i % 2 == 0, |even| even.count(), |odd| odd.count());
    assert_eq!((even, odd), (25, 25));
    assert_eq!(
        (0..9_u64).route_into(3, |i| *i as usize % 3, |_, reader| reader.count()),
        [3; 3]
    );
}

#[test]
fn a_worklist_ends() {
    let tree = fanfold::worklist([1_u64]).par_map_ordered(3, |work_item| {
        let (i, pusher) = work_item.into_parts();
        for child in [2 * i, 2 * i + 1] {
            if child < 100 {
                pusher.push(child).expect("the stage wants more");
            }
        }
        i
    });
    assert_eq!(tree.sum::<u64>(), 4_950);
}

#[test]
fn hedges_run_one_after_the_other() {
    let replicas = [Err("no"), Ok(2), Ok(3)].map(|answer| move |_: CancelToken| answer);
    assert_eq!(replicas.into_iter().hedge().run().expect("the second"), 2);
    let replicas = [Err("no"), Ok(2)].map(|answer| move |_: CancelToken| answer);
    assert_eq!(
        replicas
            .into_iter()
            .hedge()
            .after(LONG)
            .run()
            .expect("the second"),
        2
    );
    let replicas = ["a", "b"].map(|error| fanfold::replica(move |_| Err::<(), _>(error)));
    let error = replicas
        .into_iter()
        .hedge()
        .timeout(LONG)
        .wait_for_losers()
        .run();
    assert_eq!(error.expect_err("both").failures().len(), 2);
}

#[test]
fn tokens_wait_as_long_as_they_are_told() {
    let token = CancelToken::new();
    let began = Instant::now();
    assert!(token.sleep(A_WHILE).is_ok());
    assert!(began.elapsed() >= A_WHILE);
    let began = Instant::now();
    let timed = token.with_timeout(A_WHILE);
    timed.wait();
    assert!(timed.is_cancelled() && began.elapsed() >= A_WHILE);
    let limited = token.with_timeout(A_WHILE);
    assert!(limited.sleep(LONG).is_err());
    let hooked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&hooked);
    let _hook = token.on_cancel(move || seen.store(true, std::sync::atomic::Ordering::Relaxed));
    token.cancel();
    token.wait();
    assert!(token.sleep(LONG).is_err() && hooked.load(std::sync::atomic::Ordering::Relaxed));
    let stop = CancelToken::new();
    let stage = (0..).par_map_ordered(2, {
        let stop = stop.clone();
        move |i: u64| {
            if i == 20 {
                stop.cancel();
            }
            i
        }
    });
    assert!(stage.cancel_on(&stop).count() >= 20);
}

/// There is no timer thread either.
#[test]
fn a_deadline_ends_what_has_no_end() {
    let limit = || CancelToken::new().with_timeout(10 * A_WHILE);
    assert!((0..).par_map_ordered(2, works).cancel_on(&limit()).count() > 0);
    let parted = (0..).par_map_by_key(2, |i| i % 3, works);
    assert!(parted.cancel_on(&limit()).count() > 0);
    assert!((0..).map(works).readahead(2).cancel_on(&limit()).count() > 0);
    let merge = fanfold::merge([(0..).map(works), (0..).map(works)]);
    assert!(merge.cancel_on(&limit()).count() > 0);
    let endless = fanfold::parallel_map_with(&limit(), 0.., 2, |i| Ok::<_, Stopped>(works(i)));
    assert_eq!(endless, Err(Stopped));
}

#[derive(Debug, PartialEq)]
struct Stopped;

impl From<fanfold::Cancelled> for Stopped {
    fn from(_: fanfold::Cancelled) -> Self {
        Stopped
    }
}

#[test]
fn limiters_wait() {
    let began = Instant::now();
    let throttled = (0..5_u64).throttle(Rate::per(100, Duration::from_secs(1)).burst(1));
    assert_eq!(throttled.count(), 5);
    assert!(began.elapsed() >= Duration::from_millis(35));
    let limiter = fanfold::Limiter::new(Rate::per(100, Duration::from_secs(1)).burst(1));
    let stage = (0..5_u64).par_map_ordered(2, move |i| limiter.acquire().map(|()| i));
    assert!(stage.all(|result| result.is_ok()));
}

#[test]
fn nothing_is_left() {
    fanfold::testing::assert_quiescent();
}
