//! Random pipelines against the sequential oracle: random chains of the adaptors, random faults.
//!
//! Each pipeline is built twice from one seed: from fanfold's adaptors and from `std`'s. Both must give the
//! same items and the same panic at the same place, and leave nothing behind: no item, no stage, no thread.
//! Every fourth seed is a single `par_flat_map` with a short bound, whose outputs change hands most of all.
//!
//! `cargo test` runs it for a few seconds. `ci/stress.sh` runs it for as long as you like:
//! `cargo test --release --test stress -- --minutes 60`, and `-- --seed N` runs one pipeline alone. It has
//! no harness, as it must report which seed hangs, and exit.

mod support;

use fanfold::{CancelToken, Fanfold, HedgePolicy, Permits, Pool, StageStats, testing};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::{Bang, bang, mix};

/// A pipeline that takes longer than this hangs.
const STUCK: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(3_600);

/// An item that is counted as long as it lives.
struct Item {
    value: u64,
    live: Arc<AtomicIsize>,
}

impl Item {
    fn new(value: u64, live: &Arc<AtomicIsize>) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        let live = Arc::clone(live);
        Item { value, live }
    }

    fn with(&self, value: u64) -> Self {
        Item::new(value, &self.live)
    }
}

impl Clone for Item {
    fn clone(&self) -> Self {
        self.with(self.value)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

type Stream = Box<dyn Iterator<Item = Item> + Send>;

/// A sequence of random choices.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % sides
    }

    fn width(&mut self) -> usize {
        // Rarely far more than there are cores, or items.
        let sides = if self.roll(16) == 0 { 100 } else { 9 };
        1 + self.roll(sides) as usize
    }
}

/// What a closure does to a value, and when it panics: the same in both pipelines.
#[derive(Clone, Copy)]
struct Work {
    seed: u64,
    /// One value out of this many panics; 0: none.
    panics: u64,
    slow: bool,
}

impl Work {
    fn new(dice: &mut Dice, faulty: bool) -> Self {
        Work {
            seed: dice.roll(u64::MAX),
            panics: if faulty && dice.roll(3) == 0 {
                1 + dice.roll(2_000)
            } else {
                0
            },
            slow: dice.roll(3) == 0,
        }
    }

    fn random(self, item: &Item) -> u64 {
        mix(self.seed ^ item.value)
    }

    /// Takes some time, or panics.
    fn run(self, item: &Item, dawdles: bool) -> u64 {
        let random = self.random(item);
        if dawdles && self.slow {
            support::dawdle(random);
        }
        if self.panics > 0 && random % self.panics == 7 {
            bang(item.value);
        }
        random
    }

    fn map(self, item: &Item, dawdles: bool) -> Item {
        item.with(self.run(item, dawdles) % 100_000)
    }
}

/// One adaptor of a pipeline.
#[derive(Clone, Copy, Debug)]
enum Step {
    Map,
    Filter,
    FilterMap,
    FlatMap,
    Init,
    Try,
    TryInit,
    Isolate,
    Window,
    Sliding,
    Aggregate,
    Readahead,
    Hedged,
    Timed,
    Local,
    ByKey,
    ParallelMap,
    Broadcast,
    Split,
    Route,
    Unordered,
    ForEach,
    Fold,
    Merge,
    RoundRobin,
}

const ORDERED: &[Step] = &[
    Step::Map,
    Step::Filter,
    Step::FilterMap,
    Step::FlatMap,
    Step::Init,
    Step::Try,
    Step::TryInit,
    Step::Isolate,
    Step::Window,
    Step::Sliding,
    Step::Aggregate,
    Step::Readahead,
    Step::Hedged,
    Step::Timed,
    Step::Local,
    Step::ParallelMap,
    Step::Broadcast,
    Step::Split,
    Step::Route,
];

/// Without faults: without an order, the items that come out before a panic are unspecified.
const ANY_ORDER: &[Step] = &[
    Step::Unordered,
    Step::ForEach,
    Step::Fold,
    Step::ByKey,
    Step::Merge,
    Step::RoundRobin,
];

