//! Stages can be named, stored, boxed, returned and sent as far as their parts can.

#![allow(clippy::redundant_closure_for_method_calls)] // a closure over borrowed items is the point

mod support;

use fanfold::{
    Aggregate, Broadcast, ByKey, CancelToken, Cancelled, Dropped, Everyone, Failure, Fanfold,
    Filter, Group, Halves, Late, Local, Map, OnCancel, Pool, PoolBuilder, Reader, Route, Scope,
    Skew, Sliding, SlidingAggregate, Split, Stage, Ways, Window, Workers,
};
use std::error::Error;
use std::fmt::Debug;
use std::hash::Hash;
use std::iter::FusedIterator;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use support::{SOON, within};

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
fn the_plain_types_are_as_free_as_can_be() {
    is_shared::<CancelToken>();
    is_shared::<OnCancel>();
    is_shared::<Pool>();
    is_shared::<PoolBuilder>();
    is_shared::<Workers>();
    is_shared::<Failure>();
    is_shared::<Cancelled>();
    is_copied::<Workers>();
    is_copied::<Cancelled>();
    is_copied::<Late>();
    is_cloned::<CancelToken>();
    is_cloned::<Pool>();
    is_cloned::<PoolBuilder>();
    is_cloned::<Local<Range<u8>>>();
    is_cloned::<Window<Range<u8>>>();
    is_cloned::<Aggregate<Range<u8>, u8, fn() -> u8, fn(u8, u8) -> u8>>();
    is_cloned::<Sliding<Range<u8>>>();
    is_cloned::<SlidingAggregate<Range<u8>, fn() -> u8, fn(u8, u8) -> u8>>();
    is_error::<Failure>();
    is_error::<Cancelled>();
    is_error::<Late>();
    is_unwind_safe::<Failure>();
    is_unwind_safe::<Cancelled>();
    is_unwind_safe::<Workers>();
}

#[cfg(feature = "throttle")]
#[test]
fn limiters_are_as_free_as_can_be() {
    use fanfold::testing::ManualClock;
    use fanfold::{Clock, Limit, Limiter, Rate, Sleeper, Throttle};
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
    stage: Stage<Range<u64>, Map<F>>,
    boxed: Box<dyn Iterator<Item = u64> + Send>,
}

fn held<F: Fn(u64) -> u64 + Send + Sync + 'static>(f: F) -> Holder<F> {
    Holder {
        stage: (0..9).par_map_ordered(2, f),
        boxed: Box::new((0..9).par_map_ordered(2, |x| x + 1)),
    }
}

type Sums = ByKey<Range<u64>, fn(&u64) -> u64, fn(u64) -> u64>;

#[test]
fn what_runs_by_key_can_be_named_and_sent_also_while_it_runs() {
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
    stage: Stage<std::vec::IntoIter<u64>, Even>,
    local: Stage<Local<Numbers>, Next>,
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

type Lens<'a, F> = Stage<std::slice::Iter<'a, String>, Map<F>>;

fn borrowed<'a>(
    docs: &'a [String],
    needle: &'a str,
) -> Lens<'a, impl Fn(&'a String) -> usize + Send + Sync + use<'a>> {
    docs.iter()
        .par_map_ordered(2, move |d| d.matches(needle).count())
}

#[test]
fn fan_outs_go_where_their_parts_go() {
    type Even = fn(&u8) -> bool;
    type Way = fn(&u8) -> usize;
    fn sends<T: Send>() {}
    is_shared::<Broadcast<Range<u8>>>();
    is_shared::<Split<Range<u8>, Even>>();
    is_shared::<Route<Range<u8>, Way>>();
    is_shared::<Dropped>();
    is_cloned::<Broadcast<Range<u8>>>();
    is_cloned::<Split<Range<u8>, Even>>();
    is_cloned::<Route<Range<u8>, Way>>();
    is_cloned::<Dropped>();
    is_copied::<Skew>();
    sends::<Reader<Range<u8>, Everyone>>();
    sends::<Reader<Range<u8>, Halves<Even>>>();
    sends::<Reader<Range<u8>, Ways<Way>>>();
    sends::<Reader<std::slice::Iter<'_, String>, Everyone>>();
    for mut reader in (0..3_u8).broadcast(2).readers() {
        is_static(&reader);
        is_unpin(&reader);
        is_debug(&reader);
        is_debug(&reader.next());
    }
    is_debug(&(0..3_u8).broadcast(2));
    // a reader can be kept, and boxed
    let (even, odd) = (0..9_u8).split((|x| x % 2 == 0) as Even).pair();
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

#[test]
fn stages_are_fused_and_one_to_one_stages_know_their_length() {
    let source = || 0..10_u32;
    let map = source().par_map_ordered(2, |x| x);
    let init = source().par_map_ordered_init(2, || (), |(), x| x);
    let isolated = source().par_map(2, |x| x).isolate();
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
fn all_that_can_be_held_can_be_printed() {
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
        let result = fanfold::group(2, |g: &Group<'_, '_, ()>| is_debug(g));
        assert_eq!(result, Ok(()));
    });
}
