//! What the primitives cost that the simulator counts with.

/// Nanoseconds each, as `scale measure` prints them.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// A reading of the clock.
    pub clock: f64,
    /// An uncontended lock and unlock.
    pub lock: f64,
    /// A cache line that moves from one core to another.
    pub line: f64,
    /// A line that another core has written, where many are loaded side by side.
    pub glance: f64,
    /// From the call that wakes a thread until that thread runs.
    pub wake: f64,
    /// That call, to the thread that makes it.
    pub unpark: f64,
    /// 200 tries for a source that is taken.
    pub tries: f64,
    /// A heavy barrier while one other core runs a thread of the process.
    pub barrier: f64,
    /// The same, to a thread that it interrupts.
    pub interrupt: f64,
    /// A nap that ends, to the napping thread.
    pub nap: f64,
    /// The same, to the thread that was on the core.
    pub displaced: f64,
    /// How much later than asked for a nap ends.
    pub late: f64,
    /// The pull of an item from a source that costs nothing.
    pub pull: f64,
    /// What a worker does around the closure of an item.
    pub around: f64,
    /// What the consumer does for an item.
    pub consume: f64,
}

impl Costs {
    /// Two virtual cores of an Intel Xeon (Sapphire Rapids) at 2.3 GHz, Linux 6.18, 2026-11-29.
    pub const MEASURED: Costs = Costs {
        clock: 22.0,
        lock: 14.0,
        line: 66.0,
        glance: 8.3,
        wake: 24_000.0,
        unpark: 8_300.0,
        tries: 5_300.0,
        barrier: 9_100.0,
        interrupt: 6_700.0,
        nap: 12_200.0,
        displaced: 24_000.0,
        late: 62_000.0,
        pull: 4.8,
        around: 0.9,
        consume: 2.1,
    };

    /// Costs that are nothing, for plants with known answers.
    #[cfg(test)]
    pub const NONE: Costs = Costs {
        clock: 0.0,
        lock: 0.0,
        line: 0.0,
        glance: 0.0,
        wake: 0.0,
        unpark: 0.0,
        tries: 0.0,
        barrier: 0.0,
        interrupt: 0.0,
        nap: 0.0,
        displaced: 0.0,
        late: 0.0,
        pull: 0.0,
        around: 0.0,
        consume: 0.0,
    };

    /// A section of the scheduler's lock: ten lines move for a chunk, in four sections.
    pub fn section(&self) -> f64 {
        self.lock + 2.5 * self.line
    }

    /// A look at the chunks of all workers, which write their counters all the time: a line of each.
    pub fn scan(&self, workers: usize) -> f64 {
        self.glance * workers as f64
    }

    /// A heavy barrier while so many other cores run threads of the process. One of them is measured. Each
    /// further one is assumed to cost a line that goes there and comes back, as the kernel asks all of them
    /// and then waits for all.
    pub fn heavy(&self, others: usize) -> f64 {
        match others {
            0 => self.lock,
            others => self.barrier + 2.0 * self.line * (others - 1) as f64,
        }
    }
}
