//! What a thread is in the middle of: whose closure or source it runs, which token belongs to that, and what
//! must be notified when it ends.
//!
//! # Frames
//!
//! Each thread has a stack of *frames*. Before a thread runs a piece of the user's code, it pushes one: for a
//! *closure* (or a task of a group, a replica, a sink), or for a *source* whose `next()` is called, with the
//! [`Interrupts`] of the stage that wants its items. The innermost frame answers [`CancelToken::current`].
//!
//! # How an end is passed on
//!
//! What starts inside a frame is a part of it, and reacts to its end in one of three ways:
//!
//! - *By a link.* A stage, hedge or the like that starts inside a closure hangs a hook on a child of the
//!   closure's token ([`link`]). The frame holds that child, and drops it when the closure returns. So a
//!   stage that the closure returns lives on, and a stage that it does not return was dropped with the
//!   closure's variables.
//! - *By an interruption.* An iterator that is asked inside a source may have been lent to it (`by_ref`), and
//!   may live on after it. So it is not cancelled, but its *wait* ends ([`tell_outer`], [`is_unwanted`]): it
//!   answers `None` once, loses nothing, and continues when it is asked again. If it was not lent, it is
//!   dropped with the source. Calls that run to their end inside the source (a terminal call, a group, a
//!   hedge) cannot live on, and have a link.
//!
//! - *By nesting.* A consumer may run items itself, and pull its source, inside of something that does not wait then but
//!   is in user code. So the token of such a frame is tripped with those around it ([`nested`]). What it makes of that
//!   goes to whatever was asking, which has ended.
//!
//! What was cut short like that, and cannot show it by what it yields, reports it to the frame
//! ([`Inherited::cut_short`], [`tell_cut`]). What the closure makes of it is then not taken for a result.
//!
//! # The wait
//!
//! A thread that waits inside a source registers with each [`Interrupts`] around it, checks whether one of
//! them is over, and sleeps. A thread that ends one marks it as over, and then wakes everything that has
//! registered. A thread that registers later finds it over. Both happen under the lock of the `Interrupts`,
//! and a wake-up that comes before the sleep is kept by the sleeper. So no wait outlasts the end of what
//! wants its answer. Nothing is recorded in the thing that waits, so a wake-up that hits a later wait only
//! causes a look in vain.
//!
//! # Closures that the consumer runs itself
//!
//! They take a few nanoseconds ([`inline`](crate::ordered::inline)), so a frame for each of them is too
//! expensive. The thread only notes the number of the stage, and a thread that asks for its token looks up
//! whether a closure of that stage runs. Such a stage has no token of the user's, so while its consumer is in
//! a closure, no other thread can trip the stage's own token. If there is a frame around it, that frame is
//! the one to ask.

use crate::cancel::{CancelHook, CancelToken};
use crate::error::Cancelled;
use crate::runtime::biased::{OwnerPlace, OwnerWords};
use crate::sync::fixed;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Weak};
use crate::unwind;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

// ---- frames

/// Knows the token of what a thread runs.
pub(crate) trait Current {
    fn token(&self) -> CancelToken;

    /// Whether that is tripped; without making it, where it has not been asked for.
    #[cfg_attr(not(feature = "crossbeam-channel"), allow(dead_code))] // `recv` asks
    fn is_tripped(&self) -> bool {
        self.token().is_cancelled()
    }

    /// What was started in the frame.
    fn started(&self) -> &Started;
}

/// What was started in a closure or in a source, as far as the frame has to know.
#[derive(Default)]
pub(crate) struct Started {
    /// The token on which the things started here hang their hooks, and whether any of them was cut short.
    link: RefCell<Option<(CancelToken, Arc<AtomicBool>)>>,
    /// The same for waits that this thread itself has reported ([`tell_cut`]).
    cut: Cell<bool>,
}

impl Started {
    fn link(&self, token: impl FnOnce() -> CancelToken) -> Link {
        // One child for everything that starts in this frame. It is made only when something starts.
        let mut link = self.link.borrow_mut();
        let fresh = || (token().child(), Arc::new(AtomicBool::new(false)));
        let (token, cut) = link.get_or_insert_with(fresh).clone();
        Link { token, cut }
    }

