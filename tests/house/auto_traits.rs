//! Stages can be named, stored, boxed, returned and sent as far as their parts can.

#![allow(clippy::redundant_closure_for_method_calls)] // a closure over borrowed items is the point

use crate::support::{SOON, within};
use fanfold::{
    CancelToken, Cancelled, DropCount, Fanfold, Group, ItemError, NotReady, Overflow, Permit,
    Permits, Plan, Pool, PoolBuilder, PushMapOrdered, Reader, Scope, Stage, TryPushMapOrdered,
    Workers,
    batches::{Aggregate, Sliding, SlidingAggregate, Window},
    cancel::CancelHook,
    fan_out::{Broadcast, ByPredicate, ByRoute, PartitionReaders, Route, ToAll},
    push_map_ordered,
    stage::{Filter, Keyed, Local, Map, Par},
    try_push_map_ordered,
};
use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::hash::Hash;
use std::io;
use std::iter::FusedIterator;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};

fn is_send<T: Send>(_: &T) {}
fn is_static<T: 'static>(_: &T) {}
fn is_unpin<T: Unpin>(_: &T) {}
fn is_fused<T: FusedIterator>(_: &T) {}
fn is_exact<T: ExactSizeIterator>(_: &T) {}
fn is_debug<T: Debug>(_: &T) {}

fn is_shared<T: Send + Sync + 'static>() {}
fn is_copied<T: Copy + Eq + Hash + Debug>() {}
fn is_cloned<T: Clone + Debug>() {}
fn is_error<T: Error + Clone + PartialEq + Send + Sync + 'static>() {}
fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}

#[test]
fn plain_types_have_every_trait_they_can() {
    is_shared::<CancelToken>();
    is_shared::<CancelHook>();
    is_shared::<Permit>();
    is_shared::<Permits>();
    is_shared::<Pool>();
    is_shared::<PoolBuilder>();
    is_shared::<Workers>();
    is_shared::<ItemError>();
    is_shared::<Cancelled>();
    is_copied::<Workers>();
    is_copied::<Cancelled>();
    is_copied::<NotReady>();
    is_cloned::<CancelToken>();
    is_cloned::<Permits>();
    is_cloned::<Pool>();
    is_cloned::<PoolBuilder>();
    is_cloned::<Local<Range<u8>>>();
    is_cloned::<Window<Range<u8>>>();
    is_cloned::<Aggregate<Range<u8>, u8, fn() -> u8, fn(u8, u8) -> u8>>();
    is_cloned::<Sliding<Range<u8>>>();
    is_cloned::<SlidingAggregate<Range<u8>, fn() -> u8, fn(u8, u8) -> u8>>();
    is_error::<ItemError>();
    is_error::<Cancelled>();
    is_error::<NotReady>();
    is_unwind_safe::<ItemError>();
    is_unwind_safe::<Cancelled>();
    is_unwind_safe::<Workers>();
}

#[cfg(feature = "throttle")]
#[test]
fn limiters_have_every_trait_they_can() {
    use fanfold::testing::ManualClock;
    use fanfold::{
        Limiter, Rate,
        limiter::{Clock, Limit, Sleeper, Throttle},
    };
    is_shared::<Limiter>();
    is_shared::<Limit>();
    is_shared::<Rate>();
    is_shared::<Sleeper>();
    is_shared::<ManualClock>();
    is_shared::<Box<dyn Clock>>();
    is_shared::<Throttle<Range<u8>>>();
    is_cloned::<Limiter>();
    is_cloned::<Limit>();
    is_cloned::<Rate>();
    is_cloned::<Sleeper>();
    is_cloned::<ManualClock>();
    is_cloned::<Throttle<Range<u8>>>();
    is_exact(&(0..3_u8).throttle(1));
}

struct Holder<F: Fn(u64) -> u64 + Send + Sync> {
    stage: Stage<Par<Range<u64>, Map<F>>>,
    boxed: Box<dyn Iterator<Item = u64> + Send>,
}

fn held<F: Fn(u64) -> u64 + Send + Sync + 'static>(f: F) -> Holder<F> {
    Holder {
        stage: (0..9).par_map_ordered(2, f),
        boxed: Box::new((0..9).par_map_ordered(2, |x| x + 1)),
    }
}

type Sums = Stage<Keyed<Range<u64>, fn(&u64) -> u64, Map<fn(u64) -> u64>>>;

