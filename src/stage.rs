//! The public face of a stage: its options, its terminal calls, and `Iterator` where nothing is
//! borrowed.

use crate::adaptors::isolated::Isolated;
use crate::config::Workers;
use crate::engine::cancel::CancelToken;
use crate::engine::erase::{InScope, Lazy, Scope};
use crate::engine::job::{Job, OneToOne};
use crate::engine::opts::Opts;
use crate::engine::policy::HedgePolicy;
use crate::engine::pool::Pool;
use crate::engine::source::Source;
use crate::engine::start::Plan;
use crate::error::{Cancelled, Late};
use crate::scope::Scoped;
use std::cmp::Ordering;
use std::fmt;
use std::iter::{FusedIterator, Product, Sum};
use std::time::Duration;

/// One parallel adaptor over a source: made by the methods of [`Fanfold`](crate::Fanfold).
///
/// **Lazy**: nothing runs before the first `next()` or terminal call; until then it takes options,
/// each named by its plain noun. No option changes the meaning of another, and none but
/// [`unordered`](Self::unordered) changes the order.
///
/// **Owned** parts (`Send + 'static`) make it an ordinary `Iterator`: every adaptor of `std`,
/// `itertools` and `indicatif` chains on, and so does the next stage. **Borrowed** parts work in
/// two ways: through the terminal calls below, which block until all is done, with no more than further stages
/// (`par_..`) in between, and within a [`scope`](crate::scope()), where everything chains on.
///
/// **Memory**: at most [`in_flight`](Self::in_flight) items are pulled from the source and not yet
/// yielded, finished ones that wait for their turn included.
///
/// **Drop** stops admission, waits for the closures that run (at most `n`) and for a source that is in its
/// `next()`, and drops every item and result exactly once; what has not started never does. Closures and
/// sources that look at [`CancelToken::current`] hear of it. A stage that is lent (`by_ref`) is not touched
/// by the drop of who borrowed it, and goes on behind it.
///
/// # Panics
///
/// A closure's panic is raised by the call that would have yielded its item, with its own payload,
/// after everything before it has been yielded; so is a panic of the source. After that the stage
/// yields `None`. See [`isolate`](Self::isolate) for another way.
///
/// # What a borrowing stage outside a scope looks like to the compiler
///
/// ```compile_fail
/// use fanfold::Fanfold;
///
/// let docs = vec![String::from("a"), String::from("bc")];
/// for len in docs.iter().par_map_ordered(2, |doc| doc.len()) {
///     println!("{len}");
/// }
/// ```
///
/// ```text
/// error[E0597]: `docs` does not live long enough
///   |
/// 4 | let docs = vec![String::from("a"), String::from("bc")];
///   |     ---- binding `docs` declared here
/// 5 | for len in docs.iter().par_map_ordered(2, |doc| doc.len()) {
///   |            ^^^^-------------------------------------------
///   |            |
///   |            borrowed value does not live long enough
///   |            argument requires that `docs` is borrowed for `'static`
/// ```
///
/// For a parameter it is E0521, "borrowed data escapes outside of function"; for what a function returns
/// as `impl Iterator<Item = T> + 'a` it is "lifetime may not live long enough .. returning this value requires that
/// `'a` must outlive `'static`", without a number. Where the compiler suggests `move`, that does not help:
/// what is moved is still a borrow. The two ways out:
///
/// ```
/// use fanfold::Fanfold;
///
/// let docs = vec![String::from("a"), String::from("bc")];
/// // 1. a terminal call
/// docs.iter().par_map_ordered(2, |doc| doc.len()).for_each(|len| println!("{len}"));
/// // 2. a scope
/// fanfold::scope(|s| {
///     for len in docs.iter().par_map_ordered(2, |doc| doc.len()).within(s) {
///         println!("{len}");
///     }
/// });
/// ```
///
/// A method that borrows `self` cannot return such a stage as it is. Four ways, each of which compiles:
///
/// ```
/// use fanfold::{Fanfold, Job, Scope, Stage};
/// use std::slice::Iter;
/// use std::sync::Arc;
///
/// struct Docs(Vec<String>);
///
/// impl Docs {
///     // a scope comes from outside
///     fn within<'s>(&'s self, s: &'s Scope<'s, '_>) -> impl Iterator<Item = usize> + 's {
///         self.0.iter().par_map_ordered(2, |doc| doc.len()).within(s)
///     }
///     // a stage goes out, for a terminal call
///     fn stage<'a>(&'a self) -> Stage<Iter<'a, String>, impl Job<&'a String, Output = usize> + 'a> {
///         self.0.iter().par_map_ordered(2, |doc| doc.len())
///     }
///     // nothing is borrowed
///     fn owned(self: &Arc<Self>) -> impl Iterator<Item = usize> + use<> {
///         let docs = Arc::clone(self);
///         (0..self.0.len()).par_map_ordered(2, move |at| docs.0[at].len())
///     }
///     // the caller's code comes in
///     fn each(&self, mut f: impl FnMut(usize)) {
///         self.0.iter().par_map_ordered(2, |doc| doc.len()).for_each(|len| f(len));
///     }
/// }
///
/// let docs = Arc::new(Docs(vec![String::from("a"), String::from("bc")]));
/// assert_eq!(fanfold::scope(|s| docs.within(s).sum::<usize>()), 3);
/// assert_eq!(docs.stage().sum::<usize>() + docs.owned().sum::<usize>(), 6);
/// docs.each(|len| assert!(len > 0));
/// ```
#[must_use = "a stage is lazy: nothing runs before the first `next()` or a terminal call"]
pub struct Stage<S: Source, J: Job<S::Item>>
where
    S::Item: Send,
{
    lazy: Lazy<Plan<S, J>>,
    hint: (usize, Option<usize>),
    name: Option<String>,
}