    /// For another frame of the same closure.
    pub(crate) fn take(&self) -> Started {
        Started {
            link: RefCell::new(self.link.take()),
            cut: Cell::new(self.cut.take()),
        }
    }

    /// The closure has returned: what was started in it and still exists is independent from now on. Returns
    /// whether any of it was cut short without showing it.
    pub(crate) fn over(&self) -> bool {
        // Dropping the token also ends all links that hang on it.
        let link = self.link.take();
        // Acquire pairs with the release in `Inherited::cut_short`.
        let linked = link.is_some_and(|(_, cut)| cut.load(Ordering::Acquire));
        self.cut.take() || linked
    }
}

/// A frame whose token exists from the start.
pub(crate) struct Plain {
    token: CancelToken,
    started: Started,
}

impl Plain {
    pub(crate) fn new(token: CancelToken) -> Rc<Self> {
        Rc::new(Plain {
            token,
            started: Started::default(),
        })
    }

    /// See [`Started::over`].
    pub(crate) fn over(&self) -> bool {
        self.started.over()
    }
}

impl Current for Plain {
    fn token(&self) -> CancelToken {
        self.token.clone()
    }

    fn is_tripped(&self) -> bool {
        self.token.is_cancelled()
    }

    fn started(&self) -> &Started {
        &self.started
    }
}

/// A frame for one call after another. Each call has its own token, which is made when it is asked for.
pub(crate) struct PerCall {
    stage: CancelToken,
    call: RefCell<Option<CancelToken>>,
    started: Started,
}

impl PerCall {
    /// The tokens are children of this one.
    pub(crate) fn new(stage: &CancelToken) -> Rc<Self> {
        Rc::new(PerCall {
            stage: stage.clone(),
            call: RefCell::new(None),
            started: Started::default(),
        })
    }

    /// The call is over. Returns whether its result must not count, because something that it was made of was
    /// cut short.
    #[inline]
    pub(crate) fn call_over(&self) -> bool {
        // Without a token there is no link, so nothing that started in the call was cut short.
        self.call.borrow().is_some() && {
            drop(self.call.take());
            self.started.over()
        }
    }
}

impl Current for PerCall {
    fn token(&self) -> CancelToken {
        let mut call = self.call.borrow_mut();
        call.get_or_insert_with(|| self.stage.child()).clone()
    }

    fn is_tripped(&self) -> bool {
        let call = self.call.borrow();
        call.as_ref().unwrap_or(&self.stage).is_cancelled()
    }

    fn started(&self) -> &Started {
        &self.started
    }
}

/// One piece of the user's code that this thread runs.
struct Frame {
    current: Rc<dyn Current>,
    /// `None`: the frame is a closure.
    source: Option<Arc<Interrupts>>,
    /// The waits inside do not react to the ends of the frames around this one.
    shields: bool,
}

crate::sync::thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// A frame; dropping it pops it. Frames are dropped in the reverse order of their creation.
#[must_use = "dropping it leaves at once"]
#[derive(Debug)]
pub(crate) struct FrameGuard {
    // Within the frame the thread is in no closure that a consumer runs itself, either.
    _inline: InlineOf,
    // It belongs to this thread.
    _thread: PhantomData<*const ()>,
}

fn push(frame: Frame) -> FrameGuard {
    // A thread that is so near its end that it has no thread-locals any more has no frames.
    let _ = FRAMES.try_with(|frames| frames.borrow_mut().push(frame));
    FrameGuard {
        _inline: InlineOf::none(),
        _thread: PhantomData,
    }
}

/// See [`nested`].
struct Nested {
    current: Rc<dyn Current>,
    outer: Rc<dyn Current>,
    /// The hook on the outer token, and the token that it trips.
    hook: RefCell<Option<(CancelToken, CancelHook)>>,
}