#[test]
fn a_keyed_stage_can_be_named_and_sent_also_while_running() {
    within(SOON, || {
        let key: fn(&u64) -> u64 = |x| x % 3;
        let f: fn(u64) -> u64 = |x| x + 1;
        let mut sums: Sums = (0..10).par_map_by_key(2, key, f);
        is_send(&sums);
        is_static(&sums);
        is_unpin(&sums);
        is_fused(&sums);
        is_debug(&sums);
        assert!(sums.next().is_some());
        let rest = std::thread::spawn(move || sums.count());
        assert_eq!(rest.join().ok(), Some(9));
        let local = (0..10).local().par_map_by_key(2, key, f);
        is_fused(&local);
        is_debug(&local);
        fanfold::scope(|s| is_fused(&(0..3).par_map_by_key(2, key, f).within(s)));
    });
}

type Numbers = Box<dyn Iterator<Item = u64>>;

type Even = Filter<fn(&u64) -> bool>;
type Next = Map<fn(u64) -> u64>;

struct Plain {
    stage: Stage<Par<std::vec::IntoIter<u64>, Even>>,
    local: Stage<Par<Local<Numbers>, Next>>,
}

#[test]
fn a_stage_can_be_named_and_stored() {
    within(SOON, || {
        let holder = held(|x| x * 2);
        is_send(&holder.stage);
        is_static(&holder.stage);
        is_unpin(&holder.stage);
        assert_eq!(
            holder.stage.sum::<u64>() + holder.boxed.sum::<u64>(),
            72 + 45
        );
        let even: fn(&u64) -> bool = |x| x % 2 == 0;
        let next: fn(u64) -> u64 = |x| x + 1;
        let numbers: Numbers = Box::new(0..3);
        let plain = Plain {
            stage: vec![1, 2].into_iter().par_filter(2, even),
            local: numbers.local().par_map_ordered(2, next),
        };
        is_send(&plain.stage);
        is_unpin(&plain.local);
        assert_eq!(plain.stage.count() + plain.local.count(), 4);
    });
}

type Size = fn(Vec<u8>) -> usize;

/// As a field of a writer: with a function, or with a closure that captures.
struct Writer {
    sizes: PushMapOrdered<Vec<u8>, Size>,
    boxed: PushMapOrdered<u8, Box<dyn Fn(u8) -> u8 + Send + Sync>>,
    fallible: TryPushMapOrdered<u8, fn(u8) -> io::Result<u8>>,
}

#[test]
fn a_stage_that_is_pushed_into_can_be_named_and_stored() {
    within(SOON, || {
        let more = 2;
        let mut writer = Writer {
            sizes: push_map_ordered(2, |block| block.len()),
            boxed: push_map_ordered(2, Box::new(move |x| x + more)),
            fallible: try_push_map_ordered(2, Ok),
        };
        is_send(&writer.sizes);
        is_static(&writer.sizes);
        is_unpin(&writer.boxed);
        is_debug(&writer.fallible);
        is_debug(&writer.sizes.push(vec![0]));
        let shared = &writer.sizes;
        std::thread::scope(|s| _ = s.spawn(move || shared.size_hint()));
        assert_eq!(writer.sizes.finish().sum::<usize>(), 1);
        assert_eq!(
            writer.boxed.push(1).chain(None).count() + writer.boxed.count(),
            1
        );
        assert!(writer.fallible.finish().next().is_none());
    });
}

fn generic<S>(source: S) -> impl Iterator<Item = u64> + Send
where
    S: Iterator<Item = u64> + Send + 'static,
{
    source
        .par_map_ordered(2, |x| x + 1)
        .par_filter(2, |x| x % 2 == 0)
        .fuse()
}

fn more_generic<T: Send + 'static, O: Send + 'static>(
    source: impl IntoIterator<Item = T, IntoIter: Send + 'static>,
    f: impl Fn(T) -> O + Send + Sync + 'static,
) -> impl Iterator<Item = Option<O>> + Send {
    let stage = source.into_iter().par_map_ordered(2, f);
    stage.isolate().map(Result::ok)
}

#[test]
fn a_stage_can_be_returned() {
    within(SOON, || {
        let stage = generic(0..10);
        is_send(&stage);
        assert_eq!(stage.count(), 5);
        assert_eq!(more_generic(vec![1, 2], |x| x).flatten().count(), 2);
    });
}

type Lens<'a, F> = Stage<Par<std::slice::Iter<'a, String>, Map<F>>>;

fn borrowed<'a>(
    docs: &'a [String],
    needle: &'a str,
) -> Lens<'a, impl Fn(&'a String) -> usize + Send + Sync + use<'a>> {
    docs.iter()
        .par_map_ordered(2, move |d| d.matches(needle).count())
}

