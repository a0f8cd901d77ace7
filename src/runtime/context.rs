//! What a thread is in the middle of: whose closure or source it runs, which token that has, and what is
//! to hear of its end.
//!
//! # Frames
//!
//! Each thread has a stack of *frames*. Whoever is about to run a piece of the user's code pushes one: a
//! *closure* (also a task of a group, a replica, a sink), or a *source* whose `next()` is called, with
//! the [`Interrupts`] of whoever wants its items. The innermost frame answers [`CancelToken::current`].
//!
//! # Who hears of whom
//!
//! What starts in the middle of something is a part of it, and hears of its end in one of two ways:
//!
//! - *By a link.* A stage, hedge or the like that starts inside a closure hangs a hook on a child of the
//!   closure's token ([`link`]). The frame holds that child, and drops it when the closure returns. So
//!   what the closure returns lives on, and what is still in it by then was dropped with its variables.
//! - *By an interruption.* An iterator that is asked inside a source may have been lent to it (`by_ref`),
//!   and may live on behind it. So it is not cancelled; but its *wait* ends ([`tell_outer`],
//!   [`is_unwanted`]): it answers `None` once, loses nothing, and goes on when somebody else asks it. If it
//!   was not lent, it is dropped with the source. Calls that run to their end inside the source (a
//!   terminal call, a group, a hedge) cannot live on, and have a link.
//!
//! Whoever was cut short like that, and could not say so, tells the frame ([`Inherited::cut_short`],
//! [`tell_cut`]): what the closure makes of it is then not taken for a result.
//!
//! # The wait
//!
//! A thread that waits inside a source enters itself with each [`Interrupts`] around it, looks whether one of
//! them is over, and sleeps. Who ends one says so in it, and then wakes all that have entered; who
//! enters later finds it over. Both under the lock of the `Interrupts`, and a wake-up that comes before the sleep
//! is kept by the sleeper. So no wait outlasts the end of who wants it. Nothing is noted in what
//! waits: a wake-up that finds another wait is a look in vain.
//!
//! # Closures that the consumer runs itself
//!
//! They take a few nanoseconds ([`inline`](crate::ordered::inline)), so a frame is too dear for each of them.
//! The thread only notes the number of the stage, and who asks for the token looks up whether a closure of
//! it runs. Such a stage is under no token, so while its consumer is in a closure nobody can trip its own:
//! where there is a frame around it, that is the one to ask.

use crate::cancel::{CancelHook, CancelToken};
use crate::error::Cancelled;
use crate::runtime::biased::{OwnerPlace, OwnerWords};
use crate::sync::fixed;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Weak};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;

// ---- frames

/// What knows the token of what a thread runs.
pub(crate) trait Current {
    fn token(&self) -> CancelToken;

    /// What was started in it.
    fn started(&self) -> &Started;
}

/// What was started in a closure or in a source, as far as the frame has to know.
#[derive(Default)]
pub(crate) struct Started {
    /// The token on which what was started hangs its hooks, and whether any of it was cut short.
    link: RefCell<Option<(CancelToken, Arc<AtomicBool>)>>,
    cut: Cell<bool>,
}

impl Started {
    fn link(&self, token: impl FnOnce() -> CancelToken) -> Link {
        let mut link = self.link.borrow_mut();
        let fresh = || (token().child(), Arc::new(AtomicBool::new(false)));
        let (token, cut) = link.get_or_insert_with(fresh).clone();
        Link { token, cut }
    }

    /// The closure has returned: what was started in it and is still there is on its own. Whether some of it
    /// was cut short and could not say so.
    pub(crate) fn over(&self) -> bool {
        let link = self.link.take();
        // Acquire pairs with the release in `Inherited::cut_short`.
        let linked = link.is_some_and(|(_, cut)| cut.load(Ordering::Acquire));
        self.cut.take() || linked
    }
}

/// A frame whose token is there from the start.
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

    fn started(&self) -> &Started {
        &self.started
    }
}

/// A frame for one call after the other, each with a token of its own that is made when it is asked for.
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

    /// The call is over: whether what it gave is no result, since something that it was made of was cut short.
    pub(crate) fn call_over(&self) -> bool {
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

    fn started(&self) -> &Started {
        &self.started
    }
}