/// For what the consumer of a stage runs itself. If it is inside of something else, the token is tripped with that too:
/// it is no wait that could be interrupted. `is_nested`: not if the stage is linked, which then passes on the end in its
/// own order, or detached.
fn nested(current: Rc<dyn Current>, is_nested: impl FnOnce() -> bool) -> Rc<dyn Current> {
    match innermost() {
        Some(outer) if is_nested() => Rc::new(Nested {
            current,
            outer,
            hook: RefCell::new(None),
        }),
        _ => current,
    }
}

impl Current for Nested {
    fn token(&self) -> CancelToken {
        let token = self.current.token();
        // It may be one call after another, each with its token.
        let is_hooked = |(hooked, _): &(CancelToken, _)| hooked.is(&token);
        if !self.hook.borrow().as_ref().is_some_and(is_hooked) {
            let inner = token.clone();
            // A panic of the user's hooks goes where those of the outer token go.
            let trip = move |why| unwind::raise(inner.trip(why));
            // Not within the borrow, as it may call hooks at once.
            let hook = self.outer.token().on_trip(trip);
            let before = self.hook.replace(Some((token.clone(), hook)));
            drop(before);
        }
        token
    }

    fn is_tripped(&self) -> bool {
        self.current.is_tripped() || self.outer.is_tripped()
    }

    fn started(&self) -> &Started {
        self.current.started()
    }
}

/// The thread is in a closure.
pub(crate) fn in_closure(current: Rc<dyn Current>) -> FrameGuard {
    push(Frame {
        current,
        source: None,
        shields: true,
    })
}

/// The thread is in a closure that the consumer of a stage runs itself; see [`nested`].
pub(crate) fn in_own_closure(
    current: Rc<dyn Current>,
    is_nested: impl FnOnce() -> bool,
) -> FrameGuard {
    in_closure(nested(current, is_nested))
}

/// The thread is in a source.
pub(crate) fn in_source(current: Rc<dyn Current>, inside: &Arc<Interrupts>) -> FrameGuard {
    push(Frame {
        current,
        source: Some(Arc::clone(inside)),
        shields: false,
    })
}

/// The thread is in a source that other readers share. Waits inside must not react to the end of what is
/// around this thread, because the other readers may still want the item.
pub(crate) fn in_shared_source(current: Rc<dyn Current>, inside: &Arc<Interrupts>) -> FrameGuard {
    push(Frame {
        current,
        source: Some(Arc::clone(inside)),
        shields: true,
    })
}

impl Drop for FrameGuard {
    fn drop(&mut self) {
        // Returned from the closure, so that the frame is dropped after the borrow has ended.
        let _left = FRAMES.try_with(|frames| frames.borrow_mut().pop());
    }
}

/// What the innermost frame belongs to.
fn innermost() -> Option<Rc<dyn Current>> {
    let current = |frame: &Frame| Rc::clone(&frame.current);
    FRAMES
        .try_with(|frames| frames.borrow().last().map(current))
        .ok()?
}

/// Whether this thread is in any frame. Then [`CancelToken::current`] is the token of that.
pub(crate) fn is_inside() -> bool {
    let frames = FRAMES.try_with(|frames| !frames.borrow().is_empty());
    frames.unwrap_or(false) || inline_token().is_some()
}

/// Whether the token of the innermost frame is tripped. For each item of a source, so it makes no token.
#[cfg(feature = "crossbeam-channel")]
pub(crate) fn is_tripped() -> bool {
    let is_tripped = |frame: &Frame| frame.current.is_tripped();
    FRAMES
        .try_with(|frames| frames.borrow().last().is_some_and(is_tripped))
        .unwrap_or(false)
}

/// Whether the innermost frame is a source, not a closure.
pub(crate) fn is_in_source() -> bool {
    let is_source = |frame: &Frame| frame.source.is_some();
    FRAMES
        .try_with(|frames| frames.borrow().last().is_some_and(is_source))
        .unwrap_or(false)
}

