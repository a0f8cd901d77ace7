//! The rivals: one function for each way to map a source in parallel and take the results in order.
//!
//! Each gets the source, the work and a fold, and folds the results on the caller's thread, in the
//! order of the items. `split` is apart: it streams nothing.

use std::cell::{OnceCell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

/// Items of rayon's chunks.
const CHUNK: usize = 2_048;
/// What hand-written channels and tokio hold, for each thread.
const WINDOW: usize = 16;

/// Where the items come from.
pub trait Source: Iterator<Item: Send + Sync> + Send + 'static {}
impl<S: Iterator<Item: Send + Sync> + Send + 'static> Source for S {}

/// What is done with an item.
pub trait Work<T, O = u64>: Fn(T) -> O + Copy + Send + Sync + 'static {}
impl<T, O, F: Fn(T) -> O + Copy + Send + Sync + 'static> Work<T, O> for F {}

/// What comes of it. It has an order only because the hand-written heap holds it beside its place.
pub trait Output: Ord + Send + 'static {}
impl<O: Ord + Send + 'static> Output for O {}

/// A way to do it, in the order of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Way {
    Loop,
    Split,
    Fanfold,
    FanfoldFor,
    Bridge,
    Chunks,
    Orx,
    Paralight,
    Pariter,
    Plmap,
    Tokio,
    Channels,
}

impl Way {
    pub const ALL: [Way; 12] = [
        Way::Loop,
        Way::Split,
        Way::Fanfold,
        Way::FanfoldFor,
        Way::Bridge,
        Way::Chunks,
        Way::Orx,
        Way::Paralight,
        Way::Pariter,
        Way::Plmap,
        Way::Tokio,
        Way::Channels,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Way::Loop => "loop",
            Way::Split => "split",
            Way::Fanfold => "fanfold (fold)",
            Way::FanfoldFor => "fanfold (for)",
            Way::Bridge => "rayon bridge + sort",
            Way::Chunks => "rayon chunks",
            Way::Orx => "orx (whole)",
            Way::Paralight => "paralight (whole)",
            Way::Pariter => "pariter",
            Way::Plmap => "plmap",
            Way::Tokio => "tokio buffered",
            Way::Channels => "channels + heap",
        }
    }
}

impl Way {
    /// Its name as an argument.
    pub fn id(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.expect("no way is hidden").get_name().to_owned()
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The threads of those that keep them: started once a row, when first asked for.
pub struct Pools {
    width: usize,
    /// The work sleeps: tokio takes threads for blocking calls.
    sleeps: bool,
    rayon: OnceCell<rayon::ThreadPool>,
    paralight: RefCell<Option<paralight::threads::ThreadPool>>,
    tokio: OnceCell<tokio::runtime::Runtime>,
}

impl Pools {
    pub fn new(width: usize, sleeps: bool) -> Self {
        Pools {
            width,
            sleeps,
            rayon: OnceCell::new(),
            paralight: RefCell::new(None),
            tokio: OnceCell::new(),
        }
    }

    pub fn rayon(&self) -> &rayon::ThreadPool {
        let build = || rayon::ThreadPoolBuilder::new().num_threads(self.width);
        self.rayon
            .get_or_init(|| build().build().expect("rayon's threads start"))
    }

    pub fn paralight<R>(&self, f: impl FnOnce(&mut paralight::threads::ThreadPool) -> R) -> R {
        use paralight::threads::{CpuPinningPolicy, RangeStrategy, ThreadPoolBuilder};
        let build = || ThreadPoolBuilder {
            num_threads: self.width.try_into().expect("the width is not 0"),
            range_strategy: RangeStrategy::WorkStealing,
            cpu_pinning: CpuPinningPolicy::No,
        };
        f(self
            .paralight
            .borrow_mut()
            .get_or_insert_with(|| build().build()))
    }

    fn tokio(&self) -> &tokio::runtime::Runtime {
        self.tokio.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(if self.sleeps { 2 } else { self.width })
                .max_blocking_threads(self.width)
                .build()
                .expect("tokio's threads start")
        })
    }
}

/// Runs any way but `Split`.
pub fn run<S: Source, O: Output, B>(
    way: Way,
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    step: impl FnMut(B, O) -> B,
) -> B {
    match way {
        Way::Loop => source.map(work).fold(init, step),
        Way::Split => unreachable!("the split takes halves"),
        Way::Fanfold => fanfold(pools, source, work, init, step),
        Way::FanfoldFor => fanfold_for(pools, source, work, init, step),
        Way::Bridge => bridge(pools, source, work, init, step),
        Way::Chunks => chunks(pools, source, work, init, step),
        Way::Orx => orx(pools, source, work, init, step),
        Way::Paralight => paralight(pools, source, work, init, step),
        Way::Pariter => pariter(pools, source, work, init, step),
        Way::Plmap => plmap(pools, source, work, init, step),
        Way::Tokio => tokio(pools, source, work, init, step),
        Way::Channels => channels(pools, source, work, init, step),
    }
}