/// The parts that both pipelines share.
struct Plan {
    seed: u64,
    len: u64,
    steps: Vec<(Step, u64)>,
    faulty: bool,
    end: End,
}

/// How the consumer takes the items.
#[derive(Clone, Copy, Debug)]
enum End {
    All,
    Fold,
    /// Takes this many, and then drops the rest.
    Take(usize),
    /// A token is tripped after this many.
    Cancel(usize),
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(mix(seed));
        let faulty = dice.roll(2) == 0;
        let len = match dice.roll(4) {
            0 => dice.roll(4),
            1 => dice.roll(3_000),
            _ => dice.roll(300),
        };
        let steps = (0..=dice.roll(4)).map(|_| {
            let all = ORDERED.len() + if faulty { 0 } else { ANY_ORDER.len() };
            let at = dice.roll(all as u64) as usize;
            let step = ORDERED
                .get(at)
                .or_else(|| ANY_ORDER.get(at - ORDERED.len()));
            (*step.expect("one of the two"), dice.roll(u64::MAX))
        });
        let steps = steps.collect();
        let at = dice.roll(200) as usize;
        let end = match dice.roll(5) {
            0 => End::Take(at),
            1 => End::Fold,
            2 => End::Cancel(at),
            _ => End::All,
        };
        Plan {
            seed,
            len,
            steps,
            faulty,
            end,
        }
    }

    fn source(&self, live: &Arc<AtomicIsize>, dawdles: bool) -> Stream {
        let live = Arc::clone(live);
        let work = Work::new(&mut Dice(self.seed ^ 0xff), self.faulty);
        let items = (0..self.len).map(move |value| {
            let item = Item::new(value, &live);
            work.map(&item, dawdles)
        });
        Box::new(items)
    }

    /// The oracle.
    fn sequential(&self, live: &Arc<AtomicIsize>) -> Stream {
        let mut stream = self.source(live, false);
        for &(step, seed) in &self.steps {
            let mut dice = Dice(seed);
            let work = Work::new(&mut dice, self.faulty);
            stream = sequential(stream, step, work, &mut dice);
        }
        stream
    }

    fn parallel(
        &self,
        live: &Arc<AtomicIsize>,
        token: &CancelToken,
        watched: &Mutex<Vec<StageStats>>,
    ) -> Stream {
        let mut stream = self.source(live, true);
        // All stages that are limited share these.
        let permits = Permits::new(1 + self.len as usize % 5);
        for &(step, seed) in &self.steps {
            let mut dice = Dice(seed);
            let work = Work::new(&mut dice, self.faulty);
            stream = parallel(stream, step, work, &mut dice, (token, &permits, watched));
        }
        stream
    }
}

#[allow(clippy::needless_pass_by_value)] // the signature that `map` wants
fn sum(window: Vec<Item>) -> Item {
    let total = window.iter().map(|item| item.value).sum::<u64>();
    window[0].with(total % 100_000 + window.len() as u64)
}

/// For a step that takes all items before it gives any.
fn at_once<S, F>(stream: S, f: F) -> Stream
where
    S: Iterator<Item = Item> + Send + 'static,
    F: Fn(S) -> Vec<Item> + Send + 'static,
{
    let mut stream = Some(stream);
    let all = std::iter::from_fn(move || Some(f(stream.take()?)));
    Box::new(all.flatten())
}

/// So that items in any order can be compared.
fn sorted(stream: impl Iterator<Item = Item> + Send + 'static) -> Stream {
    at_once(stream, |stream| {
        let mut all: Vec<_> = stream.collect();
        all.sort_by_key(|item| item.value);
        all
    })
}

/// The items of every branch, one branch after the other.
fn in_ways(stream: Stream, ways: u64) -> Stream {
    at_once(stream, move |stream| {
        let mut all: Vec<_> = stream.collect();
        all.sort_by_key(|item| item.value % ways);
        all
    })
}

