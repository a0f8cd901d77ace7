//! A number of items per time.

use std::num::NonZeroU32;
use std::time::Duration;

/// The highest rate; a faster one is clamped to it.
const FASTEST: u32 = u32::MAX;
const SECOND: Duration = Duration::from_secs(1);

/// How many items may pass in what time, and how many of them at once. Needs the feature `throttle`.
///
/// Every rate also accepts a number: `10` or `2.5` items per second. Unless [`burst`](Self::burst)
/// says otherwise, items pass one by one, evenly spaced. Rates above 4,294,967,295 per second and
/// times above 584 years are clamped to these.
///
/// # Panics
///
/// A rate that is 0, negative, infinite or not a number panics in the call that takes it.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Rate};
/// use std::time::Duration;
///
/// // 5 at once, then one every 20 ms
/// let quick = (0..7).throttle(Rate::from(50).burst(5));
/// assert_eq!(quick.count(), 7);
///
/// // 100 per hour
/// let mut slow = (0..7).throttle(Rate::per(100, Duration::from_secs(3600)));
/// assert_eq!(slow.next(), Some(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    items: Items,
    pub(super) burst: NonZeroU32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Items {
    Per(u32, Duration),
    PerSecond(f64),
}

impl From<u32> for Rate {
    fn from(items: u32) -> Self {
        Rate::new(Items::Per(items, SECOND))
    }
}

impl From<f64> for Rate {
    fn from(items: f64) -> Self {
        Rate::new(Items::PerSecond(items))
    }
}

impl Rate {
    /// `n` items in this time.
    ///
    /// # Panics
    ///
    /// If either is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Rate;
    /// use std::time::Duration;
    ///
    /// let every_minute = Rate::per(1, Duration::from_secs(60));
    /// ```
    #[track_caller]
    pub fn per(n: u32, time: Duration) -> Self {
        assert!(
            !time.is_zero(),
            "the time of a rate must be more than 0: write Rate::per(n, Duration::from_secs(1)) for \
             n items a second"
        );
        let rate = Rate::new(Items::Per(n, time));
        rate.ratio();
        rate
    }

    /// Lets up to `n` items pass at once when none has passed for a while; 1 by default.
    ///
    /// So the very first `n` items pass at once. In any time `t`, at most `rate · t + n` items pass.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Limiter, Rate};
    ///
    /// let limiter = Limiter::new(Rate::from(0.001).burst(3));
    /// assert_eq!((0..9).filter(|_| limiter.try_acquire()).count(), 3);
    /// ```
    #[track_caller]
    #[must_use = "it is a new rate: this one does not change"]
    pub fn burst(mut self, n: u32) -> Self {
        self.burst = NonZeroU32::new(n).expect(
            "the burst of a rate must be at least 1: write burst(1) for items one by one, or leave \
             it out",
        );
        self
    }

    fn new(items: Items) -> Self {
        Rate {
            items,
            burst: NonZeroU32::MIN,
        }
    }

    /// The rate as a number of items in a number of nanoseconds.
    #[track_caller]
    pub(super) fn ratio(self) -> (u64, u64) {
        const FIX: &str = "a rate must be more than 0 items a second: write 1 for one a second, 0.1 \
                           for one in ten seconds, or leave the throttle out for no limit";
        const NANOS: f64 = 1e9;
        const PARTS: f64 = 1e6;
        match self.items {
            Items::Per(n, time) => {
                assert!(n > 0, "{FIX}; not 0");
                let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let fastest = u128::from(FASTEST) * u128::from(nanos);
                if u128::from(n) * SECOND.as_nanos() > fastest {
                    return (FASTEST.into(), NANOS as u64);
                }
                (n.into(), nanos)
            }
            Items::PerSecond(n) => {
                assert!(n > 0.0 && n.is_finite(), "{FIX}; not {n}");
                if n < 1.0 {
                    return (1, (NANOS / n).round() as u64);
                }
                let n = n.min(f64::from(FASTEST));
                ((n * PARTS).round() as u64, (NANOS * PARTS) as u64)
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