impl<S: Source, J: Job<S::Item>> fmt::Debug for Stage<S, J>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.lazy.plan().is_some() {
            "idle"
        } else if self
            .lazy
            .running()
            .is_some_and(|running| !running.is_over())
        {
            "running"
        } else {
            "over"
        };
        f.debug_struct("Stage")
            .field("name", &self.name)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl<S: Source, J: Job<S::Item>> Stage<S, J>
where
    S::Item: Send,
{
    #[track_caller]
    pub(crate) fn new(source: S, job: J, n: Workers, ordered: bool) -> Self {
        let (low, high) = source.hint();
        let opts = Opts {
            width: n.checked(),
            total: high,
            in_flight: None,
            ordered,
            eager: false,
            takes_part: false,
            item_timeout: None,
            hedge: None,
            name: None,
            tokens: Vec::new(),
            drains: Vec::new(),
            detached: false,
            runs_all: false,
            pool: None,
        };
        // A hint may lie; ours must not contradict itself, nor make `collect` ask for all memory.
        let low = if isize::try_from(low).is_ok() { low } else { 0 };
        Stage {
            hint: (high.map_or(low, |high| low.min(high)), high),
            lazy: Lazy::new(Box::new(Plan {
                source,
                job,
                opts,
                clone: None,
            })),
            name: None,
        }
    }

    #[track_caller]
    fn set(mut self, set: impl FnOnce(&mut Opts)) -> Self {
        match self.lazy.plan_mut() {
            Some(plan) => set(&mut plan.opts),
            None => panic!("options of a stage go before its first `next()`"),
        }
        self
    }

    // ---- options

    /// Bounds how many items may be in flight: pulled from the source and not yet yielded.
    ///
    /// Queued, running and parked (finished, but waiting for an earlier one) items count. The
    /// bound is obeyed to the item, also while `next()` blocks: item `i + k` is not pulled before
    /// item `i` has been yielded. With a bound below `n` no more than that many closures run.
    ///
    /// By default it is at least 16 items a worker, and as many as the workers are measured to do
    /// in 4 ms; but at most 65,536, and of a wide stage 32,768 a worker if these fit into 16 MiB. A
    /// small bound with uneven work leaves workers idle behind a slow head: 16 `n` keeps them busy
    /// where 5 % of the items take ten times as long.
    ///
    /// # Panics
    ///
    /// If `k` is 0, or after the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let squares = (0..1_000_u64).par_map_ordered(4, |x| x * x).in_flight(16);
    /// assert_eq!(squares.take(3).collect::<Vec<_>>(), [0, 1, 4]); // at most 19 were pulled
    /// ```
    #[track_caller]
    pub fn in_flight(self, k: usize) -> Self {
        assert!(
            k > 0,
            "in_flight must be at least 1: write in_flight(1) for one item at a time, or leave it \
             out for the default"
        );
        self.set(|opts| opts.in_flight = Some(k))
    }

    /// Yields results as they arrive.
    ///
    /// Everything else stays as it is. An error or a panic ends the stage when it arrives.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut even: Vec<u32> = (0..10).par_filter(3, |x| x % 2 == 0).unordered().collect();
    /// even.sort();
    /// assert_eq!(even, [0, 2, 4, 6, 8]);
    /// ```
    #[track_caller]
    pub fn unordered(self) -> Self {
        self.set(|opts| opts.ordered = false)
    }

    /// Names the stage, for `Debug` and for
    /// [`testing::assert_quiescent`](crate::testing::assert_quiescent).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let stage = (0..3).par_map_unordered(2, |x| x).named("fetch");
    /// assert!(format!("{stage:?}").contains("fetch"));
    /// ```
    #[track_caller]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        let name = self.name.clone();
        self.set(|opts| opts.name = name)
    }

    /// Ends the stage early when `token` is tripped, without a word.
    ///
    /// Then no new item is started: what was pulled and not started is dropped. The closures that run are
    /// waited for, and what is finished without a gap is yielded, then `None`. A source that blocks is not
    /// waited for. May be called for several tokens.
    ///
    /// **An early end looks like any other end**: a `collect` gives what there was. To tell it apart, ask
    /// [`is_cut_short`](Self::is_cut_short) of the stage, or `token.check()?` behind a terminal call; or
    /// use [`fail_on`](Self::fail_on), which ends with an `Err`. To lose nothing that was pulled, see
    /// [`drain_on`](Self::drain_on).
    ///
    /// A stage that starts inside a closure of another stage, a task of a group or the like is a part of that,
    /// and ends early with it as with a token of its own; see [`detached`](Self::detached).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    ///
    /// let token = CancelToken::new();
    /// let mut numbers = (0..).par_map_ordered(2, |x: u64| x).cancel_on(&token);
    /// assert_eq!(numbers.next(), Some(0));
    /// token.cancel();
    /// assert!(numbers.by_ref().count() < 100_000);
    /// assert!(numbers.is_cut_short());
    /// ```
    #[track_caller]
    pub fn cancel_on(self, token: &CancelToken) -> Self {
        self.set(|opts| opts.tokens.push(token.clone()))
    }

    /// Ends the stage early when `token` is tripped, with an error: what is done comes out, then one
    /// `Err`, then nothing.
    ///
    /// As [`cancel_on`](Self::cancel_on) otherwise. The error is made of a [`Cancelled`], which says why
    /// ([`is_deadline`](Cancelled::is_deadline)) and where ([`seq`](Cancelled::seq)). So a
    /// `collect::<Result<Vec<_>, _>>()` is never taken for complete when it is not. The `Err` comes also if
    /// the stage is cut short by another token, of its own or of what it runs in. May be called for
    /// several tokens.
    ///
    /// For a stage that yields `Result`s whose error is made from [`Cancelled`]; those of an
    /// [isolated](Self::isolate) one are, as a [`Failure`](crate::Failure) that
    /// [`is_cancelled`](crate::Failure::is_cancelled).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Errors
    ///
    /// None here; in the stage, as said.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled, Fanfold};
    /// use std::time::Duration;
    ///
    /// let token = CancelToken::new().with_timeout(Duration::from_millis(5));
    /// let endless = (0..).try_par_map_ordered(2, |x: u64| Ok(x)).fail_on(&token);
    /// let why: Cancelled = endless.collect::<Result<Vec<_>, _>>().unwrap_err();
    /// assert!(why.is_deadline());
    /// println!("{why}"); // the deadline has passed before item 51234 was done
    /// ```
    #[track_caller]
    pub fn fail_on<T, E>(mut self, token: &CancelToken) -> Self
    where
        J: Job<S::Item, Output = Result<T, E>>,
        E: From<Cancelled>,
    {
        self.lazy.set_last(|why| Err(why.into()));
        self.cancel_on(token)
    }

    /// Asks the source for no more when `token` is tripped; everything that was pulled is run and yielded.
    ///
    /// For an orderly stop: Ctrl-C in a program that reads a queue loses nothing. A call of the source's
    /// `next()` that is under way is waited for, as it may have taken something already;
    /// [`CancelToken::current`] is tripped in it, so a source that heeds that comes out at once. Then the
    /// stage [is cut short](Self::is_cut_short), and a [`fail_on`](Self::fail_on) stage says so. A second
    /// token for [`cancel_on`](Self::cancel_on) is for who does not want to wait. In a chain it belongs to the
    /// stage next to the source: those behind it end when it has ended. May be called for several tokens.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    ///
    /// let (stop, mut queue) = (CancelToken::new(), 0..);
    /// let pulled = std::sync::atomic::AtomicUsize::new(0);
    /// let source = queue.by_ref().inspect(|_| { pulled.fetch_add(1, std::sync::atomic::Ordering::Relaxed); });
    /// let mut done = 0;
    /// source.par_map_ordered(4, |job: usize| job).drain_on(&stop).for_each(|job| {
    ///     done += 1;
    ///     if job == 100 {
    ///         stop.cancel();
    ///     }
    /// });
    /// assert_eq!(done, pulled.into_inner()); // and the next that the queue gives is the next one
    /// assert_eq!(queue.next(), Some(done));
    /// ```
    #[track_caller]
    pub fn drain_on(self, token: &CancelToken) -> Self {
        self.set(|opts| opts.drains.push(token.clone()))
    }

    /// Makes the stage one by itself, although it starts in the middle of something.
    ///
    /// Without it a stage that starts inside a closure of another stage, a task of a
    /// [`group`](crate::group()), a replica of a hedge or a sink is a part of that: it ends early when
    /// that is cancelled, fails, is dropped or runs out of time, as if [`CancelToken::current`] had been
    /// given to [`cancel_on`](Self::cancel_on). The link ends when the closure returns, so a stage that a closure
    /// returns lives on in any case.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// // What was begun is put on record, also when the request is given up.
    /// let record = |id: u32| (0..3).par_map_ordered(2, move |part| id * 10 + part).detached().count();
    /// assert!((0..4).par_map_ordered(2, record).all(|parts| parts == 3));
    /// ```
    #[track_caller]
    pub fn detached(self) -> Self {
        self.set(|opts| opts.detached = true)
    }

    /// Whether the stage has ended before its source did, because a token was tripped.
    ///
    /// To be asked when the stage has said `None`; before that it is `false`. An end by an `Err` or a panic
    /// is told by that, and is none of these.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    ///
    /// let token = CancelToken::new();
    /// let mut stage = (0..9).par_map_ordered(2, |x| x).cancel_on(&token);
    /// assert_eq!(stage.by_ref().count(), 9);
    /// token.cancel();
    /// assert!(!stage.is_cut_short()); // nothing was missing by then
    /// ```
    pub fn is_cut_short(&self) -> bool {
        self.lazy.cut().is_some()
    }

    /// Leases the threads from `pool` instead of the [global](Pool::global) one.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Pool};
    ///
    /// let pool = Pool::builder().stack_size(32 << 20).build();
    /// assert_eq!((0..9).par_map_unordered(2, |x| x).on(&pool).count(), 9);
    /// ```
    #[track_caller]
    pub fn on(self, pool: &Pool) -> Self {
        self.set(|opts| opts.pool = Some(pool.clone()))
    }

    /// Wakes the consumer for each result, although results flow so fast that it would rather nap.
    ///
    /// Without it, a consumer that has to wait while results flow looks again after at most 1 ms,
    /// which saves a wake-up (some microseconds of every core) for each result.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// assert_eq!((0..100).par_map_ordered(2, |x| x).eager().last(), Some(99));
    /// ```
    #[track_caller]
    pub fn eager(self) -> Self {
        self.set(|opts| opts.eager = true)
    }

    /// Turns a closure's panic into a value: yields `Ok(output)`, or `Err(`[`Failure`]`)` at the
    /// place of an item whose closure panicked; the rest goes on.
    ///
    /// The panic hook still prints its message at once. A panic of the source is still raised. A
    /// worker's state ([`par_map_ordered_init`](crate::Fanfold::par_map_ordered_init)) is kept
    /// after a panic.
    ///
    /// [`Failure`]: crate::Failure
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let results: Vec<_> = (0..4)
    ///     .par_map_ordered(2, |x| if x == 2 { panic!("two") } else { x })
    ///     .isolate()
    ///     .collect();
    /// assert_eq!(results[1], Ok(1));
    /// assert_eq!(results[2].as_ref().unwrap_err().message(), "two");
    /// assert_eq!(results[3], Ok(3));
    /// ```
    #[track_caller]
    pub fn isolate(self) -> Stage<S, Isolated<J>> {
        let fails = self.lazy.has_last();
        let Some(plan) = self.lazy.into_plan() else {
            panic!("options of a stage go before its first `next()`")
        };
        let mut lazy = Lazy::new(Box::new(Plan {
            source: plan.source,
            job: Isolated::new(plan.job),
            opts: plan.opts,
            clone: plan.clone,
        }));
        if fails {
            lazy.set_last(|why| Err(why.into()));
        }
        Stage {
            lazy,
            hint: self.hint,
            name: self.name,
        }
    }

    /// Limits how long an item's closure may run: what takes longer is a failure at its place.
    ///
    /// The time begins when the closure starts on the item, not while the item waits. When it is
    /// over, the item's [token](CancelToken::current) is tripped, and the item's place is free: the
    /// failure is yielded there at once and what follows goes on. Whatever the closure returns
    /// afterwards is dropped. The limit is kept to about a millisecond; 0 is not allowed.
    ///
    /// A closure **cannot be stopped from outside**. One that goes on after its time still counts
    /// against `n`, as whatever it uses is still in use, and the drop of the stage still waits for
    /// it. So give the closure a way out: let it look at its token, or give its sockets a time-out
    /// a little shorter than this one. `n` closures that never return leave nobody to run the rest;
    /// [`next_within`](Self::next_within) is for whoever has to see that.
    ///
    /// Costs about 50 ns an item, for the clock.
    ///
    /// # Panics
    ///
    /// If `time` is 0, or after the first `next()`. The stage panics at the place of an item that
    /// has timed out, with a message that names it; [`isolate`](Self::isolate) makes it an
    /// `Err(`[`Failure`]`)` that says [`is_timeout`](crate::Failure::is_timeout), and goes on.
    ///
    /// [`Failure`]: crate::Failure
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    /// use std::time::Duration;
    ///
    /// let answers: Vec<_> = [0, 3_600, 0]
    ///     .into_iter()
    ///     .par_map_ordered(2, |secs| CancelToken::current().sleep(Duration::from_secs(secs)))
    ///     .item_timeout(Duration::from_millis(100))
    ///     .isolate()
    ///     .collect();
    /// assert_eq!(answers[0], Ok(Ok(())));
    /// assert!(answers[1].as_ref().is_err_and(|failure| failure.is_timeout()));
    /// assert_eq!(answers[2], Ok(Ok(())));
    /// ```
    #[track_caller]
    pub fn item_timeout(self, time: Duration) -> Self {
        assert!(
            !time.is_zero(),
            "item_timeout must be more than 0: leave it out for no limit"
        );
        self.set(|opts| opts.item_timeout = Some(time))
    }

    /// Runs an item a second time if it is slow, and takes the first result: the tail, cut.
    ///
    /// When `next()` waits for an item for longer than the policy's delay, and a worker has nothing else
    /// to do, that worker runs a clone of the item. The first result takes the item's place; the
    /// other is dropped, and its [token](CancelToken::current) tripped. It works at the head of the
    /// line of an ordered stage, and for any item of an [unordered](Self::unordered) one.
    ///
    /// **`f` must be safe to run twice**, also at the same time, and both runs may go on to their ends:
    /// right for a read or an idempotent write, wrong for a payment. It helps where an item is slow by
    /// chance; if the item itself is, the copy is as slow.
    ///
    /// A copy counts against `n`, and takes the place of an item that would be in flight. How many
    /// there are is limited by the policy's [budget](HedgePolicy); when that is spent, items go on
    /// unhedged. An item and its copy can agree on who does the work: see [`CancelToken::claim`].
    ///
    /// Costs a clone of each item, an allocation, and about 100 ns.
    ///
    /// # Panics
    ///
    /// After the first `next()`. If the item and its copy both panic, the item's panic is raised at its
    /// place; if one of them succeeds, that counts.
    ///
    /// # Errors
    ///
    /// In a [`try_`](crate::Fanfold::try_par_map_ordered) stage likewise: the item's error comes out if
    /// its copy, if there is one, fails too. (A `Result` that [`par_map_unordered`](crate::Fanfold::par_map_unordered)
    /// yields is a value as any other: the first one counts.)
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold, HedgePolicy};
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::time::Duration;
    ///
    /// let stuck = AtomicBool::new(true);
    /// let fetch = |page: u32| {
    ///     if page == 2 && stuck.swap(false, Ordering::Relaxed) {
    ///         CancelToken::current().wait(); // this server does not answer, the next one will
    ///     }
    ///     page * 10
    /// };
    /// let policy = HedgePolicy::after(Duration::from_millis(5));
    /// let pages: Vec<_> = (0..5).par_map_ordered(2, fetch).hedged(&policy).collect();
    /// assert_eq!(pages, [0, 10, 20, 30, 40]);
    /// assert_eq!(policy.stats().won, 1);
    /// ```
    #[track_caller]
    pub fn hedged(mut self, policy: &HedgePolicy) -> Self
    where
        S::Item: Clone,
    {
        if let Some(plan) = self.lazy.plan_mut() {
            plan.clone = Some(S::Item::clone);
        }
        self.set(|opts| opts.hedge = Some(policy.clone()))
    }

    /// Puts the stage within a scope, so that it is an iterator although it borrows. The last
    /// option.
    ///
    /// In a chain of stages only the last one is put within the scope; those before it come along. Before
    /// anything that is no stage (a `readahead`, or a `filter` of `std`) what is in front of it is put within
    /// the scope too: `.within(s).readahead(8).within(s)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let words = ["to", "be", "or"];
    /// fanfold::scope(|s| {
    ///     let long = words.iter().par_map_ordered(2, |word| word.len()).within(s);
    ///     assert_eq!(long.sum::<usize>(), 6);
    /// });
    /// ```
    pub fn within<'scope>(self, scope: &'scope Scope<'scope, '_>) -> Scoped<'scope, S, J>
    where
        S: 'scope,
        J: 'scope,
        J::Output: 'scope,
    {
        Scoped::new(self, InScope::new(scope))
    }

    // ---- for the iterators that stand for a stage

    pub(crate) fn lazy(&mut self) -> &mut Lazy<Plan<S, J>> {
        &mut self.lazy
    }

    /// How many outputs are left: true at every step, whatever is in flight.
    pub(crate) fn outputs(&self) -> (usize, Option<usize>) {
        let (low, high) = self.outputs_of_items();
        // The last word of a stage that is cut short takes the place of an item, if there was one more.
        let more = usize::from(self.lazy.has_last());
        (low, high.and_then(|high| high.checked_add(more)))
    }

    fn outputs_of_items(&self) -> (usize, Option<usize>) {
        if let Some(plan) = self.lazy.plan() {
            let mut tokens = plan.opts.tokens.iter().chain(&plan.opts.drains);
            let cancelled = tokens.any(CancelToken::is_cancelled);
            return J::outputs((if cancelled { 0 } else { self.hint.0 }, self.hint.1));
        }
        let Some(running) = self.lazy.running() else {
            return (0, Some(0));
        };
        let (rest_low, rest_high) = running.rest_of_batch();
        if running.is_over() {
            return (0, Some(0));
        }
        let (low, high) = left(self.hint, running.items(), running.taken());
        let low = if running.is_ending() { 0 } else { low };
        let (low, high) = J::outputs((low, high));
        (
            low.saturating_add(rest_low),
            high.zip(rest_high).and_then(|(a, b)| a.checked_add(b)),
        )
    }

    /// The calling thread becomes one of the `n`: for calls that deliver nothing before the end.
    pub(crate) fn taking_part(self) -> Self {
        self.set(|opts| opts.takes_part = true)
    }

    /// When what it is started in ends, its closures are told so and nothing is left out.
    pub(crate) fn running_all(self) -> Self {
        self.set(|opts| opts.runs_all = true)
    }

    // ---- terminal calls

    /// Collects all outputs.
    ///
    /// Blocks until all is done, so that source and closure may borrow. A stage that is cut short by a token
    /// gives what there was by then, as if that were all: see [`cancel_on`](Self::cancel_on), and
    /// [`fail_on`](Self::fail_on) for one that says so. The same holds for all terminal calls.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let (docs, limit) = (vec!["a", "bc"], 10);
    /// let sums: Vec<usize> = docs.iter().par_map_ordered(8, |doc| doc.len() + limit).collect();
    /// assert_eq!(sums, [11, 12]);
    /// ```
    pub fn collect<B: FromIterator<J::Output>>(self) -> B {
        self.lazy.drain(|outputs| outputs.collect())
    }

    /// Calls `f` with each output, on this thread, as soon as it is there.
    pub fn for_each<F: FnMut(J::Output)>(self, f: F) {
        self.lazy.drain(|outputs| outputs.for_each(f));
    }

    /// Folds all outputs into one value, on this thread; see [`Iterator::fold`].
    pub fn fold<B, F: FnMut(B, J::Output) -> B>(self, init: B, f: F) -> B {
        self.lazy.drain(|outputs| outputs.fold(init, f))
    }

    /// Folds all outputs into one, the first being the start; see [`Iterator::reduce`].
    pub fn reduce<F: FnMut(J::Output, J::Output) -> J::Output>(self, f: F) -> Option<J::Output> {
        self.lazy.drain(|outputs| outputs.reduce(f))
    }

    /// Counts the outputs.
    pub fn count(self) -> usize {
        self.lazy.drain(|outputs| outputs.count())
    }

    /// The last output.
    pub fn last(self) -> Option<J::Output> {
        self.lazy.drain(|outputs| outputs.last())
    }

    /// The sum of all outputs.
    pub fn sum<T: Sum<J::Output>>(self) -> T {
        self.lazy.drain(|outputs| outputs.sum())
    }

    /// The product of all outputs.
    pub fn product<T: Product<J::Output>>(self) -> T {
        self.lazy.drain(|outputs| outputs.product())
    }

    /// The smallest output; the first of several.
    pub fn min(self) -> Option<J::Output>
    where
        J::Output: Ord,
    {
        self.lazy.drain(|outputs| outputs.min())
    }

    /// The largest output; the last of several.
    pub fn max(self) -> Option<J::Output>
    where
        J::Output: Ord,
    {
        self.lazy.drain(|outputs| outputs.max())
    }

    /// The output with the smallest key; the first of several.
    pub fn min_by_key<B: Ord, F: FnMut(&J::Output) -> B>(self, f: F) -> Option<J::Output> {
        self.lazy.drain(|outputs| outputs.min_by_key(f))
    }

    /// The output with the largest key; the last of several.
    pub fn max_by_key<B: Ord, F: FnMut(&J::Output) -> B>(self, f: F) -> Option<J::Output> {
        self.lazy.drain(|outputs| outputs.max_by_key(f))
    }

    /// The smallest output by a comparison of your own; the first of several.
    pub fn min_by<F>(self, f: F) -> Option<J::Output>
    where
        F: FnMut(&J::Output, &J::Output) -> Ordering,
    {
        self.lazy.drain(|outputs| outputs.min_by(f))
    }

    /// The largest output by a comparison of your own; the last of several.
    pub fn max_by<F>(self, f: F) -> Option<J::Output>
    where
        F: FnMut(&J::Output, &J::Output) -> Ordering,
    {
        self.lazy.drain(|outputs| outputs.max_by(f))
    }

    /// Two collections: of the outputs that `f` accepts, and of the others.
    pub fn partition<B, F>(self, f: F) -> (B, B)
    where
        B: Default + Extend<J::Output>,
        F: FnMut(&J::Output) -> bool,
    {
        self.lazy.drain(|outputs| outputs.partition(f))
    }

    /// Two collections out of pairs.
    pub fn unzip<A, B, FromA, FromB>(self) -> (FromA, FromB)
    where
        FromA: Default + Extend<A>,
        FromB: Default + Extend<B>,
        J: Job<S::Item, Output = (A, B)>,
    {
        self.lazy.drain(|outputs| outputs.unzip())
    }

    /// Whether `f` accepts any output; stops at the first.
    ///
    /// `std`'s takes `&mut self`; this one takes the stage, so that it may borrow. To go on after
    /// it, write `stage.by_ref().any(f)`, which needs owned parts. The same holds for `all`,
    /// `find`, `find_map`, `position` and `try_for_each`.
    pub fn any<F: FnMut(J::Output) -> bool>(self, f: F) -> bool {
        self.lazy.drain(|mut outputs| outputs.any(f))
    }

    /// Whether `f` accepts all outputs; stops at the first that it does not. See [`any`](Self::any).
    pub fn all<F: FnMut(J::Output) -> bool>(self, f: F) -> bool {
        self.lazy.drain(|mut outputs| outputs.all(f))
    }

    /// The first output that `f` accepts. See [`any`](Self::any).
    pub fn find<P: FnMut(&J::Output) -> bool>(self, f: P) -> Option<J::Output> {
        self.lazy.drain(|mut outputs| outputs.find(f))
    }

    /// The first `Some` that `f` gives. See [`any`](Self::any).
    pub fn find_map<B, F: FnMut(J::Output) -> Option<B>>(self, f: F) -> Option<B> {
        self.lazy.drain(|mut outputs| outputs.find_map(f))
    }

    /// The position of the first output that `f` accepts. See [`any`](Self::any).
    pub fn position<P: FnMut(J::Output) -> bool>(self, f: P) -> Option<usize> {
        self.lazy.drain(|mut outputs| outputs.position(f))
    }

    /// Calls `f` with each output until one fails; `f` gives a `Result<(), E>`, an `Option<()>`
    /// or a `ControlFlow<B>`. See [`any`](Self::any).
    ///
    /// # Errors
    ///
    /// The first failure of `f`; no further output is taken then.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::io::Write;
    ///
    /// let mut out = Vec::new();
    /// (0..3).par_map_ordered(2, |x| x * x).try_for_each(|square| writeln!(out, "{square}"))?;
    /// assert_eq!(out, b"0\n1\n4\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_for_each<F, R>(self, mut f: F) -> R
    where
        F: FnMut(J::Output) -> R,
        R: Attempt,
    {
        self.lazy.drain(|outputs| {
            for output in outputs {
                let answer = f(output);
                if answer.is_failure() {
                    return answer;
                }
            }
            R::success()
        })
    }
}

