//! Every adaptor against its sequential twin, and against the laws of an iterator.
//!
//! A case is eight small numbers: the length, the width, the bound, the delays, what the source claims
//! about its length, the faults and their places, and when the consumer stops. From it a stage and its
//! twin are built several times, each in its own [`World`], which counts the values, pulls and calls. The
//! laws are in [`laws`]. `faults.rs` covers the moments at which a fault can strike, `stress.rs` chains of
//! adaptors.

#![allow(
    clippy::result_large_err,       // the error is an item, which counts its drops
    clippy::needless_pass_by_value, // what comes out is dropped there
    clippy::verbose_bit_mask,       // a pair of bits, like the others
    clippy::redundant_closure       // the closure must borrow
)]

mod support;

use fanfold::{
    CancelToken, Cancelled, Fanfold, HedgePolicy, ItemError, Merge, Parallel, Permits, Plan, Pool,
    SourceOptions, Stage, push_map_ordered, testing,
};
use quickcheck::{QuickCheck, quickcheck};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::iter::Fuse;
use std::num::Wrapping;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;
use support::{
    Counter, Ledger, SOON, Tracked, bang, caught, dawdle, mix, payload, pushing, within,
};

const LONG: Duration = Duration::from_secs(3_600);

/// Plain numbers, which shrink by themselves.
type Raw = (u8, u8, u8, u8, u8, u8, u8, u8);

/// The payload of a closure that panics; that of a source says where it was.
const CLOSURE: u64 = 1_000;
/// The payload of an item's drop.
const DROP: u64 = 10_000;

/// One case, read out of its numbers.
#[derive(Clone, Copy, Debug)]
struct Case {
    len: u64,
    n: usize,
    bound: Option<usize>,
    /// The numbers of an adaptor: the size of a window, how many sources.
    size: usize,
    step: usize,
    /// Slow or not, eager or not, with threads or without.
    seed: u64,
    fault: Fault,
    hint: Hint,
    /// The consumer stops after this many.
    stop: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The closure panics at this item.
    Closure(u64),
    /// The source panics in the place of this item.
    Source(u64),
    /// The source yields after its end.
    GoesOn,
}

/// What a source claims about its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    True,
    Unknown,
    TooLow,
    TooHigh,
    Absurd,
}

impl Case {
    fn new((len, n, bound, size, seed, fault, hint, stop): Raw) -> Self {
        let len = u64::from(len % 40);
        let at = u64::from(fault / 8) % (len + 2);
        Case {
            len,
            n: 1 + usize::from(n % 5),
            bound: match usize::from(bound % 16) {
                0..4 => None,
                k => Some(k - 3),
            },
            size: 1 + usize::from(size % 7),
            step: 1 + usize::from(size / 7 % 9),
            seed: u64::from(seed),
            fault: match fault % 8 {
                0..4 => Fault::None,
                4 => Fault::GoesOn,
                5 => Fault::Closure(at),
                _ => Fault::Source(at),
            },
            hint: match hint % 8 {
                0..4 => Hint::True,
                4 => Hint::Unknown,
                5 => Hint::TooLow,
                6 => Hint::TooHigh,
                _ => Hint::Absurd,
            },
            stop: usize::from(stop % 48),
        }
    }

    /// Where a fallible closure fails; often nowhere.
    fn error(&self) -> u64 {
        mix(self.seed) % (2 * self.len + 1)
    }

    /// Whether the source tells the truth about its length.
    fn is_honest(&self) -> bool {
        matches!(self.hint, Hint::True | Hint::Unknown)
    }

    /// A pool without threads: none can have a stack of three quarters of the address space.
    fn pool(&self) -> Option<Pool> {
        (self.seed % 8 == 7).then(|| Pool::builder().stack_size(usize::MAX / 4 * 3).build())
    }
}

// ---- the parts of a run

/// What one run counts and observes.
#[derive(Clone, Debug, Default)]
struct World {
    ledger: Ledger,
    ids: Arc<AtomicU64>,
    /// Items that sources gave.
    pulls: Counter,
    /// Calls of closures and of `Clone`.
    calls: Counter,
    /// Whether a source was asked after its end.
    misuse: Counter,
    /// Whether anything takes its time.
    slow: bool,
    token: Option<CancelToken>,
    bombs: Bombs,
    /// The threads on which such drops panicked.
    bangs: Arc<Mutex<Vec<ThreadId>>>,
}

/// Which values panic when they are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bombs {
    /// Items and results: those whose value this divides.
    items: u64,
    results: u64,
    closure: bool,
    source: bool,
    state: bool,
}

impl World {
    /// For an adaptor that is to be tried.
    fn of(case: &Case) -> Self {
        World {
            slow: case.seed % 4 == 0,
            ..World::default()
        }
    }

    fn item(&self, value: u64, bomb: bool) -> Item {
        Item {
            value,
            bomb,
            _life: self.ledger.track(self.ids.fetch_add(1, Ordering::Relaxed)),
            world: self.clone(),
        }
    }

    fn source(&self, case: &Case) -> Origin {
        let panics = match case.fault {
            Fault::Source(at) => Some(at as usize),
            _ => None,
        };
        self.part(case, (0..case.len).collect(), panics)
    }

    fn part(&self, case: &Case, values: Vec<u64>, panics: Option<usize>) -> Origin {
        Origin {
            case: *case,
            values,
            next: 0,
            panics,
            over: false,
            _held: self.item(0, self.bombs.source),
            world: self.clone(),
        }
    }

    /// The work of each item: takes time, or panics; and returns the resulting value.
    fn work(&self, case: &Case, item: &Item) -> u64 {
        self.calls.add();
        if self.slow {
            dawdle(case.seed << 8 ^ item.value);
        }
        if case.fault == Fault::Closure(item.value) {
            bang(CLOSURE + item.value);
        }
        mix(case.seed ^ item.value << 8) % 1_000
    }

    /// What a closure holds.
    fn held(&self) -> Arc<Item> {
        Arc::new(self.item(0, self.bombs.closure))
    }

    fn map(&self, case: &Case) -> impl Fn(Item) -> Item + Send + Sync + use<> {
        let (world, case, held) = (self.clone(), *case, self.held());
        move |item| {
            let value = world.work(&case, &item) + held.value;
            let every = world.bombs.results;
            let bomb = every > 0 && item.value % every == 0;
            // The return value of a function is leaked if one of its locals' drops panics (rust #47949).
            drop(item);
            world.item(value, bomb)
        }
    }

    fn keep(&self, case: &Case) -> impl Fn(&Item) -> bool + Send + Sync + use<> {
        let (world, case, held) = (self.clone(), *case, self.held());
        move |item| world.work(&case, item) % 3 > held.value
    }

    fn keep_map(&self, case: &Case) -> impl Fn(Item) -> Option<Item> + Send + Sync + use<> {
        let map = self.map(case);
        move |item| Some(map(item)).filter(|item| item.value % 3 > 0)
    }

    /// The hint of one item's results is true, missing, or a lie.
    fn many(&self, case: &Case) -> impl Fn(Item) -> Many + Send + Sync + use<> {
        let (map, case) = (self.map(case), *case);
        move |item| {
            let item = map(item);
            let count = item.value % 4;
            Many { item, count, case }
        }
    }

    fn attempt(&self, case: &Case) -> impl Fn(Item) -> Result<Item, Item> + Send + Sync + use<> {
        let (map, error) = (self.map(case), case.error());
        move |item| {
            let at = item.value;
            let item = map(item);
            if at == error { Err(item) } else { Ok(item) }
        }
    }

    /// Everything is dropped exactly once, no stage is left, and no source was asked after its end.
    fn assert_over(&self) {
        self.ledger.assert_dropped_once();
        testing::assert_quiescent();
        assert_eq!(self.misuse.get(), 0, "a source was asked after its end");
    }
}

/// An item or a result, counted as long as it lives.
#[derive(Debug)]
struct Item {
    value: u64,
    bomb: bool,
    _life: Tracked,
    world: World,
}

impl Clone for Item {
    fn clone(&self) -> Self {
        self.world.calls.add();
        self.world.item(self.value, false)
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if self.bomb && !std::thread::panicking() {
            let mut bangs = self.world.bangs.lock().expect("not poisoned");
            bangs.push(std::thread::current().id());
            drop(bangs);
            bang(DROP + self.value);
        }
    }
}