#[test]
fn fan_outs_have_the_auto_traits_of_their_parts() {
    type Even = fn(&u8) -> bool;
    type Way = fn(&u8) -> usize;
    fn sends<T: Send>() {}
    is_shared::<Broadcast<Range<u8>>>();
    is_shared::<PartitionReaders<Range<u8>, Even>>();
    is_shared::<Route<Range<u8>, Way>>();
    is_shared::<DropCount>();
    is_cloned::<Broadcast<Range<u8>>>();
    is_cloned::<PartitionReaders<Range<u8>, Even>>();
    is_cloned::<Route<Range<u8>, Way>>();
    is_cloned::<DropCount>();
    is_copied::<Overflow>();
    sends::<Reader<Range<u8>, ToAll>>();
    sends::<Reader<Range<u8>, ByPredicate<Even>>>();
    sends::<Reader<Range<u8>, ByRoute<Way>>>();
    sends::<Reader<std::slice::Iter<'_, String>, ToAll>>();
    for mut reader in (0..3_u8).broadcast(2).readers() {
        is_static(&reader);
        is_unpin(&reader);
        is_debug(&reader);
        is_debug(&reader.next());
    }
    is_debug(&(0..3_u8).broadcast(2));
    // a reader can be kept, and boxed
    let (even, odd) = (0..9_u8).partition_readers((|x| x % 2 == 0) as Even).pair();
    let boxed: [Box<dyn Iterator<Item = u8> + Send>; 2] = [Box::new(even), Box::new(odd)];
    assert!(
        boxed
            .into_iter()
            .map(|reader| reader.take(2).count())
            .eq([2, 2])
    );
}

#[test]
fn a_borrowed_stage_can_be_returned_and_sent() {
    within(SOON, || {
        let docs: Vec<String> = (0..20).map(|i| format!("d{i} needle")).collect();
        let stage = borrowed(&docs, "needle");
        is_send(&stage);
        assert_eq!(stage.sum::<usize>(), 20);
        let stage = docs.iter().par_map_ordered(2, |d| d.len());
        let count = std::thread::scope(|s| s.spawn(|| stage.count()).join());
        assert_eq!(count.ok(), Some(20));
    });
}

#[test]
fn a_running_stage_can_be_sent() {
    within(SOON, || {
        let mut stage = (0..10_u64).par_map_ordered(2, |x| x);
        assert_eq!(stage.next(), Some(0));
        is_send(&stage);
        let rest = std::thread::spawn(move || stage.count());
        assert_eq!(rest.join().ok(), Some(9));
    });
}

/// What it pulls and runs need not be `Sync`.
#[test]
fn a_stage_can_be_shared() {
    fn look<P: Plan>(stage: &Stage<P>)
    where
        Stage<P>: Sync,
    {
        let look = || {
            assert!(format!("{stage:?}").contains("Stage"));
            assert!(!stage.is_cut_short());
        };
        std::thread::scope(|s| {
            [s.spawn(look), s.spawn(look)].map(|look| look.join().expect("no panic"))
        });
    }
    within(SOON, || {
        let one = Cell::new(1);
        let source = std::iter::repeat_with(move || one.replace(one.get() + 1));
        let mut stage = source.par_map_ordered(2, |x: u64| Cell::new(x * 10));
        look(&stage);
        let first = stage.next().map(Cell::into_inner);
        look(&stage);
        assert_eq!(
            (first, stage.next().map(Cell::into_inner)),
            (Some(10), Some(20))
        );
    });
}

#[test]
fn stages_are_fused_and_one_to_one_stages_know_their_length() {
    let source = || 0..10_u32;
    let map = source().par_map_ordered(2, |x| x);
    let init = source().par_map_ordered_init(2, || (), |(), x| x);
    let isolated = source().par_map_unordered(2, |x| x).isolate();
    is_exact(&map);
    is_exact(&init);
    is_exact(&isolated);
    is_fused(&map);
    is_fused(&source().par_filter(2, |_| true));
    is_fused(&source().par_filter_map(2, Some));
    is_fused(&source().par_flat_map(2, |x| [x]));
    is_fused(&source().try_par_map_ordered(2, Ok::<_, ()>));
    is_fused(&source().window(2));
    is_exact(&source().window(2));
    is_fused(&source().window(2).sliding(1));
    is_exact(&source().window(2).sliding(1));
    is_fused(&source().window(2).sliding(1).aggregate(|| 0, |a, x| a + x));
    is_exact(&source().window(2).sliding(1).aggregate(|| 0, |a, x| a + x));
    assert_eq!((map.len(), init.len(), isolated.len()), (10, 10, 10));
}