fn sequential(stream: Stream, step: Step, work: Work, dice: &mut Dice) -> Stream {
    let run = move |item: Item| work.map(&item, false);
    match step {
        Step::Map | Step::Init | Step::Hedged | Step::Timed | Step::Local => {
            Box::new(stream.map(run))
        }
        Step::Filter => Box::new(stream.filter(move |item| work.run(item, false) % 3 > 0)),
        Step::FilterMap => Box::new(stream.filter_map(move |item| {
            let random = work.run(&item, false);
            (random % 3 > 0).then(|| item.with(random % 1_000))
        })),
        Step::FlatMap => Box::new(stream.flat_map(move |item| {
            let random = work.run(&item, false);
            (0..random % 4)
                .map(move |i| item.with(i))
                .collect::<Vec<_>>()
        })),
        Step::Try | Step::TryInit => Box::new(
            stream
                .map(move |item| {
                    let random = work.run(&item, false);
                    (random % 500 != 3).then(|| item.with(random % 1_000))
                })
                .take_while(Option::is_some)
                .flatten(),
        ),
        Step::Isolate => Box::new(stream.enumerate().map(move |(seq, item)| {
            let result = catch_unwind(AssertUnwindSafe(|| work.map(&item, false)));
            result.unwrap_or_else(|_| Item::new(seq as u64, &Arc::default()))
        })),
        Step::Window | Step::Aggregate => {
            let size = 1 + dice.roll(20) as usize;
            Box::new(stream.window(size).map(sum))
        }
        Step::Sliding => {
            let (size, step) = (1 + dice.roll(9) as usize, 1 + dice.roll(12) as usize);
            Box::new(stream.window(size).sliding(step).map(sum))
        }
        Step::Readahead | Step::Broadcast => stream,
        Step::ParallelMap => at_once(stream, move |stream| stream.map(run).collect()),
        Step::Split => in_ways(stream, 2),
        Step::Route => in_ways(stream, 1 + dice.roll(5)),
        Step::Unordered | Step::ForEach | Step::Fold | Step::ByKey => sorted(stream.map(run)),
        Step::Merge | Step::RoundRobin => {
            let all: Vec<_> = stream.collect();
            match step {
                Step::Merge => sorted(all.into_iter()),
                _ => Box::new(all.into_iter()),
            }
        }
    }
}

