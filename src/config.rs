//! The width of a stage.

use std::num::NonZeroUsize;
use std::time::Duration;

/// How many closures a stage runs at once.
///
/// Every width also accepts a plain `usize`: `par_map_ordered(8, f)`. The width is exact, never
/// clipped to the number of cores: 256 blocking calls really run 256 at a time. No more threads are
/// started than there is work for.
///
/// # Panics
///
/// A width of 0 panics in the call that takes it, as `step_by(0)` does.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Workers};
///
/// assert_eq!((0..100).par_map_ordered(3, |x| x * 2).max(), Some(198));
/// assert_eq!((0..100).par_map_ordered(Workers::cpus(), |x| x * 2).max(), Some(198));
/// ```
#[doc(alias("num_threads", "concurrency", "parallelism"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workers(usize);

impl Workers {
    /// One worker per core: for work that computes.
    ///
    /// The value of [`available_parallelism`](std::thread::available_parallelism), or 1 if that is unknown.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(fanfold::Workers::cpus().get() >= 1);
    /// ```
    pub fn cpus() -> Self {
        Workers(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }

    /// The number of workers that keeps every core busy when each item waits for `wait` and
    /// computes for `cpu`: cores × (1 + wait / cpu), rounded up, and at most 4,096.
    ///
    /// The formula is from Brian Goetz and others, *Java Concurrency in Practice* (2006), 8.2.
    ///
    /// # Panics
    ///
    /// If `cpu` is zero, because then no number of workers is enough: write the number instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Workers;
    /// use std::time::Duration;
    ///
    /// let ms = Duration::from_millis;
    /// assert_eq!(Workers::io(ms(30), ms(10)).get(), 4 * Workers::cpus().get());
    /// ```
    #[track_caller]
    #[allow(clippy::cast_sign_loss)]
    pub fn io(wait: Duration, cpu: Duration) -> Self {
        assert!(
            !cpu.is_zero(),
            "Workers::io needs the time that an item computes; for work that only waits, write \
             the number of workers: at least 1"
        );
        let each = 1.0 + wait.as_secs_f64() / cpu.as_secs_f64();
        let all = (Workers::cpus().0 as f64 * each).ceil();
        Workers(all.clamp(1.0, 4096.0) as usize)
    }

    /// The number in an environment variable, or `default` if the variable is not set or empty.
    ///
    /// # Panics
    ///
    /// If the variable holds anything but a number of at least 1: a typo must not silently give
    /// another width.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Workers;
    ///
    /// assert_eq!(Workers::from_env("NO_SUCH_VARIABLE", 4).get(), 4);
    /// ```
    #[track_caller]
    pub fn from_env(name: &str, default: impl Into<Workers>) -> Self {
        let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else {
            return default.into();
        };
        let number = value.to_str().and_then(|text| text.trim().parse().ok());
        match number {
            Some(0) | None => panic!(
                "the environment variable {name} is {value:?}; it must be a number of workers, at \
                 least 1, or not set"
            ),
            Some(n) => Workers(n),
        }
    }

    /// The number.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(fanfold::Workers::from(3).get(), 3);
    /// ```
    pub fn get(self) -> usize {
        self.0
    }

    /// The number, after checking that a stage can work with it.
    #[track_caller]
    pub(crate) fn checked(self) -> usize {
        assert!(
            self.0 > 0,
            "the number of workers must be at least 1: write 1 for one at a time, or \
             Workers::cpus() for one per core"
        );
        self.0
    }
}

impl From<usize> for Workers {
    fn from(n: usize) -> Self {
        Workers(n)
    }
}

impl From<NonZeroUsize> for Workers {
    fn from(n: NonZeroUsize) -> Self {
        Workers(n.get())
    }
}