/// A source with all its vices.
struct Origin {
    case: Case,
    values: Vec<u64>,
    next: usize,
    /// The value in whose place it panics.
    panics: Option<usize>,
    over: bool,
    _held: Item,
    world: World,
}

impl Iterator for Origin {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let Origin { case, world, .. } = self;
        if self.over {
            world.misuse.add();
            return (case.fault == Fault::GoesOn).then(|| world.item(999, false));
        }
        if world.slow {
            dawdle(case.seed << 16 ^ self.next as u64);
        }
        let panics = self.panics == Some(self.next);
        self.over = panics || self.next == self.values.len();
        if panics {
            bang(self.next as u64);
        }
        let value = *self.values.get(self.next)?;
        self.next += 1;
        world.pulls.add();
        let every = world.bombs.items;
        Some(world.item(value, every > 0 && value % every == 1 % every))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = if self.over {
            0
        } else {
            self.values.len() - self.next
        };
        match self.case.hint {
            Hint::True => (left, Some(left)),
            Hint::Unknown => (0, None),
            Hint::TooLow => (0, Some(left / 2)),
            Hint::TooHigh => (left + 9, Some(left + 9)),
            Hint::Absurd => (usize::MAX, Some(3)),
        }
    }
}

impl ExactSizeIterator for Origin {}

/// What `flat_map` gets for one item.
struct Many {
    item: Item,
    count: u64,
    case: Case,
}

impl Iterator for Many {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.count = self.count.checked_sub(1)?;
        Some(self.item.world.item(self.item.value + self.count, false))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count as usize;
        match self.case.hint {
            Hint::True => (left, Some(left)),
            Hint::Unknown | Hint::Absurd => (0, None),
            Hint::TooLow => (0, Some(left / 2)),
            Hint::TooHigh => (left + 9, Some(left + 9)),
        }
    }
}

/// A source that cannot leave its thread.
struct Homebody(Origin, Rc<Cell<u64>>);

impl Iterator for Homebody {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.1.set(self.1.get() + 1);
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// The content of an output, to be compared with the twin's.
trait Shown {
    fn show(&self) -> u64;
}

impl Shown for Item {
    fn show(&self) -> u64 {
        self.value
    }
}

impl Shown for u64 {
    fn show(&self) -> u64 {
        *self
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn show(&self) -> u64 {
        self.iter().fold(7, |seen, item| mix(seen ^ item.show()))
    }
}

impl<T: Shown, E: Shown> Shown for Result<T, E> {
    fn show(&self) -> u64 {
        match self {
            Ok(good) => good.show() << 1,
            Err(bad) => bad.show() << 1 | 1,
        }
    }
}

impl Shown for ItemError {
    fn show(&self) -> u64 {
        self.seq()
    }
}

// ---- the laws

/// What an adaptor promises.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// Whether the order is the twin's.
    ordered: bool,
    /// Whether `size_hint` is exact, if that of the source is.
    exact: bool,
    /// How many items may be pulled but not yet yielded.
    ahead: Option<usize>,
    /// Whether a panic ends it.
    ends: bool,
    /// Whether it ends early when a token is tripped.
    cancels: bool,
    /// Whether its hint never contradicts itself, whatever the source says.
    sober: bool,
}

impl Kind {
    fn stage(case: &Case) -> Self {
        Kind {
            ordered: true,
            exact: false,
            ahead: case.bound,
            ends: true,
            cancels: true,
            sober: true,
        }
    }

    fn exact(self) -> Self {
        Kind {
            exact: true,
            ..self
        }
    }

    fn unordered(self) -> Self {
        Kind {
            ordered: false,
            ..self
        }
    }

    /// Operators with threads of their own. A cancelled one yields what is buffered.
    fn fed(case: &Case) -> Self {
        Kind {
            ahead: None,
            ..Kind::stage(case)
        }
    }

    /// Operators that need no thread.
    fn plain(case: &Case) -> Self {
        Kind {
            ahead: None,
            ends: false,
            cancels: false,
            sober: false,
            ..Kind::stage(case)
        }
    }
}

/// What came out, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    values: Vec<u64>,
    panic: Option<u64>,
}

impl Seen {
    fn sorted(mut self) -> Self {
        self.values.sort_unstable();
        self
    }

    /// Takes all there is.
    fn all<T: Shown>(iter: &mut impl Iterator<Item = T>) -> Self {
        let mut seen = Seen::default();
        loop {
            match caught(|| iter.next()) {
                Ok(Some(output)) => seen.values.push(output.show()),
                Ok(None) => return seen,
                Err(id) => {
                    seen.panic = Some(id);
                    return seen;
                }
            }
        }
    }
}

/// Whether `part` is a sub-multiset of `whole`.
fn is_part(part: &[u64], whole: &[u64]) -> bool {
    let mut left = BTreeMap::new();
    for value in whole {
        *left.entry(value).or_insert(0) += 1;
    }
    part.iter().all(|value| {
        left.get_mut(value).is_some_and(|count| {
            *count -= 1;
            *count >= 0
        })
    })
}

/// Checks the laws of an iterator, and that ours agrees with its twin.
fn laws<A, B>(
    case: &Case,
    kind: Kind,
    ours: impl Fn(&World, Origin) -> A,
    twin: impl Fn(&World, Fuse<Origin>) -> B,
) where
    A: Iterator<Item: Shown>,
    B: Iterator<Item: Shown>,
{
    // The twin has an honest source: some adaptors of `std` believe the hints of theirs.
    let honest = Case {
        hint: Hint::True,
        ..*case
    };
    let sequential = || {
        let world = World::default();
        let source = world.source(&honest);
        twin(&world, source.fuse())
    };
    let make = |world: &World| ours(world, world.source(case));
    let want = Seen::all(&mut sequential());
    let taken_whole = whole(case, kind, &want, make);
    if kind.ordered {
        as_the_twin(case, make, sequential);
    } else if want.panic.is_none() {
        counts(case, &want, make);
    }
    stops_early(case, kind, &want, make);
    if kind.cancels && want.panic.is_none() {
        cancelled(case, kind, &taken_whole, make);
    }
}

/// One by one, to the end and beyond.
fn whole<A: Iterator<Item: Shown>>(
    case: &Case,
    kind: Kind,
    want: &Seen,
    make: impl Fn(&World) -> A,
) -> Seen {
    let world = World::of(case);
    let mut iter = make(&world);
    let mut hints = vec![iter.size_hint()];
    assert_eq!(
        (world.pulls.get(), world.calls.get()),
        (0, 0),
        "it was not lazy"
    );
    let mut seen = Seen::default();
    loop {
        match caught(|| iter.next()) {
            Ok(Some(output)) => seen.values.push(output.show()),
            Ok(None) => break,
            Err(id) => {
                seen.panic = Some(id);
                break;
            }
        }
        hints.push(iter.size_hint());
    }
    if seen.panic.is_none() || kind.ends {
        for _ in 0..3 {
            assert!(iter.next().is_none(), "`None` is final");
        }
        if kind.sober {
            assert_eq!(iter.size_hint(), (0, Some(0)));
        }
    }
    drop(iter);
    world.assert_over();
    assert_same(kind, &seen, want);
    for (left, (low, high)) in (0..hints.len()).zip(hints.into_iter().rev()) {
        if case.is_honest() && seen.panic.is_none() {
            assert_hint(left, (low, high));
        }
        if kind.exact && case.hint == Hint::True && seen.panic.is_none() {
            assert_eq!((low, high), (left, Some(left)), "the hint is not exact");
        }
        if kind.sober {
            assert!(high.is_none_or(|high| low <= high), "{low}, {high:?}");
        }
    }
    seen
}

fn assert_hint(left: usize, (low, high): (usize, Option<usize>)) {
    let fits = low <= left && high.is_none_or(|high| left <= high);
    assert!(fits, "from {low} to {high:?}, but {left} came");
}

/// Without an order a panic ends the stage when it arrives.
fn assert_same(kind: Kind, got: &Seen, want: &Seen) {
    if kind.ordered {
        assert_eq!(got, want);
    } else if want.panic.is_none() {
        assert_eq!(got.clone().sorted(), want.clone().sorted());
    } else {
        assert_eq!(got.panic, want.panic);
    }
}