#[allow(clippy::too_many_lines)] // a list
fn parallel(
    stream: Stream,
    step: Step,
    work: Work,
    dice: &mut Dice,
    (token, permits, watched): (&CancelToken, &Permits, &Mutex<Vec<StageStats>>),
) -> Stream {
    let run = move |item: Item| work.map(&item, true);
    let attempt = move |item: Item| {
        let random = work.run(&item, true);
        if random % 500 == 3 {
            Err(item)
        } else {
            Ok(item.with(random % 1_000))
        }
    };
    // Rolled first in both pipelines, as both need it.
    let (size, every) = match step {
        Step::Route => (1 + dice.roll(5) as usize, 1),
        Step::Window | Step::Aggregate => (1 + dice.roll(20) as usize, 1),
        Step::Sliding => (1 + dice.roll(9) as usize, 1 + dice.roll(12) as usize),
        _ => (1, 1),
    };
    let n = dice.width();
    let bound = match dice.roll(3) {
        0 => None,
        1 => Some(1 + dice.roll(8) as usize),
        _ => Some(1 + dice.roll(200) as usize),
    };
    let (eager, own_pool) = (dice.roll(4) == 0, dice.roll(16) == 0);
    let limited = dice.roll(3) == 0;
    let (measured, timed) = (dice.roll(2) == 0, dice.roll(4) == 0);
    let watch = |stats: StageStats| watched.lock().expect("no panic").push(stats);
    macro_rules! watched {
        ($stage:expr) => {{
            let mut stage = $stage;
            if measured {
                watch(stage.stats());
            }
            stage
        }};
    }
    macro_rules! stage {
        ($stage:expr) => {{
            let mut stage = $stage.cancel_on(token);
            if let Some(bound) = bound {
                stage = stage.in_flight(bound);
            }
            if eager {
                stage = stage.eager();
            }
            if own_pool {
                stage = stage.on(&Pool::builder().named("own").build());
            }
            if limited {
                stage = stage.limited_by(permits);
            }
            if measured {
                let stats = stage.stats();
                watch(if timed { stats.item_times() } else { stats });
            }
            stage
        }};
    }
    match step {
        Step::Map if dice.roll(3) == 0 => {
            let (limit, parked) = (1 + dice.roll(60), 1 + dice.roll(20));
            let stage = stage!(stream.par_map_ordered(n, run));
            let stage = stage.in_flight_weight(limit as usize, |item| item.value as usize % 20);
            Box::new(stage.parked_weight(parked as usize, |item| item.value as usize % 5))
        }
        Step::Map => Box::new(stage!(stream.par_map_ordered(n, run))),
        Step::Init => Box::new(stage!(stream.par_map_ordered_init(
            n,
            || 0_u64,
            move |calls, item| {
                *calls += 1;
                run(item)
            }
        ))),
        Step::Filter => {
            let keep = move |item: &Item| work.run(item, true) % 3 > 0;
            Box::new(stage!(stream.par_filter(n, keep)))
        }
        Step::FilterMap => Box::new(stage!(stream.par_filter_map(n, move |item| {
            let random = work.run(&item, true);
            (random % 3 > 0).then(|| item.with(random % 1_000))
        }))),
        Step::FlatMap => Box::new(stage!(stream.par_flat_map(n, move |item| {
            let random = work.run(&item, true);
            (0..random % 4)
                .map(move |i| item.with(i))
                .collect::<Vec<_>>()
        }))),
        Step::Try => Box::new(stage!(stream.try_par_map_ordered(n, attempt)).flatten()),
        Step::TryInit => Box::new(
            stage!(stream.try_par_map_ordered_init(
                n,
                || Ok(0_u64),
                move |calls, item| {
                    *calls += 1;
                    attempt(item)
                }
            ))
            .flatten(),
        ),
        Step::Isolate => Box::new(
            stage!(stream.par_map_ordered(n, run))
                .isolate()
                .map(|result| {
                    result.unwrap_or_else(|failure| Item::new(failure.seq(), &Arc::default()))
                }),
        ),
        Step::Window => Box::new(stream.window(size).map(sum)),
        Step::Aggregate => Box::new(
            stream
                .window(size)
                .aggregate(Vec::new, |mut window, item| {
                    window.push(item);
                    window
                })
                .map(sum),
        ),
        Step::Sliding => Box::new(stream.window(size).sliding(every).map(sum)),
        Step::Readahead => Box::new(watched!(stream.readahead(n).cancel_on(token))),
        Step::Hedged => {
            let delay = Duration::from_micros(dice.roll(300));
            let policy = HedgePolicy::after(delay).budget(1.0);
            Box::new(stage!(stream.par_map_ordered(n, run)).hedge_slow(&policy))
        }
        Step::Timed => Box::new(stage!(stream.par_map_ordered(n, run)).item_timeout(LONG)),
        Step::Local => {
            let mut stage = stage!(stream.local().par_map_ordered(n, run));
            Box::new(std::iter::from_fn(move || stage.next()))
        }
        Step::ByKey => sorted(stage!(stream.par_map_by_key(
            n,
            |item| item.value % 11,
            run
        ))),
        Step::ParallelMap => at_once(stream, move |stream| {
            let all = fanfold::parallel_map(stream, n, |item| Ok::<_, ()>(run(item)));
            all.expect("no item fails")
        }),
        Step::Broadcast => {
            let readers = stream.broadcast(1 + n % 4).buffer(bound.unwrap_or(16));
            let mut readers = readers.readers();
            if measured {
                readers
                    .iter_mut()
                    .map(fanfold::Reader::stats)
                    .for_each(watch);
            }
            let mut first = readers.remove(0);
            Box::new(std::iter::from_fn(move || {
                let item = first.next();
                for reader in &mut readers {
                    let twin = reader.next().map(|item| item.value);
                    assert_eq!(twin, item.as_ref().map(|item| item.value));
                }
                item
            }))
        }
        Step::Split => at_once(stream, |stream| {
            let all = |reader: fanfold::Reader<_, _>| reader.collect::<Vec<_>>();
            let even = |item: &Item| item.value % 2 == 0;
            let (even, odd) = stream.partition_into(even, all, all);
            [even, odd].concat()
        }),
        Step::Route => at_once(stream, move |stream| {
            let way = |item: &Item| item.value as usize % size;
            let ways = stream.route_into(size, way, |_, way| way.collect::<Vec<_>>());
            ways.concat()
        }),
        Step::Unordered => sorted(stage!(stream.par_map_unordered(n, run))),
        Step::ForEach => at_once(stream, move |stream| {
            let all = Mutex::new(Vec::new());
            stream.par_for_each(n, |item| all.lock().expect("no panic").push(run(item)));
            let mut all = all.into_inner().expect("no panic");
            all.sort_by_key(|item| item.value);
            all
        }),
        Step::Fold => at_once(stream, move |stream| {
            let add = |mut all: Vec<Item>, item| {
                all.push(run(item));
                all
            };
            let mut all = stream.par_fold(n, Vec::new, add, |a, b| [a, b].concat());
            all.sort_by_key(|item| item.value);
            all
        }),
        Step::Merge => {
            // All items are in one of the sources, which may be empty.
            let parts = split(stream, 1 + dice.roll(5) as usize, false);
            sorted(watched!(fanfold::merge(parts).cancel_on(token)))
        }
        Step::RoundRobin => {
            let parts = split(stream, 1 + dice.roll(5) as usize, true);
            Box::new(watched!(fanfold::round_robin(parts).cancel_on(token)))
        }
    }
}