impl CancelToken {
    /// Returns the token of what this thread is in the middle of.
    ///
    /// In a closure of a stage this is the running item's token. It is tripped when the stage fails at an
    /// earlier item, is dropped or is cancelled, when the item's time is over, or when the item loses a
    /// hedge. In a source's `next()` that a stage, a read-ahead or a merge pulls, it is tripped when nothing
    /// more is wanted from the source. In a task of a [`group`](crate::group()) it is the group's token, in a
    /// replica of a hedge the replica's.
    ///
    /// What starts inside something else is a part of it. If several stages, groups and so on surround this
    /// thread, the token is that of the innermost one, and it is tripped with those around it. Outside of all
    /// of them it is a fresh token that nothing trips, so a function that asks for it works everywhere. Only
    /// the thread that runs the closure knows the token: to pass it on, clone it.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled};
    /// use std::time::Duration;
    ///
    /// fn fetch(url: &str) -> Result<String, Cancelled> {
    ///     let token = CancelToken::current();
    ///     for attempt in 0..2 {
    ///         token.sleep(Duration::from_millis(attempt))?; // gives up as soon as the stage does
    ///     }
    ///     Ok(format!("what {url} says"))
    /// }
    ///
    /// assert_eq!(fetch("/a"), Ok("what /a says".to_string())); // here, outside of any stage
    /// ```
    pub fn current() -> Self {
        // The frame is cloned out first, because its code may come back here.
        match innermost() {
            Some(current) => current.token(),
            None => inline_token().unwrap_or_default(),
        }
    }
}

// ---- links

/// What something that starts here can hang its hook on.
#[derive(Debug)]
pub(crate) struct Link {
    token: CancelToken,
    cut: Arc<AtomicBool>,
}

/// The link to what this thread is in the middle of, for something that starts here and cannot live on after
/// it unless a closure returns it. `None`: there is nothing around it.
pub(crate) fn link() -> Option<Link> {
    let current = innermost()?;
    Some(current.started().link(|| current.token()))
}

/// The same for an iterator that is asked for its first item. Inside a source it may have been lent, and has
/// [no link](self).
pub(crate) fn link_of_iterator() -> Option<Link> {
    if is_in_source() { None } else { link() }
}

impl Link {
    /// Calls `f` if what is around this thread ends before the closure returns.
    pub(crate) fn on_trip(self, f: impl FnOnce(Cancelled) + Send + 'static) -> Inherited {
        Inherited {
            _hook: self.token.on_trip(f),
            cut: self.cut,
        }
    }
}

/// Something was started inside something else, and this is its link.
#[derive(Debug)]
pub(crate) struct Inherited {
    _hook: CancelHook,
    cut: Arc<AtomicBool>,
}

impl Inherited {
    /// It was cut short, and its user cannot see that from what it yields.
    pub(crate) fn cut_short(&self) {
        self.cut.store(true, Ordering::Release); // pairs with the load in `Started::over`
    }
}

/// Reports to the innermost frame that a wait inside it ended without the answer.
pub(crate) fn tell_cut() {
    if let Some(current) = innermost() {
        current.started().cut.set(true);
    }
}

// ---- waits inside sources

/// Something that can be woken, from any thread, because its items are no longer wanted.
pub(crate) trait Interrupt: Send + Sync {
    fn interrupt(&self);
}

/// What waits inside one source.
#[derive(Default)]
pub(crate) struct Interrupts(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    over: bool,
    list: Vec<Weak<dyn Interrupt>>,
}

impl std::fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupts").finish_non_exhaustive()
    }
}

impl Interrupts {
    /// The items of the source are no longer wanted.
    pub(crate) fn interrupt(&self) {
        let list = {
            let mut waiting = self.0.lock();
            // Marked and taken in one critical section: a thread that registers afterwards sees the mark, and
            // one that has registered before is in the list.
            waiting.over = true;
            std::mem::take(&mut waiting.list)
        };
        // Without the lock, because what is interrupted may itself contain other waits.
        for inner in list.iter().filter_map(Weak::upgrade) {
            inner.interrupt();
        }
    }

