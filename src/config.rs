//! The width of a stage.

use crate::sync;
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
pub struct Workers {
    n: usize,
    /// It is the most that the stage chooses for itself.
    is_cap: bool,
}

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
        Workers::from(sync::cores())
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
        let all = (Workers::cpus().n as f64 * each).ceil();
        Workers::from(all.clamp(1.0, 4096.0) as usize)
    }

    /// A width that finds itself while the stage runs: as many workers as are of use, and at most `cap`.
    ///
    /// The stage begins with one worker per core. It measures how long items take, how much of that they use a CPU, and how
    /// many are finished. As long as closures run all the time and cores are left over, it doubles its width, and keeps what
    /// finishes more. So closures that compute get a worker per core, and closures that wait get as many as the cores,
    /// the server or the lock behind them can serve: for items of 10 ms, the step from 2 to 256 takes a second. It follows
    /// when the work changes, gives back workers that a slow source or consumer leaves without work, and looks now and
    /// then whether another width is better. [`Snapshot::width_reason`](crate::stats::Snapshot::width_reason) says why it
    /// is where it is. `docs/faster.md` has figures.
    ///
    /// For stages that run one closure per item: in order, without an order, by key. As with a
    /// [handle](crate::Stage::workers_handle), the consumer runs no items in such a stage, however cheap they are, and
    /// without [`in_flight`](crate::Stage::in_flight) the bound follows the width. It keeps statistics, at their price.
    ///
    /// How much items use a CPU is only known with the feature `cpu-time`, on Unix. Elsewhere nothing but the test remains,
    /// whether more workers finish more; so closures that compute have twice as many workers as cores for a moment.
    ///
    /// # Panics
    ///
    /// If `cap` is 0. And in calls that have a fixed width: `par_flat_map`, `push_map_ordered`, `group`, and
    /// [`WorkersHandle::set`](crate::WorkersHandle::set).
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Workers};
    ///
    /// let mut pages = (0..1000).par_map_ordered(Workers::auto(64), |page| page * 2);
    /// let stats = pages.stats();
    /// assert_eq!(pages.max(), Some(1998));
    /// let end = stats.snapshot();
    /// println!("{} workers: {}", end.width, end.width_reason.unwrap());
    /// ```
    #[doc(alias("adaptive", "autoscale", "autotune", "dynamic"))]
    #[track_caller]
    pub fn auto(cap: usize) -> Self {
        assert!(
            cap > 0,
            "Workers::auto needs a cap of at least 1: the most workers that the stage may have"
        );
        Workers {
            n: cap,
            is_cap: true,
        }
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
            Some(n) => Workers::from(n),
        }
    }

    /// The number; of [`auto`](Self::auto) the cap.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(fanfold::Workers::from(3).get(), 3);
    /// ```
    pub fn get(self) -> usize {
        self.n
    }

    /// With how many a stage begins, and the cap if it changes that itself.
    #[track_caller]
    pub(crate) fn begin(self) -> (usize, Option<usize>) {
        if self.is_cap {
            (Workers::cpus().n.min(self.n), Some(self.n))
        } else {
            (self.checked(), None)
        }
    }

    /// The number, after checking that something of a fixed width can work with it.
    #[track_caller]
    pub(crate) fn checked(self) -> usize {
        assert!(
            !self.is_cap,
            "Workers::auto is for stages that run one closure per item, such as par_map_ordered, \
             par_map_unordered and par_map_by_key; here the width is fixed: write a number, or Workers::cpus()"
        );
        assert!(
            self.n > 0,
            "the number of workers must be at least 1: write 1 for one at a time, or \
             Workers::cpus() for one per core"
        );
        self.n
    }
}

impl From<usize> for Workers {
    fn from(n: usize) -> Self {
        Workers { n, is_cap: false }
    }
}

impl From<NonZeroUsize> for Workers {
    fn from(n: NonZeroUsize) -> Self {
        Workers::from(n.get())
    }
}