/// Distributes the items over `k` sources, in turn or in blocks.
fn split(stream: Stream, k: usize, in_turn: bool) -> Vec<std::vec::IntoIter<Item>> {
    let mut parts: Vec<Vec<Item>> = (0..k).map(|_| Vec::new()).collect();
    for (at, item) in stream.enumerate() {
        let part = if in_turn { at } else { at / 7 };
        parts[part % k].push(item);
    }
    parts.into_iter().map(Vec::into_iter).collect()
}

/// What came out, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    values: Vec<u64>,
    panic: Option<u64>,
}

fn consume(stream: impl FnOnce() -> Stream, end: End, token: &CancelToken) -> Outcome {
    let mut values = Vec::new();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut stream = stream();
        match end {
            End::All => {
                for item in stream {
                    values.push(item.value);
                }
            }
            End::Fold => stream.for_each(|item| values.push(item.value)),
            End::Take(k) => stream
                .by_ref()
                .take(k)
                .for_each(|item| values.push(item.value)),
            End::Cancel(k) => {
                for item in stream {
                    values.push(item.value);
                    if values.len() == k {
                        token.cancel();
                    }
                }
            }
        }
    }));
    let panic = result
        .err()
        .map(|payload| match payload.downcast::<Bang>() {
            Ok(bang) => bang.0,
            Err(payload) => std::panic::resume_unwind(payload),
        });
    Outcome { values, panic }
}

