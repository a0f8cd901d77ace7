//! With the feature.
//!
//! # One warning for each panic
//!
//! A panic may be caught more than once: a stage raises it in its consumer, which may be in the closure or the source of
//! another stage. Only the innermost one tells it. So [`resume_unwind`] notes what it raises, by its address and its
//! message, and the next `panicked` on this thread compares. The note is removed when the thread enters a span: what was
//! raised before that has been caught by the user. A panic of the user's with the same message and at the same place in
//! memory, in the same visit to user code, is taken for the one that was caught there.

use crate::error::said;
use crate::sync::fixed::OnceLock;
use crate::sync::{AtomicBool, Ordering};
use crate::unwind::Payload;
use std::any::Any;
use std::cell::RefCell;
use std::panic::{RefUnwindSafe, UnwindSafe};
use tracing::dispatcher::{self, DefaultGuard};
use tracing::span::{EnteredSpan, Id};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Level, Span};

/// Where a stage was made, and what its span shows.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    parent: Span,
    operator: &'static str,
    width: Option<usize>,
    in_flight: Option<usize>,
    items: bool,
}

/// As if it were made where no span is.
impl Default for Made {
    fn default() -> Self {
        Made {
            parent: Span::none(),
            operator: "",
            width: None,
            in_flight: None,
            items: false,
        }
    }
}

impl Made {
    pub(crate) fn here() -> Self {
        Made {
            parent: Span::current(),
            ..Made::default()
        }
    }

    /// The name of the operator.
    pub(crate) fn of(&mut self, operator: &'static str) {
        self.operator = operator;
    }

    pub(crate) fn sized(&mut self, width: usize, in_flight: Option<usize>) {
        (self.width, self.in_flight) = (Some(width), in_flight);
    }

    /// Each item gets a span.
    pub(crate) fn with_items(&mut self) {
        self.items = true;
    }
}

/// The span of a stage, which any of its threads may enter.
#[derive(Debug, Default)]
pub(crate) struct StageSpan(OnceLock<Watched>);

/// Of a stage of which a subscriber wants something.
#[derive(Debug)]
struct Watched {
    /// `None`: it wants the warnings alone.
    span: Option<OpenSpan>,
    /// What is around the stage: where the warnings go then.
    outer: Span,
    items: bool,
    /// What the warnings call the stage.
    label: String,
}

/// A `Span` that can be closed through a shared reference, when the threads are joined. It has one count of the span.
#[derive(Debug)]
struct OpenSpan {
    id: Id,
    subscriber: Dispatch,
    is_open: AtomicBool,
}

impl OpenSpan {
    fn close(&self) {
        if self.is_open.swap(false, Ordering::AcqRel) {
            self.subscriber.try_close(self.id.clone());
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        self.close();
    }
}

impl StageSpan {
    /// The stage starts.
    pub(crate) fn open(&self, made: &Made, name: Option<&str>) {
        let (operator, width, in_flight) = (made.operator, made.width, made.in_flight);
        let look = || {
            let span = tracing::info_span!(
                target: "fanfold",
                parent: &made.parent,
                "fanfold::stage",
                name,
                operator,
                width,
                in_flight,
            );
            let span = span.with_subscriber(|(id, subscriber)| OpenSpan {
                id: subscriber.clone_span(id),
                subscriber: subscriber.clone(),
                is_open: AtomicBool::new(true),
            });
            let warns = tracing::event_enabled!(target: "fanfold", Level::WARN);
            (span.is_some() || warns).then_some(span)
        };
        // Of the subscriber that knows the parent, wherever the stage starts.
        if let Some(span) = by(&made.parent, look) {
            let _first = self.0.set(Watched {
                outer: if span.is_none() {
                    made.parent.clone()
                } else {
                    Span::none()
                },
                span,
                items: made.items,
                label: name.unwrap_or(operator).to_owned(),
            });
        }
    }

    /// The threads of the stage are joined. May be called more than once.
    pub(crate) fn close(&self) {
        if let Some(span) = self.span() {
            span.close();
        }
    }

    fn span(&self) -> Option<&OpenSpan> {
        self.0.get()?.span.as_ref()
    }

    /// Whether a subscriber wants anything of this stage.
    pub(crate) fn is_watched(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether each item has a span.
    pub(crate) fn has_items(&self) -> bool {
        self.0.get().is_some_and(|watched| watched.items)
    }

    /// This thread is about to run user code of the stage.
    #[inline]
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered(self.0.get().and_then(Watched::enter))
    }

