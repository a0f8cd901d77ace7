//! What the items cost in their closures.

/// Nanoseconds: `short` for most items, `long` for the first of each `every`.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Most items.
    short: f64,
    /// Each so many there is a long one.
    every: u64,
    /// The first of these.
    long: f64,
}

impl Work {
    /// Items of one cost.
    pub const fn even(short: f64) -> Self {
        Work {
            short,
            every: 1,
            long: short,
        }
    }

    /// Items of two costs.
    pub const fn skewed(short: f64, every: u64, long: f64) -> Self {
        Work { short, every, long }
    }

    /// The time of all items from `from` to before `to`, one after the other.
    pub fn time(&self, from: u64, to: u64) -> f64 {
        let long_before = |seq: u64| seq.div_ceil(self.every);
        let long = (long_before(to) - long_before(from)) as f64;
        let all = (to - from) as f64;
        (all - long) * self.short + long * self.long
    }

    /// How many of the items from `from` to before `to` are done after this time, with `around` for each
    /// besides.
    pub fn done(&self, from: u64, to: u64, elapsed: f64, around: f64) -> u64 {
        let (mut done, mut more) = (from, to);
        // The time never falls with the count, so half of what is left is ruled out at each step.
        while done < more {
            let middle = done + (more - done).div_ceil(2);
            if self.time(from, middle) + around * (middle - from) as f64 <= elapsed {
                done = middle;
            } else {
                more = middle - 1;
            }
        }
        done - from
    }
}