/// The limit of the machine: two threads, each of which fills a `Vec` with its half.
pub fn split<H: Iterator<Item: Send> + Send>(
    halves: [H; 2],
    work: impl Work<H::Item>,
) -> Vec<Vec<u64>> {
    let [first, second] = halves;
    std::thread::scope(|s| {
        let second = s.spawn(move || second.map(work).collect());
        vec![first.map(work).collect(), second.join().expect("no panic")]
    })
}

fn fanfold<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    step: impl FnMut(B, O) -> B,
) -> B {
    use fanfold::Fanfold;
    source.par_map_ordered(pools.width, work).fold(init, step)
}

fn fanfold_for<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    mut step: impl FnMut(B, O) -> B,
) -> B {
    use fanfold::Fanfold;
    let mut all = init;
    for result in source.par_map_ordered(pools.width, work) {
        all = step(all, result);
    }
    all
}

fn bridge<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    mut step: impl FnMut(B, O) -> B,
) -> B {
    use rayon::prelude::*;
    let indexed = source.enumerate().par_bridge();
    let mut results: Vec<(usize, O)> = pools
        .rayon()
        .install(|| indexed.map(|(index, item)| (index, work(item))).collect());
    results.sort_unstable_by_key(|(index, _)| *index);
    results
        .into_iter()
        .fold(init, |all, (_, result)| step(all, result))
}

fn chunks<S: Source, O: Output, B>(
    pools: &Pools,
    mut source: S,
    work: impl Work<S::Item, O>,
    init: B,
    mut step: impl FnMut(B, O) -> B,
) -> B {
    use rayon::prelude::*;
    let mut all = init;
    loop {
        let chunk: Vec<S::Item> = source.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return all;
        }
        let results: Vec<O> = pools
            .rayon()
            .install(|| chunk.into_par_iter().map(work).collect());
        all = results.into_iter().fold(all, &mut step);
    }
}

fn orx<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    step: impl FnMut(B, O) -> B,
) -> B {
    use orx_parallel::*;
    let par = source.iter_into_par().num_threads(pools.width);
    let results: Vec<O> = par.map(work).collect();
    results.into_iter().fold(init, step)
}

fn paralight<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    step: impl FnMut(B, O) -> B,
) -> B {
    use paralight::prelude::*;
    let items: Vec<S::Item> = source.collect();
    let results: Vec<O> = pools.paralight(|pool| {
        let par = items.into_par_iter().map(work);
        par.with_thread_pool(pool).collect()
    });
    results.into_iter().fold(init, step)
}

fn pariter<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    step: impl FnMut(B, O) -> B,
) -> B {
    use pariter::IteratorExt;
    source
        .parallel_map_custom(|o| o.threads(pools.width), work)
        .fold(init, step)
}

fn plmap<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    step: impl FnMut(B, O) -> B,
) -> B {
    use plmap::PipelineMap;
    source.plmap(pools.width, work).fold(init, step)
}

fn tokio<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    mut step: impl FnMut(B, O) -> B,
) -> B {
    use futures::StreamExt;
    let spawn = |item| match pools.sleeps {
        true => tokio::task::spawn_blocking(move || work(item)),
        false => tokio::spawn(async move { work(item) }),
    };
    pools.tokio().block_on(async {
        let mut results = futures::stream::iter(source)
            .map(spawn)
            .buffered(WINDOW * pools.width);
        let mut all = init;
        while let Some(result) = results.next().await {
            all = step(all, result.expect("no panic"));
        }
        all
    })
}

