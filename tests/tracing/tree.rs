//! A subscriber that records spans and events, and every use of a span that it would be wrong to make.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};
use tracing_core::span::Current;

type Fields = BTreeMap<String, String>;

/// A span as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) fields: Fields,
    pub(crate) is_open: bool,
    /// How often it was entered.
    pub(crate) entries: usize,
    meta: &'static Metadata<'static>,
    handles: usize,
    inside: usize,
}

impl Node {
    pub(crate) fn name(&self) -> &'static str {
        self.meta.name()
    }

    /// A field, or `-`.
    pub(crate) fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("-", String::as_str)
    }
}

/// An event, and the span in which it was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) level: Level,
    pub(crate) span: Option<u64>,
    pub(crate) fields: Fields,
}

impl Told {
    pub(crate) fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("-", String::as_str)
    }
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<u64, Node>,
    told: Vec<Told>,
    /// Which spans a thread is in.
    stacks: HashMap<ThreadId, Vec<u64>>,
    wrong: String,
}

impl State {
    fn stack(&mut self) -> &mut Vec<u64> {
        self.stacks.entry(std::thread::current().id()).or_default()
    }

    fn complain(&mut self, what: &str, id: u64) {
        let node = self.nodes.get(&id);
        writeln!(self.wrong, "{what}: {node:?}").expect("a string takes everything");
    }

    /// The span, which must be open.
    fn open(&mut self, what: &str, id: u64) -> Option<&mut Node> {
        if !self.nodes.get(&id).is_some_and(|node| node.is_open) {
            self.complain(what, id);
        }
        self.nodes.get_mut(&id)
    }

    /// One handle less. A span holds its parent.
    fn release(&mut self, id: u64) -> bool {
        let Some(node) = self.open("closed twice", id) else {
            return false;
        };
        node.handles -= 1;
        if node.handles > 0 {
            return false;
        }
        node.is_open = false;
        let (parent, inside) = (node.parent, node.inside);
        if inside > 0 {
            self.complain("closed, and a thread is in it", id);
        }
        if let Some(parent) = parent {
            self.release(parent);
        }
        true
    }
}

/// The subscriber. Its clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Tree(Arc<Mutex<State>>, Level);

impl Tree {
    pub(crate) fn new() -> Self {
        Tree::up_to(Level::TRACE)
    }

    /// One that wants nothing below this level.
    pub(crate) fn up_to(level: Level) -> Self {
        Tree(Arc::default(), level)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` with this subscriber.
    pub(crate) fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        dispatcher::with_default(&Dispatch::new(self.clone()), f)
    }

    /// All spans of this name, the oldest first.
    pub(crate) fn all(&self, name: &str) -> Vec<Node> {
        let state = self.state();
        let nodes = state.nodes.values().filter(|node| node.name() == name);
        nodes.cloned().collect()
    }

    pub(crate) fn stages(&self) -> Vec<Node> {
        self.all("fanfold::stage")
    }

    /// The only span of this name.
    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> Node {
        let mut all = self.all(name);
        assert_eq!(all.len(), 1, "spans called {name}: {all:?}");
        all.remove(0)
    }

    /// The stage of this name.
    #[track_caller]
    pub(crate) fn stage(&self, name: &str) -> Node {
        let found = self
            .stages()
            .into_iter()
            .find(|stage| stage.get("name") == name);
        found.unwrap_or_else(|| panic!("no stage is called {name}: {:?}", self.stages()))
    }

    /// The events whose message is this.
    pub(crate) fn told(&self, message: &str) -> Vec<Told> {
        let state = self.state();
        let told = state
            .told
            .iter()
            .filter(|told| told.get("message") == message);
        told.cloned().collect()
    }

    pub(crate) fn warnings(&self) -> Vec<Told> {
        let state = self.state();
        let told = state.told.iter().filter(|told| told.level == Level::WARN);
        told.cloned().collect()
    }

    /// Nothing is open, no thread is in any span, and nothing was done that must not be.
    #[track_caller]
    pub(crate) fn assert_closed(&self) {
        let state = self.state();
        let left: Vec<_> = state.nodes.values().filter(|node| node.is_open).collect();
        assert!(left.is_empty(), "still open: {left:?}");
        assert!(state.stacks.values().all(Vec::is_empty), "{state:?}");
        assert_eq!(state.wrong, "");
    }
}

/// Writes fields down as text.
struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Subscriber for Tree {
    // Asked each time, as several subscribers live at once.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        *meta.level() <= self.1
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut state = self.state();
        let parent = if span.is_contextual() {
            state.stack().last().copied()
        } else {
            span.parent().map(Id::into_u64)
        };
        if let Some(parent) = parent {
            if let Some(node) = state.open("the parent is closed", parent) {
                node.handles += 1;
            }
        }
        let id = state.nodes.len() as u64 + 1;
        let mut fields = Fields::new();
        span.record(&mut Reader(&mut fields));
        let node = Node {
            id,
            parent,
            fields,
            is_open: true,
            entries: 0,
            meta: span.metadata(),
            handles: 1,
            inside: 0,
        };
        state.nodes.insert(id, node);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        if let Some(node) = self.state().open("recorded", span.into_u64()) {
            values.record(&mut Reader(&mut node.fields));
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut state = self.state();
        let span = if event.is_contextual() {
            state.stack().last().copied()
        } else {
            event.parent().map(Id::into_u64)
        };
        if let Some(span) = span {
            state.open("told in a span that is closed", span);
        }
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        let level = *event.metadata().level();
        state.told.push(Told {
            level,
            span,
            fields,
        });
    }

    fn enter(&self, span: &Id) {
        let mut state = self.state();
        let id = span.into_u64();
        if let Some(node) = state.open("entered", id) {
            node.entries += 1;
            node.inside += 1;
        }
        state.stack().push(id);
    }

    fn exit(&self, span: &Id) {
        let mut state = self.state();
        let id = span.into_u64();
        if let Some(node) = state.open("left", id) {
            node.inside -= 1;
        }
        // Spans are left in the reverse order.
        if state.stack().pop() != Some(id) {
            state.complain("left out of order", id);
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(node) = self.state().open("cloned", span.into_u64()) {
            node.handles += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        self.state().release(span.into_u64())
    }

    fn current_span(&self) -> Current {
        let mut state = self.state();
        let here = state.stack().last().copied();
        match here.and_then(|id| state.nodes.get(&id)) {
            Some(node) => Current::new(Id::from_u64(node.id), node.meta),
            None => Current::none(),
        }
    }
}
