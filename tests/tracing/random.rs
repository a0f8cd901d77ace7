//! Random pipelines, with faults: whatever happens, no span is left open, and each panic is told once.

use crate::support::{SOON, mix, payload, within};
use crate::tree::Tree;
use fanfold::{Fanfold, merge};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tracing::info_span;

type Boxed = Box<dyn Iterator<Item = u64> + Send>;

/// Panics now and then, and counts that.
#[derive(Clone)]
struct Faults {
    seed: u64,
    panics: Arc<AtomicUsize>,
}

impl Faults {
    fn pass(&self, x: u64) -> u64 {
        // In a third of all pipelines, at one of hundreds.
        if self.seed % 3 == 0 && mix(self.seed ^ mix(x)) % 400 == 0 {
            self.panics.fetch_add(1, SeqCst);
            resume_unwind(Box::new(format!("fault {x}")));
        }
        x
    }
}

fn pipeline(seed: u64, faults: &Faults) -> Boxed {
    let at_source = faults.clone();
    let mut items: Boxed = Box::new((0..mix(seed) % 200).map(move |x| at_source.pass(x)));
    // At least one, as otherwise no stage would see a panic.
    for step in 1..=1 + mix(seed ^ 1) % 3 {
        let (dice, f) = (mix(seed ^ (step << 8)), faults.clone());
        let (n, bound) = ((1 + dice % 9) as usize, (1 + (dice >> 8) % 40) as usize);
        let run = move |x: u64| f.pass(x.wrapping_add(step));
        items = match (dice >> 16) % 9 {
            0 => Box::new(items.par_map_ordered(n, run).in_flight(bound)),
            1 => Box::new(items.par_map_unordered(n, run).trace_items()),
            2 => Box::new(items.par_map_ordered(n, run).in_flight(bound).trace_items()),
            3 => Box::new(items.par_map_by_key(n, |x| x % 5, run).named("keyed")),
            4 => Box::new(items.par_flat_map(n, move |x| [run(x), x]).in_flight(bound)),
            5 => Box::new(items.readahead(bound)),
            6 => Box::new(merge([items, Box::new(0..20)])),
            7 => Box::new(items.par_map_ordered(n, move |x| {
                (0..x % 4).par_map_ordered(2, |y| y).sum::<u64>()
            })),
            _ => Box::new(
                items
                    .par_filter(n, |x| x % 2 == 0)
                    .isolate()
                    .filter_map(Result::ok),
            ),
        };
    }
    items
}

#[test]
fn nothing_is_left_open_after_a_thousand_pipelines() {
    let panics = within(SOON * 8, || {
        let mut all = 0;
        for seed in 0..1000 {
            let tree = Tree::new();
            let panics = Arc::default();
            let faults = Faults { seed, panics };
            let ended = payload(|| {
                tree.run(|| {
                    let _request = info_span!("request").entered();
                    let items = pipeline(seed, &faults);
                    match mix(seed ^ 2) % 3 {
                        0 => items.take((mix(seed ^ 3) % 50) as usize).count(),
                        _ => items.count(),
                    }
                })
            });
            let panics = faults.panics.load(SeqCst);
            assert!(ended.is_ok() || panics > 0, "seed {seed}");
            assert_eq!(tree.warnings().len(), panics, "seed {seed}");
            tree.assert_closed();
            all += panics;
        }
        all
    });
    assert!(panics > 50, "{panics} panics prove little");
}
