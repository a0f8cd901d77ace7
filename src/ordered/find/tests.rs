use super::*;
use crate::config::Workers;
use crate::error::ItemError;
use crate::ordered::item_context::ItemContext;
use crate::ordered::opts::OrderedOpts;
use crate::ordered::sched::Shape;
use crate::ordered::signals::lone;
use crate::runtime::lease::with_crew;
use crate::runtime::meter::MeterSlot;
use crate::runtime::pool::Pool;
use std::cell::Cell;
use std::rc::Rc;

/// A stage whose source is free, and not to be asked. Counts the threads that it is to start.
#[derive(Default)]
struct TestHost {
    leased: Cell<usize>,
}

impl Host<usize, ()> for TestHost {
    fn lease(&self, _: usize) -> bool {
        self.leased.set(self.leased.get() + 1);
        true
    }

    fn visit_source(&self, _: &mut Worker) -> Option<ChunkExecutor<usize, ()>> {
        unreachable!("there is a chunk without an owner")
    }

    fn is_source_free(&self) -> bool {
        true
    }

    fn watch_consumer(&self, _: &mut Worker, _: &mut SchedGuard<'_, usize, ()>) {}

    fn failed(&self, why: ItemError) -> Result<(), ItemError> {
        Err(why)
    }
}

/// How many threads a worker calls that leaves with a chunk that had no owner, in a stage of two, whose source is pulled by
/// its workers. `prepare`: what was before.
fn called(prepare: impl FnOnce(&Sched<usize, ()>)) -> usize {
    let (opts, (signals, _parker)) = (OrderedOpts::new(Workers::from(2), true), lone());
    let shape = Shape {
        pulls: true,
        stateful: false,
        may_inline: false,
        may_help: None,
        may_wait: false,
        resizable: false,
    };
    let host = TestHost::default();
    with_crew(Pool::builder().build(), |leases| {
        let here = Rc::new(ItemContext::new(Arc::clone(&signals)));
        let (leases, meter) = (leases.clone(), MeterSlot::default());
        let sched = Sched::new(&opts, None, shape, None, signals, leases, meter);
        let mut worker = Worker::new(sched.core.lock().enlist(), here);
        let chunk = sched.single(&mut sched.core.lock(), 0, 7);
        sched.disown(&mut sched.core.lock(), chunk);
        prepare(&sched);
        let found = sched.seek(&host, &mut worker, sched.core.lock());
        assert!(found.is_ok(), "the chunk");
    });
    host.leased.get()
}

/// The request for room has been answered, and the thread that was woken for it finds something else first.
#[test]
fn who_is_woken_for_room_and_finds_something_else_passes_it_on() {
    assert_eq!(called(|_| {}), 1);
}

#[test]
fn nobody_is_called_for_room_that_there_is_not() {
    let asked = |sched: &Sched<usize, ()>| sched.signals.wait_for_room(9);
    assert_eq!(called(asked), 0, "the consumer will");
    let ended = |sched: &Sched<usize, ()>| sched.core.lock().end = Some(1);
    assert_eq!(called(ended), 0);
    let consumers = |sched: &Sched<usize, ()>| sched.core.lock().inline = Inline::On;
    assert_eq!(called(consumers), 0);
}

/// Nobody pulls, and the consumer may not come for what is left.
#[test]
fn a_stage_that_waits_for_its_consumer_is_watched() {
    let wanted = |sched: &Sched<usize, ()>| sched.core.lock().inline = Inline::Wanted;
    assert_eq!(called(wanted), 1);
}