/// A stage of many outputs per item with a short bound, and a consumer that is away now and then: the turn goes
/// to and fro between consumer and workers, and iterators are left half run.
fn run_flat(seed: u64) -> Result<(), String> {
    let mut dice = Dice(seed);
    let (n, per_item) = (
        dice.width(),
        [0, 1, 2, 3, 7, 40, 1_000][dice.roll(7) as usize],
    );
    let bound = [1, 2, 3, 5, 8, 16, 64, 256][dice.roll(8) as usize];
    let [pulls, works, takes] = [(); 3].map(|()| dice.roll(2) == 0);
    let (is_local, is_away) = (dice.roll(4) == 0, dice.roll(3) == 0);
    let items = dice.roll(2_000 / (per_item + 1) + 4);
    let fails = dice.roll(4 * items + 1);
    let most = if dice.roll(4) == 0 {
        dice.roll(400)
    } else {
        u64::MAX
    };
    let (live, made) = (Arc::<AtomicIsize>::default(), Arc::<AtomicU64>::default());
    let open = {
        let (live, made) = (Arc::clone(&live), Arc::clone(&made));
        move |item| {
            if item == fails {
                return Err(item);
            }
            let (of_item, made) = (Item::new(item, &live), Arc::clone(&made));
            Ok((0..per_item).map(move |i| {
                made.fetch_add(1, Ordering::SeqCst);
                if works {
                    support::dawdle(mix(seed ^ item << 20 ^ i));
                }
                Ok(of_item.with(item * per_item + i))
            }))
        }
    };
    let pulled = (0..items).inspect(move |item| {
        if pulls {
            support::dawdle(mix(seed ^ item));
        }
    });
    let mut stage: Box<dyn Iterator<Item = Result<Item, u64>>> = if is_local {
        Box::new(pulled.local().try_par_flat_map(n, open).in_flight(bound))
    } else {
        Box::new(pulled.try_par_flat_map(n, open).in_flight(bound))
    };
    let end = items.min(fails) * per_item;
    let error = (fails < items).then_some(Err(fails));
    let mut want = (0..end).map(Ok).chain(error).take(most as usize);
    let mut taken = 0;
    let wrong = loop {
        let next = if taken < most { stage.next() } else { None };
        let got = next.map(|output| output.map(|item| item.value));
        let wanted = want.next();
        let ahead = made.load(Ordering::SeqCst).saturating_sub(taken);
        // One of them has just been taken.
        if got != wanted || ahead > bound as u64 + 1 {
            break Some(format!("got {got:?} and not {wanted:?}, {ahead} ahead"));
        }
        if got.is_none() {
            break None;
        }
        taken += 1;
        let random = mix(seed ^ taken);
        if takes {
            support::dawdle(random);
        }
        if is_away && random % 97 == 0 {
            support::spin(Duration::from_micros(random >> 32 & 0xfff));
        }
    };
    drop(stage);
    let rest = what_is_left(&live);
    if wrong.is_none() && rest.is_none() {
        return Ok(());
    }
    Err(format!(
        "par_flat_map, n = {n}, bound {bound}, {items} items of {per_item}, {taken} taken: {wrong:?}, {rest:?}"
    ))
}

/// Says what a pipeline that is over has left behind. `None`: nothing.
fn what_is_left(live: &AtomicIsize) -> Option<String> {
    let left = live.load(Ordering::SeqCst);
    let quiescent = catch_unwind(testing::assert_quiescent).is_ok();
    (left != 0 || !quiescent).then(|| format!("{left} items are left; quiescent: {quiescent}"))
}

/// Says what the statistics of a stage that is over get wrong.
fn miscounts(stats: &StageStats) -> Option<String> {
    let all = stats.snapshot();
    let others = all.filtered + all.failed + all.panicked + all.timed_out + all.discarded;
    let tally = all.admitted == all.yielded + others && all.in_flight() == 0;
    let ordered = all.admitted >= all.started && all.started >= all.finished;
    let width = u32::try_from(all.width).expect("a width of a test");
    let times = all.time.total() <= all.elapsed * width;
    let consumer = all.consumer.head + all.consumer.own + all.consumer.away == all.elapsed;
    let right = tally && ordered && times && consumer && all.head.is_none();
    (!right).then(|| format!("{all:?}"))
}