/// All ways to take the outputs give the same.
fn as_the_twin<A, B>(case: &Case, make: impl Fn(&World) -> A, twin: impl Fn() -> B)
where
    A: Iterator<Item: Shown>,
    B: Iterator<Item: Shown>,
{
    fn tell<T: Shown>(output: T) -> u64 {
        output.show()
    }
    /// As `collect`, which panics at an absurd hint where std has its debug assertions.
    fn gather(iter: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut all = Vec::new();
        all.extend(iter);
        all
    }
    fn nth<I: Iterator<Item: Shown>>(mut iter: I, k: usize) -> (Option<u64>, Seen) {
        let first = iter.nth(k).map(tell);
        (first, Seen::all(&mut iter))
    }
    /// Some by `next`, the rest by `fold`.
    fn halves<I: Iterator<Item: Shown>>(mut iter: I, k: usize) -> Vec<u64> {
        let mut all = gather(iter.by_ref().take(k).map(tell));
        iter.for_each(|output| all.push(output.show()));
        all
    }
    let world = World::of(case);
    let make = || make(&world);
    let k = case.stop;
    assert_eq!(caught(|| nth(make(), k)), caught(|| nth(twin(), k)));
    assert_eq!(
        caught(|| Iterator::count(make())),
        caught(|| twin().count()),
        "count"
    );
    assert_eq!(
        caught(|| Iterator::last(make()).map(tell)),
        caught(|| twin().last().map(tell)),
        "last"
    );
    assert_eq!(
        caught(|| halves(make(), k)),
        caught(|| halves(twin(), k)),
        "next and fold"
    );
    assert_eq!(
        caught(|| halves(make().step_by(case.step), 2)),
        caught(|| halves(twin().step_by(case.step), 2)),
        "step_by"
    );
    assert_eq!(
        caught(|| gather(make().skip(k).take(5).map(tell))),
        caught(|| gather(twin().skip(k).take(5).map(tell))),
        "skip"
    );
    world.assert_over();
}

fn counts<A: Iterator<Item: Shown>>(case: &Case, want: &Seen, make: impl Fn(&World) -> A) {
    let world = World::of(case);
    let len = want.values.len();
    assert_eq!(Iterator::count(make(&world)), len);
    assert_eq!(Iterator::last(make(&world)).is_some(), len > 0);
    assert_eq!(make(&world).nth(case.stop).is_some(), len > case.stop);
    world.assert_over();
}

/// Drops it after some outputs.
fn stops_early<A: Iterator<Item: Shown>>(
    case: &Case,
    kind: Kind,
    want: &Seen,
    make: impl Fn(&World) -> A,
) {
    let world = World::of(case);
    let mut iter = make(&world);
    let got = Seen::all(&mut iter.by_ref().take(case.stop));
    drop(iter);
    world.assert_over();
    let cut = &want.values[..want.values.len().min(case.stop)];
    if kind.ordered {
        assert_eq!(got.values, cut);
    } else if want.panic.is_none() {
        assert_eq!(got.values.len(), cut.len());
        assert!(is_part(&got.values, &want.values));
    }
    if let Some(ahead) = kind.ahead {
        let pulls = world.pulls.get();
        // A filter yields fewer items than it gets; then only the total is a limit.
        let most = if kind.exact {
            case.stop + ahead
        } else {
            usize::MAX
        };
        assert!(pulls <= most, "{pulls} of {most} were admitted");
    }
}

/// A token is tripped after some outputs: a prefix comes, hints are true, and nothing is left.
fn cancelled<A: Iterator<Item: Shown>>(
    case: &Case,
    kind: Kind,
    want: &Seen,
    make: impl Fn(&World) -> A,
) {
    let token = CancelToken::new();
    let world = World {
        token: Some(token.clone()),
        ..World::of(case)
    };
    let mut iter = make(&world);
    let mut got = Seen::all(&mut iter.by_ref().take(case.stop));
    token.cancel();
    let mut hints = vec![iter.size_hint()];
    while let Some(output) = iter.next() {
        got.values.push(output.show());
        hints.push(iter.size_hint());
    }
    assert!(iter.next().is_none(), "`None` is final");
    drop(iter);
    world.assert_over();
    if case.is_honest() {
        for (left, hint) in hints.into_iter().rev().enumerate() {
            assert_hint(left, hint);
        }
    }
    if kind.ordered {
        assert!(want.values.starts_with(&got.values), "{got:?}");
    } else {
        assert!(is_part(&got.values, &want.values), "{got:?}");
    }
}

/// With values that panic when they are dropped: nothing hangs, everything is dropped exactly once, and
/// panics inside the stage are raised.
fn bombs<A: Iterator>(case: &Case, ours: impl Fn(&World, Origin) -> A) {
    bombs_in(case, |world| ours(world, world.source(case)));
}

fn bombs_in<A: Iterator>(case: &Case, make: impl Fn(&World) -> A) {
    let random = mix(case.seed);
    let every = |shift: u64| [0, 0, 1, 2, 5, 9][(random >> shift) as usize % 6];
    let world = World {
        bombs: Bombs {
            items: every(0),
            results: every(8),
            closure: random >> 16 & 3 == 0,
            source: random >> 18 & 3 == 0,
            state: random >> 20 & 3 == 0,
        },
        ..World::of(case)
    };
    let mut iter = make(&world);
    let (mut heard, mut own) = (0, 0);
    let mut left = case.stop;
    let ended = loop {
        if left == 0 {
            break false;
        }
        left -= 1;
        match payload(|| iter.next()) {
            Ok(None) => break true,
            // What the consumer drops is its own business.
            Ok(Some(output)) => own += usize::from(payload(|| drop(output)).is_err()),
            Err(_) => heard += 1,
        }
    };
    heard += usize::from(payload(|| drop(iter)).is_err());
    world.ledger.assert_dropped_once();
    testing::assert_quiescent();
    // A consumer that stops early does not get the panics it has not come to. Those happened on other
    // threads, if there are any.
    let (here, alone) = (std::thread::current().id(), case.pool().is_some());
    let bangs = world.bangs.lock().expect("not poisoned");
    let due = bangs
        .iter()
        .filter(|thread| ended || !alone && **thread == here);
    assert!(
        due.count() <= own || heard > 0,
        "of {bangs:?} nothing is heard"
    );
}

fn law(holds: fn(Raw) -> bool) {
    QuickCheck::new()
        .tests(std::env::var("LAWTESTS").map_or(40, |x| x.parse().unwrap()))
        .quickcheck(holds);
}

/// A case that hangs is a failure, and is not shrunk: each smaller one would take as long.
fn prompt(raw: Raw, holds: fn(&Case)) -> bool {
    thread_local!(static STUCK: Cell<bool> = const { Cell::new(false) });
    if STUCK.replace(true) {
        return true;
    }
    let good = payload(|| within(SOON, move || holds(&Case::new(raw))));
    if let Err(why) = good {
        let text = why.downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("stuck")) {
            eprintln!("{raw:?} hangs");
        } else {
            STUCK.set(false);
        }
        std::panic::resume_unwind(why);
    }
    STUCK.set(false);
    true
}

// ---- stages

/// A stage with the options of the case.
fn with<P: Parallel>(mut stage: Stage<P>, case: &Case, world: &World) -> Stage<P> {
    if let Some(k) = case.bound {
        stage = stage.in_flight(k);
    }
    if case.seed % 3 == 1 {
        stage = stage.eager();
    }
    // Of its own, and mostly fewer than it has workers.
    if case.seed % 5 == 2 {
        stage = stage.limited_by(&Permits::new(1 + case.seed as usize % 3));
    }
    with_common(stage, case, world)
}

/// With those options that every stage has.
fn with_common<P: Plan>(mut stage: Stage<P>, case: &Case, world: &World) -> Stage<P> {
    stage = stage.named("law");
    if let Some(pool) = case.pool() {
        stage = stage.on(&pool);
    }
    if let Some(token) = &world.token {
        stage = stage.cancel_on(token);
    }
    stage
}