    /// The same for one item, within that.
    #[inline]
    pub(crate) fn item(&self, seq: u64) -> Option<EnteredSpan> {
        self.0.get().filter(|watched| watched.items)?.item(seq)
    }

    /// A panic of a closure or of a source was caught, at this position.
    #[cold]
    pub(crate) fn panicked(&self, seq: Option<u64>, payload: &(dyn Any + Send)) {
        let Some(watched) = self.0.get() else {
            return;
        };
        let panic = said(payload);
        let former = RAISED.try_with(RefCell::take).ok().flatten();
        if former.is_some_and(|former| former.is(payload, &panic)) {
            return;
        }
        let warn = |stage: Option<Id>| {
            tracing::warn!(
                target: "fanfold",
                parent: stage,
                seq,
                stage = watched.label,
                panic,
                "a panic was caught",
            );
        };
        match &watched.span {
            Some(span) => {
                dispatcher::with_default(&span.subscriber, || warn(Some(span.id.clone())));
            }
            None => by(&watched.outer, || warn(watched.outer.id())),
        }
    }
}

impl Watched {
    fn enter(&self) -> Option<&OpenSpan> {
        let _ = RAISED.try_with(RefCell::take);
        let span = self.span.as_ref()?;
        // Relaxed: only the consumer asks after the join, which has closed it.
        if !span.is_open.load(Ordering::Relaxed) {
            return None;
        }
        span.subscriber.enter(&span.id);
        Some(span)
    }

    fn item(&self, seq: u64) -> Option<EnteredSpan> {
        let stage = self.span.as_ref()?;
        let span = dispatcher::with_default(
            &stage.subscriber,
            || tracing::info_span!(target: "fanfold", parent: stage.id.clone(), "fanfold::item", seq),
        );
        Some(span.entered())
    }
}

/// The thread is in the span of a stage; dropping it leaves that.
#[must_use = "dropping it leaves at once"]
pub(crate) struct Entered<'a>(Option<&'a OpenSpan>);

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(span) = self.0 {
            span.subscriber.exit(&span.id);
        }
    }
}

/// Runs `f` with the subscriber of this span, or with that of the thread.
fn by<R>(span: &Span, f: impl FnOnce() -> R) -> R {
    match span.with_subscriber(|(_, subscriber)| subscriber.clone()) {
        Some(subscriber) => dispatcher::with_default(&subscriber, f),
        None => f(),
    }
}

// ---- subscribers of a thread

/// The subscriber of a thread, for those that work on its behalf. `None`: it has none.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber(Option<Dispatch>);

impl Subscriber {
    pub(crate) fn here() -> Self {
        Subscriber(dispatcher::get_default(|here| {
            (!here.is::<NoSubscriber>()).then(|| here.clone())
        }))
    }

    /// Makes it the subscriber of this thread until the guard is dropped.
    pub(crate) fn enter(self) -> Option<DefaultGuard> {
        self.0.as_ref().map(dispatcher::set_default)
    }
}

// A subscriber must bear panics in any case: spans are left while a thread unwinds. So a stage is as safe to be used after
// a panic as it is without the feature.
impl RefUnwindSafe for Made {}
impl UnwindSafe for Made {}
impl RefUnwindSafe for StageSpan {}
impl UnwindSafe for StageSpan {}
impl RefUnwindSafe for Subscriber {}
impl UnwindSafe for Subscriber {}

// ---- panics that are raised again

/// A panic that was told. `None`: it is known by its message alone.
struct Raised {
    address: Option<usize>,
    message: String,
}

thread_local! {
    /// What this thread has raised last.
    static RAISED: RefCell<Option<Raised>> = const { RefCell::new(None) };
}

impl Raised {
    fn note(self) {
        let _ = RAISED.try_with(|raised| raised.replace(Some(self)));
    }

    fn is(&self, payload: &(dyn Any + Send), message: &str) -> bool {
        let is_there = |there| there == address(payload);
        self.message == message && self.address.is_none_or(is_there)
    }
}

fn address(payload: &(dyn Any + Send)) -> usize {
    std::ptr::from_ref(payload).cast::<()>().addr()
}

/// Raises a panic that was caught and told.
pub(crate) fn resume_unwind(payload: Payload) -> ! {
    let raised = Raised {
        address: Some(address(&*payload)),
        message: said(&*payload),
    };
    raised.note();
    std::panic::resume_unwind(payload)
}

/// The caller is about to panic with this message, which reports a panic that was told.
pub(crate) fn reports(message: &str) {
    let raised = Raised {
        address: None,
        message: message.to_owned(),
    };
    raised.note();
}