/// Runs one pipeline both ways. `Err` describes what is wrong.
fn run(seed: u64) -> Result<(), String> {
    if seed % 4 == 0 {
        return run_flat(seed);
    }
    let plan = Plan::new(seed);
    let token = CancelToken::new();
    let (live, twin) = (Arc::default(), Arc::default());
    let want = consume(|| plan.sequential(&twin), plan.end, &CancelToken::new());
    let watched = Mutex::default();
    let got = consume(|| plan.parallel(&live, &token, &watched), plan.end, &token);
    let same = match plan.end {
        // A cancellation may come too late, and cuts a stage off wherever it finds it; then windows
        // are shorter, and fewer items are sorted.
        End::Cancel(k) => {
            got.values.len() < k && got == want
                || got.values.len() >= k && {
                    let prefix = &want.values[..k.min(want.values.len())];
                    got.values.starts_with(prefix)
                }
        }
        _ => got == want,
    };
    let rest = what_is_left(&live);
    let watched = watched.into_inner().expect("no panic");
    let wrong: Vec<_> = watched.iter().filter_map(miscounts).collect();
    if same && rest.is_none() && wrong.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "{:?} of {} items, {:?}, faulty: {}\n",
        plan.steps.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        plan.len,
        plan.end,
        plan.faulty
    );
    if !same {
        let at = got
            .values
            .iter()
            .zip(&want.values)
            .position(|(a, b)| a != b);
        let _ = writeln!(
            why,
            "  got {} values and {:?}, want {} and {:?}; the first difference is at {at:?}",
            got.values.len(),
            got.panic,
            want.values.len(),
            want.panic
        );
    }
    for said in rest.iter().chain(&wrong) {
        let _ = writeln!(why, "  {said}");
    }
    Err(why)
}

fn argument(name: &str) -> Option<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.next()?;
    let value = args.next().unwrap_or_default();
    match value.parse() {
        Ok(value) => Some(value),
        Err(why) => {
            eprintln!("stress: {name} takes a number, not {value:?}: {why}");
            std::process::exit(2);
        }
    }
}

fn main() {
    // Asked by `cargo test -- --list` and by test runners.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let time = match argument("--minutes") {
        Some(minutes) => Duration::from_secs(60 * minutes),
        None => Duration::from_secs(argument("--seconds").unwrap_or(5)),
    };
    let clock = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    let alone = argument("--seed");
    let first = alone.unwrap_or(mix(clock.as_nanos() as u64) >> 16);
    println!("stress: from seed {first} on; `-- --seed N` runs one alone");

    // A reader that shares a source with the one that met its panic panics too; that is expected here.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if !text.is_some_and(|text| text.contains("has met with a panic in what they share")) {
            hook(panic);
        }
    }));

    // Another thread must report if this thread hangs.
    let now = Arc::new(AtomicU64::new(first));
    let (done, wait) = mpsc::channel::<()>();
    let watch = std::thread::spawn({
        let now = Arc::clone(&now);
        move || {
            let mut before = (u64::MAX, Instant::now());
            while wait.recv_timeout(STUCK / 20) == Err(mpsc::RecvTimeoutError::Timeout) {
                let seed = now.load(Ordering::SeqCst);
                if seed != before.0 {
                    before = (seed, Instant::now());
                } else if before.1.elapsed() > STUCK {
                    eprintln!("stress: seed {seed} hangs");
                    std::process::abort();
                }
            }
        }
    });
    let began = Instant::now();
    let (mut count, mut wrong) = (0_u64, 0_u64);
    let repeats = if alone.is_some() { 100 } else { 1 };
    for seed in first.. {
        now.store(seed, Ordering::SeqCst);
        for _ in 0..repeats {
            count += 1;
            if let Err(why) = run(seed) {
                eprintln!("stress: seed {seed} is wrong: {why}");
                wrong += 1;
            }
        }
        if alone.is_some() || began.elapsed() >= time || wrong >= 5 {
            break;
        }
    }
    drop(done);
    watch.join().expect("the watch does not panic");
    let result = if wrong == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {} passed; {wrong} failed; 0 ignored; 0 measured; 0 filtered out; \
         {count} pipelines in {:.1?}",
        u64::from(wrong == 0),
        began.elapsed()
    );
    std::process::exit(i32::from(wrong > 0));
}