    /// Whether `interrupt` has been called.
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().over
    }

    /// Registers something that is about to wait. `false`: the source's items are no longer wanted.
    fn enter(&self, inner: &Arc<impl Interrupt + 'static>) -> bool {
        let mut waiting = self.0.lock();
        if waiting.over {
            return false;
        }
        let known = |entry: &Weak<dyn Interrupt>| {
            std::ptr::addr_eq(Weak::as_ptr(entry), Arc::as_ptr(inner))
        };
        // One source may see many waits, so dead entries are removed here, and one that comes again is not
        // listed twice.
        waiting.list.retain(|entry| entry.strong_count() > 0);
        if !waiting.list.iter().any(known) {
            let inner: Weak<dyn Interrupt> = Arc::downgrade(inner) as _;
            waiting.list.push(inner);
        }
        true
    }
}

/// Calls `f` with each source that this thread is in, from the innermost one outwards, until it returns
/// `true` or a frame shields the wait from those around it.
fn any_source(mut f: impl FnMut(&Interrupts) -> bool) -> bool {
    let search = |frames: &RefCell<Vec<Frame>>| {
        for frame in frames.borrow().iter().rev() {
            if frame.source.as_ref().is_some_and(|inside| f(inside)) {
                return true;
            }
            if frame.shields {
                return false;
            }
        }
        false
    };
    FRAMES.try_with(search).unwrap_or(false)
}

/// Whether this thread is in a source whose items are no longer wanted. Then nothing that it waits for in
/// there is awaited.
pub(crate) fn is_unwanted() -> bool {
    any_source(Interrupts::is_over)
}

/// Before a sleep: makes the end of every source around this thread wake `inner`. That may happen before this
/// returns.
pub(crate) fn tell_outer(inner: &Arc<impl Interrupt + 'static>) {
    let over = any_source(|inside| !inside.enter(inner));
    if over {
        inner.interrupt();
    }
}

// ---- closures that the consumer runs itself: see the head of this file

thread_local! {
    /// The number of the stage whose consumer this thread is, the innermost one if there are several; 0:
    /// none.
    static INLINE: Cell<u64> = const { Cell::new(0) };
}

type InlineStages = BTreeMap<u64, (CancelToken, Arc<OwnerWords>)>;
static INLINE_STAGES: fixed::Mutex<InlineStages> = fixed::Mutex::new(BTreeMap::new());

/// The token of the stage in whose closure this thread is, if the stage's consumer runs it.
fn inline_token() -> Option<CancelToken> {
    let mut stage = INLINE.get();
    while stage != 0 {
        // From the innermost stage outwards: a consumer that is not in a closure may be called by one that
        // is.
        let stages = INLINE_STAGES.lock();
        let (token, words) = stages.get(&stage)?;
        if words.seen().1 == OwnerPlace::Running {
            return Some(token.child());
        }
        stage = words.outer();
    }
    None
}

/// A stage whose consumer runs closures itself.
#[derive(Debug)]
pub(crate) struct InlineStage {
    id: u64,
    words: Arc<OwnerWords>,
}

impl InlineStage {
    pub(crate) fn new(token: CancelToken, words: Arc<OwnerWords>) -> Self {
        static NEXT: fixed::AtomicU64 = fixed::AtomicU64::new(1);
        let id = NEXT.fetch_add(1, fixed::Relaxed);
        let entry = (token, Arc::clone(&words));
        INLINE_STAGES.lock().insert(id, entry);
        InlineStage { id, words }
    }

    /// Makes this thread the stage's consumer until the guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> InlineOf {
        let before = InlineOf(INLINE.replace(self.id));
        // In the stage's own words, where `inline_token` finds the next one.
        self.words.set_outer(before.0);
        before
    }
}

impl Drop for InlineStage {
    fn drop(&mut self) {
        let _token = INLINE_STAGES.lock().remove(&self.id); // Dropped without the lock.
    }
}

/// Which stage's consumer the thread was before. The drop restores it.
#[derive(Debug)]
pub(crate) struct InlineOf(u64);

impl InlineOf {
    /// Within the guard this thread is the consumer of no stage.
    pub(crate) fn none() -> Self {
        InlineOf(INLINE.replace(0))
    }
}

impl Drop for InlineOf {
    #[inline]
    fn drop(&mut self) {
        INLINE.set(self.0);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