#[test]
fn par_map_ordered_is_map() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                with(source.par_map_ordered(case.n, world.map(case)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.map(world.map(case));
            laws(case, Kind::stage(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn par_map_is_map_in_some_order() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                with(
                    source.par_map_unordered(case.n, world.map(case)),
                    case,
                    world,
                )
            };
            let twin = |world: &World, source: Fuse<Origin>| source.map(world.map(case));
            laws(case, Kind::stage(case).exact().unordered(), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn par_filter_is_filter() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                with(source.par_filter(case.n, world.keep(case)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.filter(world.keep(case));
            laws(case, Kind::stage(case), ours, twin);
            bombs(case, ours);
            let unordered = |world: &World, source: Origin| ours(world, source).unordered();
            laws(case, Kind::stage(case).unordered(), unordered, twin);
        })
    });
}

#[test]
fn par_filter_map_is_filter_map() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                with(
                    source.par_filter_map(case.n, world.keep_map(case)),
                    case,
                    world,
                )
            };
            let twin =
                |world: &World, source: Fuse<Origin>| source.filter_map(world.keep_map(case));
            laws(case, Kind::stage(case), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn par_flat_map_is_flat_map() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                with(source.par_flat_map(case.n, world.many(case)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.flat_map(world.many(case));
            laws(case, Kind::stage(case), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn par_map_ordered_init_is_map() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                let (f, maker) = (world.map(case), world.clone());
                let init = move || maker.item(0, maker.bombs.state);
                let stage = source.par_map_ordered_init(case.n, init, move |state, item| {
                    assert_eq!(state.value, 0);
                    f(item)
                });
                with(stage, case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.map(world.map(case));
            laws(case, Kind::stage(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

/// The sequential twin of a fallible stage.
fn until_error<T, E>(
    outputs: impl Iterator<Item = Result<T, E>>,
) -> impl Iterator<Item = Result<T, E>> {
    let mut outputs = Some(outputs);
    std::iter::from_fn(move || {
        let result = outputs.as_mut()?.next();
        if !matches!(result, Some(Ok(_))) {
            outputs = None;
        }
        result
    })
}

#[test]
fn try_par_map_ordered_is_map_up_to_the_first_error() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                with(
                    source.try_par_map_ordered(case.n, world.attempt(case)),
                    case,
                    world,
                )
            };
            let twin =
                |world: &World, source: Fuse<Origin>| until_error(source.map(world.attempt(case)));
            laws(case, Kind::stage(case), ours, twin);
            // A panic behind an error does not count.
            if case.error() >= case.len {
                bombs(case, ours);
            }
        })
    });
}

#[test]
fn try_par_filter_is_filter_up_to_the_first_error() {
    law(|raw| {
        prompt(raw, |case| {
            let keep = |world: &World| {
                let (keep, error, world) = (world.keep(case), case.error(), world.clone());
                move |item: &Item| match (keep(item), item.value == error) {
                    (_, true) => Err(world.item(error, false)),
                    (keep, _) => Ok(keep),
                }
            };
            let ours = |world: &World, source: Origin| {
                with(source.try_par_filter(case.n, keep(world)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| {
                let keep = keep(world);
                until_error(source.filter_map(move |item| match keep(&item) {
                    Ok(keep) => keep.then_some(Ok(item)),
                    Err(error) => Some(Err(error)),
                }))
            };
            laws(case, Kind::stage(case), ours, twin);
            if case.error() >= case.len {
                bombs(case, ours);
            }
        })
    });
}

#[test]
fn try_par_flat_map_is_flat_map_up_to_the_first_error() {
    law(|raw| {
        prompt(raw, |case| {
            let open = |world: &World| {
                let attempt = world.attempt(case);
                let many = world.many(case);
                move |item| attempt(item).map(|item| many(item).map(Ok))
            };
            let ours = |world: &World, source: Origin| {
                with(source.try_par_flat_map(case.n, open(world)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| {
                let open = open(world);
                let all = move |item| {
                    let (outputs, error) = match open(item) {
                        Ok(outputs) => (Some(outputs), None),
                        Err(error) => (None, Some(Err(error))),
                    };
                    outputs.into_iter().flatten().chain(error)
                };
                until_error(source.flat_map(all))
            };
            laws(case, Kind::stage(case), ours, twin);
        })
    });
}

#[test]
fn try_par_filter_map_is_filter_map_up_to_the_first_error() {
    law(|raw| {
        prompt(raw, |case| {
            let keep = |world: &World| {
                let attempt = world.attempt(case);
                move |item| attempt(item).map(|item| Some(item).filter(|item| item.value % 3 > 0))
            };
            let ours = |world: &World, source: Origin| {
                with(source.try_par_filter_map(case.n, keep(world)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| {
                let keep = keep(world);
                until_error(source.filter_map(move |item| keep(item).transpose()))
            };
            laws(case, Kind::stage(case), ours, twin);
            if case.error() >= case.len {
                bombs(case, ours);
            }
        })
    });
}

/// Without an error it is a `map` in some order; with one, that comes last.
#[test]
fn try_par_map_unordered_is_map_until_an_error_arrives() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                let stage = source.try_par_map_unordered(case.n, world.attempt(case));
                with(stage, case, world)
            };
            if case.error() >= case.len {
                let twin = |world: &World, source: Fuse<Origin>| source.map(world.attempt(case));
                laws(case, Kind::stage(case).unordered(), ours, twin);
                bombs(case, ours);
            } else {
                let world = World::of(case);
                let seen = payload(|| ours(&world, world.source(case)).collect::<Vec<_>>());
                let (before, last) = match seen.as_deref() {
                    Ok([before @ .., last]) => (before, last.is_err()),
                    Ok([]) => (&[][..], case.fault != Fault::None),
                    // The panic was first.
                    Err(_) => (&[][..], case.fault != Fault::None),
                };
                assert!(last && before.iter().all(Result::is_ok));
                drop(seen);
                world.assert_over();
            }
        })
    });
}

/// `init` fails for one of the workers, or for none: up to there it is a `map`.
#[test]
fn try_par_map_ordered_init_is_map_up_to_the_first_error() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin, fails: usize| {
                let (f, maker, inits) = (world.attempt(case), world.clone(), Counter::new());
                let init = move || {
                    let state = maker.item(0, maker.bombs.state);
                    if inits.add() == fails {
                        Err(state)
                    } else {
                        Ok(state)
                    }
                };
                let stage =
                    source
                        .try_par_map_ordered_init(case.n, init, move |_: &mut Item, item| f(item));
                with(stage, case, world)
            };
            let twin =
                |world: &World, source: Fuse<Origin>| until_error(source.map(world.attempt(case)));
            let whole = |world: &World, source: Origin| ours(world, source, usize::MAX);
            laws(case, Kind::stage(case), whole, twin);
            if case.error() >= case.len {
                bombs(case, whole);
            }
            let (world, sequential) = (World::of(case), World::default());
            let want = Seen::all(&mut twin(&sequential, sequential.source(case).fuse()));
            let mut stage = ours(&world, world.source(case), 1 + case.size % case.n);
            let mut seen = Seen::all(&mut stage);
            drop(stage);
            world.assert_over();
            // The place of a failed `init` depends on the run; that of anything else does not.
            if seen != want {
                // A state shows a zero, as an error.
                assert_eq!(seen.values.pop(), Some(Err::<Item, u64>(0).show()));
                assert!(want.values.starts_with(&seen.values));
            }
        })
    });
}

#[test]
fn par_for_each_is_for_each_in_some_order() {
    law(|raw| {
        prompt(raw, |case| {
            let run = |f: &mut dyn FnMut(&World, Origin, &Mutex<Vec<u64>>)| {
                let (world, seen) = (World::of(case), Mutex::default());
                let source = world.source(case);
                let panic = caught(|| f(&world, source, &seen)).err();
                world.assert_over();
                let values = seen.into_inner().expect("no panic while it is locked");
                Seen { values, panic }.sorted()
            };
            let put =
                |seen: &Mutex<Vec<u64>>, item: &Item| seen.lock().expect("so").push(item.value);
            let ours = run(&mut |world, source, seen| {
                let f = world.map(case);
                source.par_for_each(case.n, |item| put(seen, &f(item)));
            });
            let twin = run(&mut |world, source, seen| {
                let f = world.map(case);
                source.fuse().for_each(|item| put(seen, &f(item)));
            });
            assert_same(Kind::stage(case).unordered(), &ours, &twin);

            let tried = run(&mut |world, source, seen| {
                let f = world.attempt(case);
                let result = source.try_par_for_each(case.n, |item| {
                    let item = f(item)?;
                    put(seen, &item);
                    Ok(())
                });
                assert_eq!(result.is_err(), case.error() < case.len);
                drop::<Result<(), Item>>(result);
            });
            if case.fault == Fault::None || case.fault == Fault::GoesOn {
                assert!(is_part(&tried.values, &twin.values));
                assert_eq!(tried.panic, None);
            }
        })
    });
}