/// What [`Stage::try_for_each`] may return: it stands in for the unstable `std::ops::Try`. Sealed.
pub trait Attempt: sealed::Sealed {
    /// Whether to stop.
    #[doc(hidden)]
    fn is_failure(&self) -> bool;

    /// The value at the end of all.
    #[doc(hidden)]
    fn success() -> Self;
}

mod sealed {
    #[allow(unnameable_types)]
    pub trait Sealed {}
    impl<E> Sealed for Result<(), E> {}
    impl Sealed for Option<()> {}
    impl<B> Sealed for std::ops::ControlFlow<B, ()> {}
}

impl<E> Attempt for Result<(), E> {
    fn is_failure(&self) -> bool {
        self.is_err()
    }

    fn success() -> Self {
        Ok(())
    }
}

impl Attempt for Option<()> {
    fn is_failure(&self) -> bool {
        self.is_none()
    }

    fn success() -> Self {
        Some(())
    }
}

impl<B> Attempt for std::ops::ControlFlow<B, ()> {
    fn is_failure(&self) -> bool {
        self.is_break()
    }

    fn success() -> Self {
        std::ops::ControlFlow::Continue(())
    }
}

impl<S, J> Stage<S, J>
where
    S: Source + 'static,
    S::Item: Send + 'static,
    J: Job<S::Item> + 'static,
    J::Output: 'static,
{
    /// The next output, if it is there in `time`; [`Late`] otherwise.
    ///
    /// Nothing is lost by a late answer: call it again, go on with `next()`, or drop the stage (which
    /// waits for the closures that run). A time of 0 takes what is ready. Starts a stage that has not
    /// been started. From the first call on all items are run by the workers, also
    /// tiny ones.
    ///
    /// A [local](crate::Fanfold::local) source is pulled by the calling thread, so the time does not
    /// hold while that blocks.
    ///
    /// # Panics
    ///
    /// As `next()`.
    ///
    /// # Errors
    ///
    /// [`Late`], which names the item that was waited for.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::time::Duration;
    ///
    /// let mut pages = (0..3).par_map_ordered(2, |page| page * 10);
    /// let mut got = Vec::new();
    /// loop {
    ///     match pages.next_within(Duration::from_secs(5)) {
    ///         Ok(Some(page)) => got.push(page),
    ///         Ok(None) => break,
    ///         Err(late) => eprintln!("still waiting: {late}"),
    ///     }
    /// }
    /// assert_eq!(got, [0, 10, 20]);
    /// ```
    pub fn next_within(&mut self, time: Duration) -> Result<Option<J::Output>, Late> {
        self.lazy.ask_owned(|running| running.next_within(time))
    }
}