#[test]
fn every_type_that_users_hold_is_debug() {
    within(SOON, || {
        let mut stage = (0..10_u64).par_map_ordered(2, |x| x).named("printed");
        assert!(format!("{stage:?}").contains("printed"));
        assert_eq!(stage.next(), Some(0));
        assert!(format!("{stage:?}").contains("printed"));
        assert_eq!(stage.by_ref().count(), 9);
        is_debug(&stage);
        is_debug(&(0..3).local());
        is_debug(&(0..3).window(2));
        is_debug(&(0..3).window(2).sliding(1));
        is_debug(&CancelToken::new());
        is_debug(&Pool::global());
        fanfold::scope(|s: &Scope<'_, '_>| {
            is_debug(s);
            is_debug(&(0..3).par_map_ordered(2, |x: u8| x).within(s));
        });
        let result = fanfold::group(2, |g: &Group<'_, '_, ()>| {
            is_debug(g);
            is_debug(&g.spawn(|| Ok(1)));
        });
        assert_eq!(result, Ok(()));
    });
}

#[cfg(all(
    feature = "throttle",
    feature = "percentile",
    feature = "crossbeam-channel",
    feature = "metrics",
    feature = "rayon"
))]
mod pinned {
    use fanfold::batches::*;
    use fanfold::cancel::CancelHook;
    use fanfold::fan_in::*;
    use fanfold::fan_out::*;
    use fanfold::from_rayon::*;
    use fanfold::hedge::*;
    use fanfold::limiter::*;
    use fanfold::stage::*;
    use fanfold::stats::*;
    use fanfold::testing::ManualClock;
    use fanfold::worklist::*;
    use fanfold::{
        CancelToken, Cancelled, DropCount, Group, ItemError, NotReady, Overflow, Permit, Permits,
        Pool, PoolBuilder, Recv, StageStats, Task, Workers,
    };
    use std::collections::BTreeSet;
    use std::marker::PhantomData;
    use std::ops::Range;
    use std::panic::{RefUnwindSafe, UnwindSafe};

    type Far = Range<u8>;
    type Near = Box<dyn Iterator<Item = u8>>;
    type Next = fn(u8) -> u8;
    type Keep = fn(&u8) -> bool;
    type Key = fn(&u8) -> usize;
    type Order = fn(&usize, &usize) -> std::cmp::Ordering;
    type Replicas = std::vec::IntoIter<Replica<'static, u8, u8>>;

    /// `IS` is the inherent constant where the bound holds, and otherwise that of the trait, as an inherent
    /// one comes first.
    struct Probe<T: ?Sized, const WHICH: u8>(PhantomData<T>);

    trait Not {
        const IS: bool = false;
    }

    impl<T: ?Sized, const WHICH: u8> Not for Probe<T, WHICH> {}

    impl<T: ?Sized + Send> Probe<T, 0> {
        const IS: bool = true;
    }

    impl<T: ?Sized + Sync> Probe<T, 1> {
        const IS: bool = true;
    }

    impl<T: ?Sized + Unpin> Probe<T, 2> {
        const IS: bool = true;
    }

    impl<T: ?Sized + UnwindSafe> Probe<T, 3> {
        const IS: bool = true;
    }

    impl<T: ?Sized + RefUnwindSafe> Probe<T, 4> {
        const IS: bool = true;
    }

    macro_rules! pinned {
        ($($type:ty => $traits:literal,)*) => {
            [$((
                stringify!($type),
                [
                    ("Send", <Probe<$type, 0>>::IS),
                    ("Sync", <Probe<$type, 1>>::IS),
                    ("Unpin", <Probe<$type, 2>>::IS),
                    ("UnwindSafe", <Probe<$type, 3>>::IS),
                    ("RefUnwindSafe", <Probe<$type, 4>>::IS),
                ],
                $traits,
            ),)*]
        };
    }