/// With an operation that is associative and commutative.
#[test]
fn par_fold_is_fold() {
    law(|raw| {
        prompt(raw, |case| {
            let (world, sequential) = (World::of(case), World::default());
            let ours = caught(|| {
                let (f, source) = (world.map(case), world.source(case));
                let add = |sum: Wrapping<u64>, item| sum + Wrapping(f(item).value);
                let init = || Wrapping(0);
                source.par_fold(case.n, init, add, |a, b| a + b)
            });
            world.assert_over();
            let twin = caught(|| {
                let (f, source) = (sequential.map(case), sequential.source(case).fuse());
                source.fold(Wrapping(0), |sum, item| sum + Wrapping(f(item).value))
            });
            assert_eq!(ours, twin);
        })
    });
}

#[test]
fn an_isolated_panic_is_a_value() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                with(source.par_map_ordered(case.n, world.map(case)), case, world).isolate()
            };
            let twin = |world: &World, source: Fuse<Origin>| {
                let f = world.map(case);
                let isolated = move |(seq, item)| caught(|| f(item)).map_err(|_| seq);
                (0_u64..).zip(source).map(isolated)
            };
            laws(case, Kind::stage(case).exact(), ours, twin);
            let raised =
                |result: Result<Item, ItemError>| result.unwrap_or_else(|why| bang(why.seq()));
            bombs(case, |world, source| ours(world, source).map(raised));
        })
    });
}

#[test]
fn a_time_limit_that_is_kept_changes_nothing() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                let stage = source.par_map_ordered(case.n, world.map(case));
                with(stage, case, world).item_timeout(LONG)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.map(world.map(case));
            laws(case, Kind::stage(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn a_copy_of_every_item_changes_nothing() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                let policy = HedgePolicy::after(Duration::ZERO).budget(1.0);
                let stage = source.par_map_ordered(case.n, world.map(case));
                with(stage, case, world).hedge_slow(&policy)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.map(world.map(case));
            laws(case, Kind::stage(case).exact(), ours, twin);
        })
    });
}