impl<S, J> Iterator for Stage<S, J>
where
    S: Source + 'static,
    S::Item: Send + 'static,
    J: Job<S::Item> + 'static,
    J::Output: 'static,
{
    type Item = J::Output;

    #[inline]
    fn next(&mut self) -> Option<J::Output> {
        self.lazy.next_owned()
    }

    fn fold<A, F: FnMut(A, J::Output) -> A>(self, init: A, f: F) -> A {
        self.lazy.drain(|outputs| outputs.fold(init, f))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.outputs()
    }
}

impl<S, J> ExactSizeIterator for Stage<S, J>
where
    S: Source + ExactSizeIterator + 'static,
    <S as Source>::Item: Send + 'static,
    J: Job<<S as Source>::Item> + OneToOne + 'static,
    J::Output: 'static,
{
    fn len(&self) -> usize {
        // The lower bound falls to 0 when the stage is cancelled; this is what it would have been.
        self.outputs().1.unwrap_or(0)
    }
}

impl<S, J> FusedIterator for Stage<S, J>
where
    S: Source + 'static,
    S::Item: Send + 'static,
    J: Job<S::Item> + 'static,
    J::Output: 'static,
{
}

/// How many items are left of those that the source had, or hinted at. Where a `usize` has 32 bits there may
/// be more than it holds, and a stage may have taken more.
fn left(
    (low, high): (usize, Option<usize>),
    items: Option<u64>,
    taken: u64,
) -> (usize, Option<usize>) {
    if let Some(items) = items {
        let left = usize::try_from(items.saturating_sub(taken));
        return (left.unwrap_or(usize::MAX), left.ok());
    }
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    let high = high.map(|high| high.saturating_sub(taken));
    (low.saturating_sub(taken), high)
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn what_is_left_after_more_than_32_bits() {
        let many = (1 << 32) + 9;
        assert_eq!(left((0, None), Some(many), many - 3), (3, Some(3)));
        assert_eq!(left((9, None), None, 4), (5, None));
        assert_eq!(left((9, Some(20)), None, many), (0, Some(0)));
        let all = usize::try_from(many);
        let want = (all.unwrap_or(usize::MAX), all.ok());
        assert_eq!(left((0, None), Some(many), 0), want);
    }
}