    /// The parts have every auto trait themselves, except `Near`. A change here breaks programs.
    #[test]
    #[allow(clippy::too_many_lines)] // a list
    fn the_auto_traits_of_every_public_type() {
        let types = pinned! {
            BatchesByAgePlan<Far, fn() -> u8, fn(u8, u8) -> u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Aggregate<Far, u8, fn() -> u8, fn(u8, u8) -> u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            InFlightWeight<Map<Next>, Keep> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            ParkedWeight<Map<Next>, Keep> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Pushed<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            TryPush<Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Ready<'static, u8, Map<Next>> => "Send Sync Unpin RefUnwindSafe",
            ReadyChunksPlan<Far> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            ReadaheadPlan<Far> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            BudgetedWorklist<u8> => "Send Unpin UnwindSafe RefUnwindSafe",
            Isolating<Raising> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Ordered<rayon::range::Iter<u8>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Raising => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Recv<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Bottleneck => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            ConsumerTime => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Engine => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            HeadItem => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Hedges => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Interval => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            ItemTimes => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Snapshot => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            StageStats => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            StageTime => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Times => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Weight => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            WidthReason => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            CancelToken => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Cancelled => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Chained<Par<Far, Map<Next>>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            DropCount => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Task<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            ToAll => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            BudgetExhausted => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            ItemError => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Fanout<Far, ToAll> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Worklist<u8> => "Send Unpin UnwindSafe RefUnwindSafe",
            Filter<Keep> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            FilterMap<Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Flat<Far, FlatMap<Next>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            IsolatedFlat<FlatMap<Next>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            TryFlatMap<Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            FlatMap<Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Group<'static, 'static, u8> => "Send Sync Unpin RefUnwindSafe",
            ByPredicate<Keep> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Hedge<Replicas> => "Send Unpin",
            HedgeError<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            HedgePolicy => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Request => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            HedgeStats => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Init<fn(), Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Isolated<Map<Next>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Keyed<Far, Key, Map<Next>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            NotReady => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            WorkItem<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Limit => "Send Sync Unpin",
            Limiter => "Send Sync Unpin",
            Local<Far> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Map<Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            MergeHandle<'static, u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            MergeReport => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            MergePlan<'static, u8> => "Send Unpin",
            MetricsPublisher => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            CancelHook => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Overflow => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Par<Far, Map<Next>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Permit => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Permits => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Pool => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            PoolBuilder => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Rate => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Reader<Far, ToAll> => "Send Unpin UnwindSafe RefUnwindSafe",
            PushError<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            ReplicaError<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            RoundRobinPlan<Far> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Scope<'static, 'static> => "Send Sync Unpin RefUnwindSafe",
            Scoped<'static, ReadaheadPlan<Far>> => "Send Sync Unpin RefUnwindSafe",
            Sleeper => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Sliding<Far> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            SlidingAggregate<Far, fn() -> u8, fn(u8, u8) -> u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            MergeSortedPlan<Far, Key, Order> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            SourceOptions => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Stage<ReadaheadPlan<Far>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Stage<Par<Far, Map<Next>>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Throttle<Far> => "Send Sync Unpin",
            Pusher<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            TryFilter<Keep> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            TryFilterMap<Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            TryInit<fn(), Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Outputs<'static, Par<Far, Map<Next>>> => "Send Sync Unpin RefUnwindSafe",
            TryMap<Next> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Unsorted<u8> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            WaitingHedge<Replicas> => "Send Unpin",
            ByRoute<Key> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Window<Far> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Workers => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            WorkersHandle => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Local<Near> => "Unpin",
            Stage<MergePlan<'static, u8>> => "Send Sync Unpin UnwindSafe RefUnwindSafe",
            Stage<Par<Local<Near>, Map<Next>>> => "Unpin UnwindSafe RefUnwindSafe",
            ManualClock => "Send Sync Unpin UnwindSafe RefUnwindSafe",
        };
        let mut wrong = Vec::new();
        for (name, is, want) in types {
            let has: Vec<_> = is
                .iter()
                .filter(|(_, is)| *is)
                .map(|(name, _)| *name)
                .collect();
            if has.join(" ") != want {
                wrong.push(format!("{name} => {:?},", has.join(" ")));
            }
        }
        assert!(
            wrong.is_empty(),
            "other than agreed on:\n{}",
            wrong.join("\n")
        );

        let list = include_str!("api.txt")
            .lines()
            .filter_map(|line| line.split_once(": "));
        let public = list
            .filter(|(_, what)| what.starts_with("struct") || what.starts_with("enum"))
            .map(|(name, _)| name.rsplit("::").next().unwrap_or(name));
        let name = |name: &'static str| name.split(['<', ' ']).next().unwrap_or(name);
        let pinned = types.iter().map(|(of, ..)| name(of));
        let (public, pinned): (BTreeSet<_>, BTreeSet<_>) = (public.collect(), pinned.collect());
        assert_eq!(pinned, public, "every public type is to be in the list");
    }
}