/// Some weigh nothing, and some more than the limit.
#[test]
fn bounds_in_weights_change_nothing() {
    law(|raw| {
        prompt(raw, |case| {
            let (limit, seed) = (case.size, case.seed);
            let weight = move |item: &Item| mix(item.value ^ seed) as usize % 10;
            let ours = |world: &World, source: Origin| {
                let stage = source.par_map_ordered(case.n, world.map(case));
                let stage = stage.in_flight_weight(limit, weight);
                with(stage.parked_weight(limit, weight), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.map(world.map(case));
            laws(case, Kind::stage(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn a_local_source_is_as_good() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                let stage = Homebody(source, Rc::default()).local();
                with(stage.par_map_ordered(case.n, world.map(case)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| source.map(world.map(case));
            laws(case, Kind::stage(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

/// The loop that pushes is the user's, so a panic of the source ends it where it is.
#[test]
fn a_pushed_stage_maps_what_is_pushed() {
    law(|raw| {
        prompt(raw, |case| {
            let twin = World::default();
            let want = Seen::all(&mut twin.source(case).fuse().map(twin.map(case)));
            twin.assert_over();
            let (world, mut got) = (World::of(case), Seen::default());
            let run = || {
                let mut stage = with(push_map_ordered(case.n, world.map(case)), case, &world);
                let mut source = world.source(case).fuse();
                for (place, item) in source.by_ref().enumerate() {
                    // Often all of them, or only some.
                    let most = match (case.seed >> 2) as usize + place {
                        x if x % 3 == 0 => x % 4,
                        _ => usize::MAX,
                    };
                    got.values
                        .extend(stage.push(item).take(most).map(|item| item.value));
                }
                for item in stage.finish() {
                    got.values.push(item.value);
                }
            };
            got.panic = caught(run).err();
            world.assert_over();
            match case.fault {
                Fault::Source(at) if at <= case.len => {
                    assert_eq!(got.panic, want.panic);
                    assert!(want.values.starts_with(&got.values));
                }
                _ => assert_eq!((got.values, got.panic), (want.values, want.panic)),
            }
        })
    });
}

/// Driven like a source, it obeys the laws of an iterator.
#[test]
fn a_pushed_stage_is_as_good() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                let stage = push_map_ordered(case.n, world.map(case));
                pushing(source, with(stage, case, world))
            };
            let world = World::of(case);
            let got = Seen::all(&mut ours(&world, world.source(case)));
            world.assert_over();
            let twin = World::default();
            let want = Seen::all(&mut twin.source(case).fuse().map(twin.map(case)));
            assert_eq!((got.values, got.panic), (want.values, want.panic));
        })
    });
}

#[test]
fn a_stage_behind_a_stage_is_a_map_behind_a_map() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, source: Origin| {
                let first = with(source.par_filter(case.n, world.keep(case)), case, world);
                with(first.par_map_ordered(case.n, world.map(case)), case, world)
            };
            let twin = |world: &World, source: Fuse<Origin>| {
                source.filter(world.keep(case)).map(world.map(case))
            };
            laws(case, Kind::stage(case), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn a_scoped_stage_obeys_the_same_laws() {
    law(|raw| {
        prompt(raw, |case| {
            let twin = World::default();
            let want = Seen::all(&mut twin.source(case).fuse().map(twin.map(case)));
            let world = World::of(case);
            let (f, source) = (world.map(case), world.source(case));
            let got = fanfold::scope(|s| {
                let stage = with(source.par_map_ordered(case.n, |item| f(item)), case, &world);
                let mut stage = stage.within(s);
                let got = Seen::all(&mut stage.by_ref().take(case.stop));
                if case.seed % 2 == 0 {
                    std::mem::forget(stage); // the scope joins it, although what it holds is leaked
                    return got;
                }
                drop(stage);
                assert_eq!(world.ledger.alive(), 1, "but the closure");
                got
            });
            testing::assert_quiescent();
            let cut = want.values.len().min(case.stop);
            assert_eq!(got.values, want.values[..cut]);
            assert!(got.panic.is_none() || got == want);
            // The same in one call.
            let world = World::of(case);
            let (f, source) = (world.map(case), world.source(case));
            let stage = with(source.par_map_ordered(case.n, |item| f(item)), case, &world);
            let same = stage.scoped(|outputs| {
                let mut outputs = outputs.take(case.stop);
                Seen::all(&mut outputs)
            });
            drop(f);
            world.assert_over();
            assert_eq!(same, got);
        })
    });
}

/// One output for each item, and a length that is known.
#[test]
fn len_is_the_number_of_those_that_come() {
    fn counts_down<I: ExactSizeIterator>(mut iter: I, len: u64) {
        for left in (0..=len as usize).rev() {
            assert_eq!(iter.len(), left);
            assert_eq!(iter.next().is_some(), left > 0);
        }
    }
    law(|raw| {
        prompt(raw, |case| {
            let case = Case {
                hint: Hint::True,
                fault: Fault::None,
                ..*case
            };
            let (world, n, len) = (World::of(&case), case.n, case.len);
            let source = || world.source(&case);
            counts_down(
                with(source().par_map_ordered(n, world.map(&case)), &case, &world),
                len,
            );
            counts_down(
                with(
                    source().par_map_unordered(n, world.map(&case)),
                    &case,
                    &world,
                ),
                len,
            );
            let f = world.map(&case);
            let init = source().par_map_ordered_init(n, || (), move |(), item| f(item));
            counts_down(with(init, &case, &world).isolate(), len);
            let (size, step) = (case.size, case.step);
            counts_down(source().window(size), len.div_ceil(size as u64));
            let count = windows(len, size, step).count() as u64;
            counts_down(source().window(size).sliding(step), count);
            let sums = source()
                .window(size)
                .aggregate(|| 0, |sum, item| sum + item.value);
            counts_down(sums, len.div_ceil(size as u64));
            world.assert_over();
        })
    });
}

// ---- windows

/// The windows over `len` items that begin every `step` items; the last may be shorter.
fn windows(len: u64, size: usize, step: usize) -> impl Iterator<Item = (u64, u64)> {
    let (size, step) = (size as u64, step as u64);
    let begins = (0..len).step_by(step as usize);
    // Every window but the first must have an item that the one before it did not have.
    let fresh = move |begin: &u64| *begin == 0 || begin - step + size < len;
    begins
        .take_while(fresh)
        .map(move |begin| (begin, len.min(begin + size)))
}

/// The expected windows: each folded by `f`, up to where the source panics.
fn folded<T>(case: &Case, step: usize, f: impl Fn(&[u64]) -> T) -> impl Iterator<Item = T> {
    let panics = match case.fault {
        Fault::Source(at) if at <= case.len => Some(at),
        _ => None,
    };
    let (values, size) = ((0..case.len).collect::<Vec<_>>(), case.size as u64);
    let mut windows = windows(case.len, case.size, step)
        .collect::<Vec<_>>()
        .into_iter();
    std::iter::from_fn(move || {
        let next = windows.next();
        // A window asks for more until it is full.
        let asks = next.is_none_or(|(begin, _)| panics.is_some_and(|at| at < begin + size));
        if let Some(at) = panics.filter(|_| asks) {
            bang(at);
        }
        next.map(|(begin, end)| f(&values[begin as usize..end as usize]))
    })
}

fn list(values: &[u64]) -> Vec<u64> {
    values.to_vec()
}

/// A fold that depends on the order.
fn fold(seen: u64, value: u64) -> u64 {
    mix(seen ^ value)
}

#[test]
fn windows_are_chunks() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |_: &World, source: Origin| source.window(case.size);
            let twin = |_: &World, _| folded(case, case.size, list);
            laws(case, Kind::plain(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn aggregates_are_folded_chunks() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |_: &World, source: Origin| {
                let windows = source.window(case.size);
                windows.aggregate(|| 7, |seen, item| fold(seen, item.value))
            };
            let twin =
                |_: &World, _| folded(case, case.size, |items| items.iter().copied().fold(7, fold));
            laws(case, Kind::plain(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn sliding_windows_are_those_of_a_slice() {
    law(|raw| {
        prompt(raw, |case| {
            let ours = |_: &World, source: Origin| source.window(case.size).sliding(case.step);
            let twin = |_: &World, _| folded(case, case.step, list);
            laws(case, Kind::plain(case).exact(), ours, twin);
            bombs(case, ours);
            let ours = |_: &World, source: Origin| {
                let windows = source.window(case.size).sliding(case.step);
                windows.aggregate(|| 7, |seen, item| fold(seen, item.value))
            };
            let twin =
                |_: &World, _| folded(case, case.step, |items| items.iter().copied().fold(7, fold));
            laws(case, Kind::plain(case).exact(), ours, twin);
            bombs(case, ours);
        })
    });
}

#[test]
fn windows_closed_by_age_are_chunks_if_nothing_is_slow() {
    law(|raw| {
        prompt(raw, |case| {
            // A window that a panic or a cancellation cuts short comes out first.
            let case = &Case {
                fault: match case.fault {
                    Fault::Source(_) => Fault::None,
                    fault => fault,
                },
                ..*case
            };
            let ours = |world: &World, source: Origin| {
                with_common(source.window(case.size).max_age(LONG), case, world)
            };
            let twin = |_: &World, _| folded(case, case.size, list);
            let kind = Kind {
                cancels: false,
                ..Kind::fed(case)
            };
            laws(case, kind, ours, twin);
            let items = |world: &World, source: Origin| ours(world, source).flatten();
            let twin = |_: &World, source| source;
            laws(case, Kind::fed(case), items, twin);
            bombs(case, ours);
        })
    });
}

// ---- operators with threads of their own

#[test]
fn reading_ahead_changes_nothing() {
    law(|raw| {
        prompt(raw, |case| {
            let k = case.bound.unwrap_or(case.size);
            let ours =
                |world: &World, source: Origin| with_common(source.readahead(k), case, world);
            let twin = |_: &World, source| source;
            let kind = Kind {
                ahead: Some(k),
                ..Kind::fed(case).exact()
            };
            laws(case, kind, ours, twin);
            bombs(case, ours);
        })
    });
}

quickcheck! {
    fn two_sinks_get_what_a_clone_of_the_source_would(items: Vec<u16>, buffer: u8, stop: usize) -> bool {
        within(SOON, move || {
            let source = || items.iter().inspect(|item| dawdle(u64::from(**item)));
            let twice = || source().broadcast(2).buffer(1 + usize::from(buffer % 9));
            let (a, b) = twice().tee_into(|a| a.collect::<Vec<_>>(), |b| b.map(|i| u64::from(*i)).sum::<u64>());
            let (c, d) = twice().tee_into(|c| c.take(stop % 9).count(), |d| d.max());
            a == items.iter().collect::<Vec<_>>()
                && b == items.iter().map(|i| u64::from(*i)).sum::<u64>()
                && c == items.iter().take(stop % 9).count()
                && d == items.iter().max()
        })
    }
}

/// Outside of everything, and pulled by threads.
#[cfg(feature = "crossbeam-channel")]
#[test]
fn a_channel_as_a_source_yields_what_its_receiver_would() {
    fn yields(items: Vec<u16>, bound: u8, n: u8, stop: usize) -> bool {
        within(SOON, move || {
            let n = 1 + usize::from(n % 9);
            let fill = || {
                let (send, receiver) = match bound % 5 {
                    4 => crossbeam_channel::unbounded(),
                    bound => crossbeam_channel::bounded(bound.into()),
                };
                let items = items.clone();
                std::thread::spawn(move || {
                    for item in items {
                        dawdle(item.into());
                        if send.send(item).is_err() {
                            return; // the receiver is gone
                        }
                    }
                });
                receiver
            };
            let twin = || fill().into_iter();
            let ours = || fanfold::recv(fill());
            let stage = || ours().par_map_ordered(n, |item| item);
            ours().eq(twin())
                && ours()
                    .skip(stop % 9)
                    .step_by(n)
                    .eq(twin().skip(stop % 9).step_by(n))
                && ours().readahead(n).eq(twin())
                && stage().eq(twin())
                && stage().take(stop % 9).eq(twin().take(stop % 9))
                && ours().par_map_by_key(n, |_| 0, |item| item).eq(twin())
        })
    }
    let mut check = QuickCheck::new().tests(60);
    check.quickcheck(yields as fn(Vec<u16>, u8, u8, usize) -> bool);
}

#[test]
fn chunks_of_what_is_ready_are_the_items() {
    law(|raw| {
        prompt(raw, |case| {
            let k = case.bound.unwrap_or(case.size);
            let ours = |world: &World, source: Origin| {
                let chunks = with_common(source.ready_chunks(k), case, world);
                chunks.flat_map(move |chunk| {
                    assert!((1..=k).contains(&chunk.len()));
                    chunk
                })
            };
            let twin = |_: &World, source| source;
            laws(case, Kind::fed(case), ours, twin);
            bombs(case, ours);
        })
    });
}

// ---- several sources

/// The outputs of several sources, including those after a panic of one of them, as the others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Value(u64),
    Panic(u64),
}

/// One of several sources: its values, and the one in whose place it panics.
#[derive(Clone, Debug)]
struct Part {
    values: Vec<u64>,
    panics: Option<usize>,
}

impl Part {
    /// Distributes the values over as many sources as the case says.
    fn deal(case: &Case) -> Vec<Part> {
        let count = case.size as u64;
        let deal = |part| {
            let dealt = |value: &u64| mix(case.seed ^ value) % count == part;
            let values: Vec<u64> = (0..case.len).filter(dealt).collect();
            let panics = match case.fault {
                Fault::Source(at) if at % count == part => Some(at as usize % (values.len() + 1)),
                _ => None,
            };
            Part { values, panics }
        };
        (0..count).map(deal).collect()
    }

    /// The values it gives.
    fn given(&self) -> &[u64] {
        &self.values[..self.panics.unwrap_or(self.values.len())]
    }

    /// Its next event after this many.
    fn event(&self, given: usize) -> Option<Event> {
        match self.panics {
            Some(at) if at == given => Some(Event::Panic(at as u64)),
            Some(at) if at < given => None,
            _ => self.values.get(given).copied().map(Event::Value),
        }
    }
}

impl Event {
    fn all<T: Shown>(iter: &mut impl Iterator<Item = T>) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match caught(|| iter.next()) {
                Ok(Some(output)) => events.push(Event::Value(output.show())),
                Ok(None) => return events,
                Err(id) => events.push(Event::Panic(id)),
            }
        }
    }
}

/// The laws of an operator with several sources that may run ahead of each by a bound; `right` says whether
/// such events may come from them.
fn laws_of_several<A: Iterator<Item: Shown>>(
    case: &Case,
    ahead: usize,
    right: impl Fn(&[Part], &[Event]) -> bool,
    ours: impl Fn(&World, Vec<Origin>) -> A,
) {
    let parts = Part::deal(case);
    let make = |world: &World| {
        let source = |part: &Part| world.part(case, part.values.clone(), part.panics);
        ours(world, parts.iter().map(source).collect())
    };

    // One by one, to the end and beyond.
    let world = World::of(case);
    let mut iter = make(&world);
    let mut hints = vec![iter.size_hint()];
    assert_eq!(world.pulls.get(), 0, "it was not lazy");
    let mut events = Vec::new();
    loop {
        match caught(|| iter.next()) {
            Ok(Some(output)) => events.push(Event::Value(output.show())),
            Ok(None) => break,
            Err(id) => events.push(Event::Panic(id)),
        }
        hints.push(iter.size_hint());
    }
    for _ in 0..3 {
        assert!(iter.next().is_none(), "`None` is final");
    }
    assert_eq!(iter.size_hint(), (0, Some(0)));
    drop(iter);
    world.assert_over();
    assert!(right(&parts, &events), "{parts:?}: {events:?}");
    let whole = parts.iter().all(|part| part.panics.is_none());
    if whole && case.is_honest() {
        for (left, hint) in hints.iter().rev().enumerate() {
            assert_hint(left, *hint);
        }
    }
    assert!(
        hints
            .iter()
            .all(|(low, high)| high.is_none_or(|high| *low <= high))
    );

    // Dropped after some outputs.
    let world = World::of(case);
    let mut iter = make(&world);
    let begun = payload(|| iter.by_ref().take(case.stop).count());
    drop(iter);
    world.assert_over();
    if begun.is_ok() {
        assert!(world.pulls.get() <= case.stop + parts.len() * ahead);
    }

    // Cancelled after some outputs.
    if whole {
        let token = CancelToken::new();
        let world = World {
            token: Some(token.clone()),
            ..World::of(case)
        };
        let mut iter = make(&world);
        let mut got = Event::all(&mut iter.by_ref().take(case.stop));
        token.cancel();
        let hint = iter.size_hint();
        let rest = Event::all(&mut iter);
        if case.is_honest() {
            assert_hint(rest.len(), hint);
        }
        got.extend(rest);
        drop(iter);
        world.assert_over();
        let values = |events: &[Event]| Seen {
            values: events
                .iter()
                .map(|event| match event {
                    Event::Value(value) | Event::Panic(value) => *value,
                })
                .collect(),
            panic: None,
        };
        assert!(is_part(&values(&got).values, &values(&events).values));
    }
    bombs_in(case, make);
}

#[test]
fn a_merge_is_all_of_its_sources_and_each_in_order() {
    /// Each source by itself, and nothing else.
    fn right(parts: &[Part], events: &[Event]) -> bool {
        let panics = |events: &[Event]| {
            events
                .iter()
                .filter(|event| matches!(event, Event::Panic(_)))
                .count()
        };
        let wanted: usize = parts.iter().map(|part| part.given().len()).sum();
        let bad = parts.iter().filter(|part| part.panics.is_some()).count();
        let each = parts.iter().all(|part| {
            let of_it = |event: &&Event| matches!(event, Event::Value(value) if part.values.contains(value));
            let values = part.given().iter().map(|value| Event::Value(*value));
            let in_order = events.iter().filter(of_it).copied().eq(values);
            let last = part.given().last().map(|value| Event::Value(*value));
            let at = |wanted| events.iter().position(|event| *event == wanted);
            let panics = part.panics.map(|at| Event::Panic(at as u64));
            // It panics behind what it gave.
            in_order && panics.is_none_or(|panic| at(panic) >= last.and_then(at))
        });
        each && events.len() == wanted + bad && panics(events) == bad
    }
    law(|raw| {
        prompt(raw, |case| {
            let ours = |world: &World, sources: Vec<Origin>| {
                let mut merge = Merge::new();
                for (k, source) in (0..).zip(sources) {
                    let options = SourceOptions::new().weight(1 + (case.seed as u32 >> k) % 3);
                    merge = merge.source_with(source, options);
                }
                if case.seed % 5 == 1 {
                    merge = merge.strict_priority();
                }
                if case.seed % 3 == 1 {
                    merge = merge.max_threads(case.step);
                }
                with_common(merge.buffer(case.n), case, world)
            };
            laws_of_several(case, case.n, right, ours);
        })
    });
}

#[test]
fn a_sorted_merge_is_a_stable_sort() {
    /// The lowest first, of the earliest source; a source that panics does so when it is asked.
    fn right(parts: &[Part], events: &[Event]) -> bool {
        let mut given = vec![0; parts.len()];
        let mut want = Vec::new();
        loop {
            let next = |(part, given): (&Part, &usize)| part.event(*given);
            let nexts: Vec<_> = parts.iter().zip(&given).map(next).collect();
            let panics = nexts
                .iter()
                .position(|next| matches!(next, Some(Event::Panic(_))));
            let lowest = (0..parts.len()).filter(|part| nexts[*part].is_some());
            let lowest = lowest.min_by_key(|part| match nexts[*part] {
                Some(Event::Value(value)) => key(value),
                _ => u64::MAX,
            });
            let Some(part) = panics.or(lowest) else { break };
            want.extend(nexts[part]);
            given[part] += 1;
        }
        events == want
    }
    fn key(value: u64) -> u64 {
        value / 3
    }
    law(|raw| {
        prompt(raw, |case| {
            // One item of each source is compared.
            laws_of_several(case, case.n + 1, right, |world, sources| {
                let merge = fanfold::merge_sorted_by_key(sources, |item| key(item.value));
                with_common(merge.buffer(case.n).assume_sorted(), case, world)
            });
            laws_of_several(case, case.n + 1, right, |world, sources| {
                let merge = fanfold::merge_sorted_by_key(sources, |item| key(item.value));
                let merge = with_common(merge.buffer(case.n), case, world);
                merge.map(|item| item.unwrap_or_else(|why| panic!("{why}")))
            });
        })
    });
}

#[test]
fn a_round_robin_takes_one_of_each_in_turn() {
    fn right(parts: &[Part], events: &[Event]) -> bool {
        let mut turns: VecDeque<(&Part, usize)> = parts.iter().map(|part| (part, 0)).collect();
        let mut want = Vec::new();
        while let Some((part, given)) = turns.pop_front() {
            let event = part.event(given);
            want.extend(event);
            match event {
                Some(Event::Value(_)) => turns.push_back((part, given + 1)),
                // Its end comes next.
                Some(Event::Panic(_)) | None => {}
            }
        }
        events == want
    }
    law(|raw| {
        prompt(raw, |case| {
            laws_of_several(case, case.n, right, |world, sources| {
                with_common(fanfold::round_robin(sources).buffer(case.n), case, world)
            });
        })
    });
}

// ---- terminal calls

/// A number of which only a part is compared, so that equal ones can be told apart.
#[derive(Clone, Copy, Debug)]
struct Tie(u16, usize);

impl PartialEq for Tie {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Tie {}

impl PartialOrd for Tie {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tie {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Every question that can be put to a stage and to `std` in the same words.
macro_rules! answers {
    ($iter:expr, $item:expr) => {{
        let item: u16 = $item;
        let whole = |tie: Tie| (tie.0, tie.1);
        let mut each = Vec::new();
        $iter.for_each(|tie| each.push(whole(tie)));
        let mut tries = 0;
        let good = $iter.try_for_each(|tie| {
            tries += 1;
            if tie.0 == item { Err(tie.1) } else { Ok(()) }
        });
        let some = $iter.try_for_each(|tie| (tie.0 != item).then_some(()));
        let flow = $iter.try_for_each(|tie| match tie.0 == item {
            true => ControlFlow::Break(tie.1),
            false => ControlFlow::Continue(()),
        });
        let (left, right): (Vec<_>, Vec<_>) = $iter.partition(|tie| tie.0 > item);
        format!(
            "{each:?} {tries} {good:?} {some:?} {flow:?} {left:?} {right:?} {:?}",
            (
                $iter.collect::<Vec<_>>(),
                $iter.fold(7, |seen, tie| fold(seen, u64::from(tie.0))),
                $iter.reduce(|a, b| Tie(a.0 ^ b.0.rotate_left(1), b.1)),
                ($iter.count(), $iter.last()),
                ($iter.min(), $iter.max()),
                (
                    $iter.min_by_key(|tie| tie.0 % 5),
                    $iter.max_by_key(|tie| tie.0 % 5)
                ),
                ($iter.min_by(|a, b| b.cmp(a)), $iter.max_by(|a, b| b.cmp(a))),
                (
                    $iter.any(|tie| tie.0 == item),
                    $iter.all(|tie| tie.0 != item)
                ),
                (
                    $iter.find(|tie| tie.0 >= item),
                    $iter.position(|tie| tie.0 == item)
                ),
                $iter.find_map(|tie| (tie.0 > item).then_some(tie.1)),
            )
        )
    }};
}

quickcheck! {
    fn the_terminal_calls_of_a_stage_are_those_of_an_iterator(items: Vec<u16>, n: u8, item: usize) -> bool {
        let n = 1 + usize::from(n % 6);
        let item = items.get(item % (items.len() + 1)).map_or(3, |item| item % 64);
        // Borrowed, which the terminal call makes possible.
        let stage = || items.iter().enumerate().par_map_ordered(n, |(at, x)| Tie(x % 64, at));
        let twin = || items.iter().enumerate().map(|(at, x)| Tie(x % 64, at));
        let wide = |tie: Tie| Wrapping(u64::from(tie.0) + 1);
        let numbers = || stage().par_map_ordered(n, wide);
        let (sum, product): (Wrapping<u64>, Wrapping<u64>) = (numbers().sum(), numbers().product());
        let pairs = stage().par_map_ordered(n, |tie| (tie.0, tie.1));
        let unzipped: (Vec<u16>, Vec<usize>) = pairs.unzip();
        answers!(stage(), item) == answers!(twin(), item)
            && sum == twin().map(wide).sum()
            && product == twin().map(wide).product()
            && unzipped == twin().map(|tie| (tie.0, tie.1)).unzip()
    }

    fn the_terminal_calls_of_what_is_fed_are_those_of_an_iterator(items: Vec<u16>, k: u8, item: usize) -> bool {
        let item = items.get(item % (items.len() + 1));
        let ahead = || items.iter().readahead(1 + usize::from(k % 9));
        let (mut each, mut tries) = (Vec::new(), (0, 0));
        ahead().for_each(|x| each.push(x));
        let tried = ahead().try_for_each(|x| {
            tries.0 += 1;
            if Some(x) == item { Err(x) } else { Ok(()) }
        });
        let twin = items.iter().try_for_each(|x| {
            tries.1 += 1;
            if Some(x) == item { Err(x) } else { Ok(()) }
        });
        let add = |seen, x: &u16| fold(seen, u64::from(*x));
        each.into_iter().eq(&items)
            && ahead().collect::<Vec<_>>().into_iter().eq(&items)
            && (tried, tries.0) == (twin, tries.1)
            && ahead().fold(7, add) == items.iter().fold(7, add)
            && ahead().count() == items.len()
    }
}

#[test]
fn parallel_map_is_a_collect_into_a_result() {
    law(|raw| {
        prompt(raw, |case| {
            let show = |result: Result<Vec<Item>, Item>| result.show();
            let (world, twin) = (World::of(case), World::default());
            // std may have debug assertions, and then an absurd hint makes `collect` panic
            let hint = Hint::Unknown;
            let source = twin.source(&Case { hint, ..*case });
            let want = caught(|| show(source.fuse().map(twin.attempt(case)).collect()));
            let got = caught(|| {
                let f = world.attempt(case);
                show(fanfold::parallel_map(world.source(case), case.n, |item| {
                    f(item)
                }))
            });
            assert_eq!(got, want);
            world.assert_over();

            let token = CancelToken::new();
            let on = caught(|| {
                let f = world.attempt(case);
                let lifted = |item| f(item).map_err(|item| Gone(Some(item)));
                let result = fanfold::parallel_map_with(&token, world.source(case), case.n, lifted);
                show(result.map_err(|gone| gone.0.expect("no cancellation")))
            });
            assert_eq!(on, want);
            token.cancel();
            let f = world.attempt(case);
            let lifted = |item| f(item).map_err(|item| Gone(Some(item)));
            let result = fanfold::parallel_map_with(&token, world.source(case), case.n, lifted);
            assert!(
                result.is_err_and(|gone| gone.0.is_none()),
                "it was cancelled before"
            );
            drop(f);
            world.assert_over();
        })
    });
}

/// An error that can be a cancellation.
struct Gone<T>(Option<T>);

impl<T> From<Cancelled> for Gone<T> {
    fn from(_: Cancelled) -> Self {
        Gone(None)
    }
}

quickcheck! {
    /// Which error a group returns is a matter of time, but it is one of those.
    fn the_values_of_tasks_are_those_of_their_closures(tasks: Vec<u16>, limit: u8, bad: u16) -> bool {
        within(SOON, move || {
            let limit = 1 + usize::from(limit % 9);
            let run = move |number: u16| {
                dawdle(number.into());
                if number % 32 == bad % 32 { Err(number) } else { Ok(number) }
            };
            let twin: Vec<_> = tasks.iter().copied().map(run).collect();
            let values: Vec<_> = twin.iter().map(|end| end.ok()).collect();
            let errors: Vec<_> = twin.iter().filter_map(|end| end.err()).collect();

            let first = fanfold::group(limit, |g| {
                let spawn = |number: &u16| g.spawn({ let number = *number; move || run(number) });
                tasks.iter().map(spawn).collect::<Vec<_>>()
            });
            let token = CancelToken::new();
            let with = |token: &CancelToken| {
                fanfold::group_with(token, limit, |g| {
                    let spawn = |number: &u16| g.spawn({
                        let number = *number;
                        move || run(number).map_err(|number| Gone(Some(number)))
                    });
                    tasks.iter().map(spawn).collect::<Vec<_>>()
                })
            };
            let until = with(&token).map_err(|gone| gone.0.expect("no cancellation"));
            token.cancel();
            let never = with(&token);
            let joined = std::cell::RefCell::new(Vec::new());
            let all = fanfold::group_all(limit, |g| {
                let spawn = |number: &u16| g.spawn({ let number = *number; move || run(number) });
                let handles: Vec<_> = tasks.iter().map(spawn).collect();
                joined.borrow_mut().extend(handles.into_iter().map(fanfold::Task::join));
            });
            joined.into_inner() == values
                && all == if errors.is_empty() { Ok(()) } else { Err(errors.clone()) }
                && match never {
                    Ok(handles) => handles.is_empty() && tasks.is_empty(),
                    Err(gone) => gone.0.is_none() && !tasks.is_empty(),
                }
                && [first, until].into_iter().all(|end| match end {
                    Ok(handles) => {
                        let ends = handles.into_iter().map(fanfold::Task::join);
                        errors.is_empty() && ends.eq(values.iter().copied())
                    }
                    Err(error) => errors.contains(&error),
                })
        })
    }
}