struct Frame {
    current: Rc<dyn Current>,
    /// `None`: a closure.
    source: Option<Arc<Interrupts>>,
    /// What is around the source is none of the affair of who waits in it.
    shields: bool,
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// A frame: dropping it leaves. Frames are dropped in the reverse order of their making.
#[must_use = "dropping it leaves at once"]
#[derive(Debug)]
pub(crate) struct FrameGuard {
    // Not in a closure that the consumer runs itself, either.
    _inline: InlineOf,
    // It is of this thread.
    _thread: PhantomData<*const ()>,
}

fn push(frame: Frame) -> FrameGuard {
    // Where the thread is so near its end that it has no memory of its own any more, this does nothing.
    let _ = FRAMES.try_with(|frames| frames.borrow_mut().push(frame));
    FrameGuard {
        _inline: InlineOf::none(),
        _thread: PhantomData,
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

/// The thread is in a source.
pub(crate) fn in_source(current: Rc<dyn Current>, inside: &Arc<Interrupts>) -> FrameGuard {
    push(Frame {
        current,
        source: Some(Arc::clone(inside)),
        shields: false,
    })
}

/// The thread is in a source that belongs to others too: the end of what is around it is not to be heard in
/// there.
pub(crate) fn in_shared_source(current: Rc<dyn Current>, inside: &Arc<Interrupts>) -> FrameGuard {
    push(Frame {
        current,
        source: Some(Arc::clone(inside)),
        shields: true,
    })
}

impl Drop for FrameGuard {
    fn drop(&mut self) {
        // Returned, so that it is dropped after the borrow has ended.
        let _left = FRAMES.try_with(|frames| frames.borrow_mut().pop());
    }
}

/// The innermost frame.
fn innermost() -> Option<Rc<dyn Current>> {
    let current = |frame: &Frame| Rc::clone(&frame.current);
    FRAMES
        .try_with(|frames| frames.borrow().last().map(current))
        .ok()?
}

/// Whether this thread is in anything at all: then [`CancelToken::current`] is its token.
pub(crate) fn is_inside() -> bool {
    let frames = FRAMES.try_with(|frames| !frames.borrow().is_empty());
    frames.unwrap_or(false) || inline_token().is_some()
}

/// Whether this thread is in a source, and not in a closure.
fn is_in_source() -> bool {
    let is_source = |frame: &Frame| frame.source.is_some();
    FRAMES
        .try_with(|frames| frames.borrow().last().is_some_and(is_source))
        .unwrap_or(false)
}

impl CancelToken {
    /// Returns the token of what this thread is in the middle of.
    ///
    /// Inside a closure of a stage it is the running item's: tripped when the stage fails at an earlier item,
    /// is dropped or is cancelled, when the item's time is over, or when the item loses a hedge. Inside a
    /// source's `next()` that a stage, a read-ahead or a merge pulls, it is tripped when nothing more is
    /// wanted of the source. In a task of a [`group`](crate::group()) it is the group's, in a replica of a
    /// hedge the replica's.
    ///
    /// What starts in the middle of something is a part of it: of several stages, groups and so on around
    /// this thread it is the innermost one's, and that is tripped with those around it. Outside of all of
    /// them it is a fresh token that nobody trips, so a function that asks for it works everywhere. It
    /// is known on the thread that runs the closure only: to pass it on, clone it.
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
        // Cloned out first: what the frame does may come back here.
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

/// The link to what this thread is in the middle of, for what starts here and does not live on behind it
/// unless a closure returns it. `None`: there is nothing around it.
pub(crate) fn link() -> Option<Link> {
    let current = innermost()?;
    Some(current.started().link(|| current.token()))
}

/// The same for an iterator that is asked for its first item: inside a source it may have been lent, and has
/// [no link](self).
pub(crate) fn link_of_iterator() -> Option<Link> {
    if is_in_source() { None } else { link() }
}

impl Link {
    /// Calls `f` if what is around ends before the closure returns.
    pub(crate) fn on_trip(self, f: impl FnOnce(Cancelled) + Send + 'static) -> Inherited {
        Inherited {
            _hook: self.token.on_trip(f),
            cut: self.cut,
        }
    }
}

/// That something was started inside something else.
#[derive(Debug)]
pub(crate) struct Inherited {
    _hook: CancelHook,
    cut: Arc<AtomicBool>,
}

impl Inherited {
    /// It was cut short, and whoever uses it is not told so by what it yields.
    pub(crate) fn cut_short(&self) {
        self.cut.store(true, Ordering::Release); // pairs with the load in `Started::over`
    }
}

/// What this thread is in the middle of does not get all that it has asked for.
pub(crate) fn tell_cut() {
    if let Some(current) = innermost() {
        current.started().cut.set(true);
    }
}

// ---- waits inside sources

/// What can be woken, from any thread, because nobody wants its items any more.
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
    /// Nobody wants the source's items any more.
    pub(crate) fn interrupt(&self) {
        let list = {
            let mut waiting = self.0.lock();
            waiting.over = true;
            std::mem::take(&mut waiting.list)
        };
        // Not under the lock: what is interrupted may have an inside of its own.
        for inner in list.iter().filter_map(Weak::upgrade) {
            inner.interrupt();
        }
    }

    /// Whether that has been said.
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().over
    }

    /// `false`: it is over.
    fn enter(&self, inner: &Arc<impl Interrupt + 'static>) -> bool {
        let mut waiting = self.0.lock();
        if waiting.over {
            return false;
        }
        let known = |entry: &Weak<dyn Interrupt>| {
            std::ptr::addr_eq(Weak::as_ptr(entry), Arc::as_ptr(inner))
        };
        waiting.list.retain(|entry| entry.strong_count() > 0);
        if !waiting.list.iter().any(known) {
            let inner: Weak<dyn Interrupt> = Arc::downgrade(inner) as _;
            waiting.list.push(inner);
        }
        true
    }
}

/// Calls `f` with each source that this thread is in, from the innermost on, as far as their ends are to be
/// heard here, until it says so.
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

/// Whether this thread is in a source whose items nobody wants any more: then whatever it waits for in there
/// is not waited for.
pub(crate) fn is_unwanted() -> bool {
    any_source(Interrupts::is_over)
}

/// Before a sleep: the end of whoever wants the items of a source that this thread is in is to wake
/// `inner`. It may be woken before this returns.
pub(crate) fn tell_outer(inner: &Arc<impl Interrupt + 'static>) {
    let over = any_source(|inside| !inside.enter(inner));
    if over {
        inner.interrupt();
    }
}

// ---- closures that the consumer runs itself: see the head of this file

thread_local! {
    /// Whose consumer this thread is, the innermost if there are several.
    static INLINE: Cell<u64> = const { Cell::new(0) };
}

type InlineStages = BTreeMap<u64, (CancelToken, Arc<OwnerWords>)>;
static INLINE_STAGES: fixed::Mutex<InlineStages> = fixed::Mutex::new(BTreeMap::new());

/// The token of the stage in whose closure this thread is, if its consumer runs it.
fn inline_token() -> Option<CancelToken> {
    let mut stage = INLINE.get();
    while stage != 0 {
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

    /// Until the guard is dropped, this thread is its consumer.
    #[inline]
    pub(crate) fn enter(&self) -> InlineOf {
        let before = InlineOf(INLINE.replace(self.id));
        self.words.set_outer(before.0);
        before
    }
}

impl Drop for InlineStage {
    fn drop(&mut self) {
        let _token = INLINE_STAGES.lock().remove(&self.id); // dropped without the lock
    }
}

/// Whose consumer the thread was before. Its drop says so again.
#[derive(Debug)]
pub(crate) struct InlineOf(u64);

impl InlineOf {
    /// From now on it is nobody's, as far as that counts.
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
mod tests {
    use super::*;
    use crate::sync::AtomicUsize;
    use std::thread;

    #[test]
    fn current_is_the_innermost() {
        struct Fixed(CancelToken, Started);

        impl Current for Fixed {
            fn token(&self) -> CancelToken {
                // A frame may do the same in turn: nothing is borrowed.
                drop(in_closure(Plain::new(CancelToken::new())));
                self.0.clone()
            }

            fn started(&self) -> &Started {
                &self.1
            }
        }

        let fixed = |token: &CancelToken| Rc::new(Fixed(token.clone(), Started::default()));
        let same = CancelToken::is;
        let (outer, inner) = (CancelToken::new(), CancelToken::new());
        let provider = fixed(&outer);
        let entered = in_closure(provider.clone());
        assert!(same(&CancelToken::current(), &outer));
        {
            let _entered = in_closure(fixed(&inner));
            assert!(same(&CancelToken::current(), &inner));
            assert!(thread::scope(|scope| {
                let elsewhere = scope.spawn(|| !same(&CancelToken::current(), &inner));
                elsewhere.join().unwrap()
            }));
        }
        assert!(same(&CancelToken::current(), &outer));
        drop(entered);
        assert_eq!(Rc::strong_count(&provider), 1);
        assert!(!same(&CancelToken::current(), &outer));
        outer.cancel();
        assert!(!CancelToken::current().is_cancelled());
    }

    #[test]
    fn current_works_while_the_thread_ends() {
        struct Last(CancelToken);
        impl Drop for Last {
            fn drop(&mut self) {
                if !CancelToken::current().is_cancelled() {
                    self.0.cancel();
                }
            }
        }
        thread_local! {
            static EARLY: RefCell<Option<Last>> = const { RefCell::new(None) };
        }
        let ended = CancelToken::new();
        let tell = ended.clone();
        thread::spawn(move || {
            EARLY.set(Some(Last(tell)));
            drop(CancelToken::current());
            EARLY.with_borrow(|_| ());
        })
        .join()
        .unwrap();
        assert!(ended.is_cancelled());
    }

    #[derive(Default)]
    struct Inner(AtomicUsize);

    impl Interrupt for Inner {
        fn interrupt(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_that_is_there_is_interrupted_once_and_what_is_gone_takes_no_place() {
        let inside = Interrupts::default();
        let waits: Vec<Arc<Inner>> = (0..3).map(|_| Arc::default()).collect();
        let gone = Arc::new(Inner::default());
        assert!(inside.enter(&gone));
        drop(gone);
        for inner in waits.iter().chain(&waits) {
            assert!(inside.enter(inner));
        }
        assert_eq!(inside.0.lock().list.len(), 3);
        inside.interrupt();
        inside.interrupt();
        assert!(inside.is_over() && !inside.enter(&waits[0]));
        assert!(inside.0.lock().list.is_empty());
        for inner in waits {
            assert_eq!(inner.0.load(Ordering::Relaxed), 1);
        }
    }

    fn frame() -> Rc<Plain> {
        Plain::new(CancelToken::new())
    }

    #[test]
    fn all_sources_around_a_wait_end_it_up_to_a_closure_or_a_shield() {
        let insides: Vec<Arc<Interrupts>> = (0..4).map(|_| Arc::default()).collect();
        let _a = in_source(frame(), &insides[0]);
        let _b = in_closure(frame());
        assert!(!is_in_source());
        let _c = in_source(frame(), &insides[1]);
        let _d = in_source(frame(), &insides[2]);
        assert!(is_in_source() && !is_unwanted());
        let wait = Arc::new(Inner::default());
        tell_outer(&wait);
        insides[0].interrupt();
        assert!(!is_unwanted(), "behind a closure");
        insides[1].interrupt();
        assert!(is_unwanted());
        assert_eq!(wait.0.load(Ordering::Relaxed), 1);
        tell_outer(&wait);
        assert_eq!(wait.0.load(Ordering::Relaxed), 2, "it comes too late");
        {
            let _e = in_shared_source(frame(), &insides[3]);
            assert!(!is_unwanted(), "behind a shield");
            insides[3].interrupt();
            assert!(is_unwanted());
        }
    }

    #[test]
    fn a_link_ends_with_its_closure() {
        assert!(link().is_none() && link_of_iterator().is_none());
        let token = CancelToken::new();
        let (told, count) = (Arc::new(Inner::default()), |told: &Inner| {
            told.0.load(Ordering::Relaxed)
        });
        let hook = || {
            let told = Arc::clone(&told);
            move |_| told.interrupt()
        };
        let current = Plain::new(token.clone());
        let entered = in_closure(Rc::clone(&current) as _);
        let first = link_of_iterator().expect("a closure").on_trip(hook());
        drop(entered);
        assert!(!current.over());
        drop(first);
        let entered = in_closure(Rc::clone(&current) as _);
        let second = link().expect("a closure").on_trip(hook());
        token.cancel();
        assert_eq!(count(&told), 1, "the second alone");
        second.cut_short();
        assert!(current.over(), "it was cut short");
        assert!(!current.over());
        tell_cut();
        assert!(current.over());
        let born_late = link().expect("a closure").on_trip(hook());
        assert_eq!(count(&told), 2);
        drop((born_late, entered));
        let _in_source = in_source(current, &Arc::default());
        assert!(link_of_iterator().is_none(), "it may be lent");
        assert!(link().is_some());
    }
}