/// What people write by hand: a bounded channel to the workers, one back, and a heap for the order.
fn channels<S: Source, O: Output, B>(
    pools: &Pools,
    source: S,
    work: impl Work<S::Item, O>,
    init: B,
    mut step: impl FnMut(B, O) -> B,
) -> B {
    let held = WINDOW * pools.width;
    let (to_workers, from_source) = crossbeam_channel::bounded::<(u64, S::Item)>(held);
    let (to_consumer, results) = crossbeam_channel::bounded::<(u64, O)>(held);
    std::thread::scope(|s| {
        s.spawn(move || {
            for pair in (0..).zip(source) {
                if to_workers.send(pair).is_err() {
                    return;
                }
            }
        });
        for _ in 0..pools.width {
            let (from_source, to_consumer) = (from_source.clone(), to_consumer.clone());
            s.spawn(move || {
                for (seq, item) in from_source {
                    if to_consumer.send((seq, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop((from_source, to_consumer));
        let (mut parked, mut next, mut all) = (BinaryHeap::new(), 0, init);
        for pair in results {
            parked.push(Reverse(pair));
            while parked.peek().is_some_and(|Reverse((seq, _))| *seq == next) {
                let Some(Reverse((_, result))) = parked.pop() else {
                    break;
                };
                all = step(all, result);
                next += 1;
            }
        }
        all
    })
}

/// Four stages, one after the other: only those that chain.
pub fn four_stages<S: Source<Item = u64>>(
    way: Way,
    pools: &Pools,
    source: S,
    work: impl Work<u64>,
) -> u64 {
    let n = pools.width;
    match way {
        Way::Loop => digest(source.map(work).map(work).map(work).map(work)),
        Way::Fanfold | Way::FanfoldFor => {
            use fanfold::Fanfold;
            let two = source.par_map_ordered(n, work).par_map_ordered(n, work);
            let four = two.par_map_ordered(n, work).par_map_ordered(n, work);
            match way {
                Way::Fanfold => four.fold(0, add),
                _ => {
                    let mut all = 0;
                    for result in four {
                        all = add(all, result);
                    }
                    all
                }
            }
        }
        Way::Pariter => {
            use pariter::IteratorExt;
            let two = source
                .parallel_map_custom(|o| o.threads(n), work)
                .parallel_map_custom(|o| o.threads(n), work);
            digest(
                two.parallel_map_custom(|o| o.threads(n), work)
                    .parallel_map_custom(|o| o.threads(n), work),
            )
        }
        Way::Plmap => {
            use plmap::PipelineMap;
            let two = source.plmap(n, work).plmap(n, work);
            digest(two.plmap(n, work).plmap(n, work))
        }
        Way::Tokio => {
            use futures::StreamExt;
            let spawn = |item| tokio::spawn(async move { work(item) });
            let then = |before: Result<u64, _>| spawn(before.expect("no panic"));
            pools.tokio().block_on(async {
                let one = futures::stream::iter(source)
                    .map(spawn)
                    .buffered(WINDOW * n);
                let two = one.map(then).buffered(WINDOW * n);
                let three = two.map(then).buffered(WINDOW * n);
                let mut four = three.map(then).buffered(WINDOW * n);
                let mut all = 0;
                while let Some(result) = four.next().await {
                    all = add(all, result.expect("no panic"));
                }
                all
            })
        }
        _ => unreachable!("{way} does not chain"),
    }
}

/// A short loop over a slice in memory, into a `Vec`; for those that offer it.
pub fn short_loop(way: Way, pools: &Pools, items: &[u64], work: impl Work<u64>) -> Vec<u64> {
    match way {
        Way::Loop => items.iter().map(|item| work(*item)).collect(),
        Way::Split => {
            let (first, second) = items.split_at(items.len() / 2);
            let half = |half: &[u64]| -> Vec<u64> { half.iter().map(|item| work(*item)).collect() };
            std::thread::scope(|s| {
                let second = s.spawn(move || half(second));
                let mut all = half(first);
                all.extend(second.join().expect("no panic"));
                all
            })
        }
        Way::Fanfold => {
            let work = |item: &u64| Ok::<u64, std::convert::Infallible>(work(*item));
            let Ok(all) = fanfold::parallel_map(items, pools.width, work);
            all
        }
        Way::Chunks => {
            use rayon::prelude::*;
            let par = || items.par_iter().map(|item| work(*item)).collect();
            pools.rayon().install(par)
        }
        Way::Orx => {
            use orx_parallel::*;
            let par = items.par().num_threads(pools.width);
            par.map(|item| work(*item)).collect()
        }
        Way::Paralight => {
            use paralight::prelude::*;
            pools.paralight(|pool| {
                let par = items.par_iter().map(|item| work(*item));
                par.with_thread_pool(pool).collect()
            })
        }
        _ => unreachable!("{way} is not for slices"),
    }
}

/// One step of the digest, which tells results in another order apart.
pub fn add(all: u64, result: u64) -> u64 {
    all.wrapping_mul(31).wrapping_add(result)
}

pub fn digest(results: impl IntoIterator<Item = u64>) -> u64 {
    results.into_iter().fold(0, add)
}
