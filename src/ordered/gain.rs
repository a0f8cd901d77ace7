//! What a stage gains by its threads, by measured rates; pure, with times from outside.
//!
//! What items cost in the workers says little about what they cost in a loop: there the lines of the source and
//! the allocator's lists stay on one core, and no other program has the second one. So where the gain is in
//! doubt, the consumer runs the items itself for some milliseconds (`inline.rs`), and the stage goes on in the
//! better way. It looks again later: soon at first, and then less and less often as long as the answer is the
//! same.
//!
//! | the stage | as long as | then |
//! | --- | --- | --- |
//! | fans out | a [`WINDOW`], to get going, and [some more](DOUBTS) | if the rate in all of them is in doubt, a trial begins |
//! | runs inline, on trial | a look of the watcher, to get going, and [some more](TRIAL) | the trial is [judged](Gain::judge) |
//! | has chosen | a [stay](Gain::stay), from 32 ms to half a second | it fans out, and measures, again |

use crate::sync::Instant;
use std::time::Duration;

/// For so long the rate of the threads is measured.
const WINDOW: Duration = Duration::from_millis(4);
/// If results come less than this much faster than the workers' own times say for one thread, there is doubt.
const DOUBT: f32 = 1.4;
/// So many windows in a row must raise it: more than one, as something may have held up the whole machine. If threads
/// were not worth it when this was last tried, one is enough.
const DOUBTS: u32 = 2;
const DOUBTS_AGAIN: u32 = 1;
/// Within a short bound, where the consumer does not nap, shorter ones do if results come in each of them that many
/// times slower than for one thread, and otherwise more of them.
const SHORT_WINDOW: Duration = Duration::from_millis(2);
const SHORT_DOUBTS: u32 = 3;
const CLEAR_DOUBTS: u32 = 2;
const CLEAR_DOUBT: f32 = 3.0;
/// Fanning out must gain this much, or it is not worth its threads.
const WORTH: f32 = 1.05;
/// In nanoseconds. Longer items and pulls are not tried: a few milliseconds say little about them, and a source
/// that blocks is better waited for by a worker.
const LONG_ITEM: f32 = 50_000.0;
const LONG_PULL: f32 = 5_000.0;
/// A look of the watcher that is shorter says too little.
const LOOK: Duration = Duration::from_micros(500);
/// So long a trial lasts, or until it is clearly worse. In the first look what the workers have left in the caches
/// and in the allocator's lists is still in the way.
const TRIAL: Duration = Duration::from_millis(2);
/// One way is clearly worse if it is this many times as slow.
const CLEAR: f32 = 1.5;

const STAY: Duration = Duration::from_millis(32);
/// The first one if the chosen way is better by this much: two threads that happen to begin on one core look as if they
/// gained nothing, but no worse than that.
const CLEAR_STAY: Duration = Duration::from_millis(128);
const BY_FAR: f32 = 1.25;
const LONGEST_STAY: Duration = Duration::from_millis(512);

/// What became of a look at a stage that runs inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new.
    Stay,
    /// The stage must fan out: because it gains by that, or to look again whether it does.
    FanOut,
}

/// How many items there were so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) yielded: u64,
    /// By workers, in chunks that are over.
    pub(super) ran: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Gain {
    /// When the window began, and at what counts.
    window: Option<(Instant, Counts)>,
    /// The stage has fanned out for a window: its chunks are as long as they should be.
    warm: bool,
    /// How many windows in a row have raised doubt, and what a result took in them on average, in nanoseconds.
    doubts: u32,
    fan_out: f32,
    /// How many of the last doubts were clear.
    clear: u32,
    /// The stage runs inline because of a trial, which may not be judged yet.
    tried: bool,
    /// How many items the consumer has run on trial, and in which time. `None`: not even the first look is over.
    inline_rate: Option<(u64, Duration)>,
    /// Until when the choice is not looked at again, and which it was.
    until: Option<Instant>,
    inline: bool,
    stay: Duration,
}

impl Gain {
    pub(super) fn new() -> Self {
        Gain {
            window: None,
            warm: false,
            doubts: 0,
            fan_out: 0.0,
            clear: 0,
            tried: false,
            inline_rate: None,
            until: None,
            inline: false,
            stay: STAY,
        }
    }

    /// The stage fans out. `item` and `pull`: what an item takes in the closure and in the source, in nanoseconds.
    /// `short`: all that is in flight is done in a moment. `true`: try whether the consumer does better.
    pub(super) fn is_doubtful(
        &mut self,
        now: Instant,
        counts: Counts,
        (item, pull): (f32, f32),
        short: bool,
    ) -> bool {
        if self.until.is_some_and(|until| now < until) {
            self.cool();
            return false;
        }
        let (since, from) = *self.window.get_or_insert((now, counts));
        let time = now.duration_since(since);
        // What is yielded comes in a rush after each nap of the consumer. Within a short bound it does not nap, but runs
        // items itself.
        let count = if short {
            counts.yielded - from.yielded
        } else {
            counts.ran - from.ran
        };
        if time < if short { SHORT_WINDOW } else { WINDOW } {
            return false;
        }
        self.window = Some((now, counts));
        if !std::mem::replace(&mut self.warm, true) {
            return false;
        }
        let fan_out = time.as_nanos() as f32 / count.max(1) as f32;
        let may_try = item < LONG_ITEM && pull < LONG_PULL;
        if !may_try || item + pull >= DOUBT * fan_out {
            (self.doubts, self.clear) = (0, 0);
            return false;
        }
        self.doubts += 1;
        self.fan_out += (fan_out - self.fan_out) / self.doubts as f32;
        let clear = short && fan_out >= CLEAR_DOUBT * (item + pull);
        self.clear = if clear { self.clear + 1 } else { 0 };
        let enough = match (short, self.inline) {
            (true, _) => SHORT_DOUBTS,
            (false, false) => DOUBTS,
            (false, true) => DOUBTS_AGAIN,
        };
        self.clear >= CLEAR_DOUBTS || self.doubts >= enough
    }

    /// What follows is not the continuation of what was measured.
    pub(super) fn cool(&mut self) {
        self.window = None;
        self.warm = false;
        (self.doubts, self.clear) = (0, 0);
    }

    /// The stage is to run inline. `tried`: because there is doubt.
    pub(super) fn begin(&mut self, tried: bool) {
        self.cool();
        self.tried = tried;
        self.inline_rate = None;
        self.until = None;
    }

    /// Whether a trial has just shown that the stage gains by its threads.
    pub(super) fn is_for_threads(&self, now: Instant) -> bool {
        !self.inline && self.until.is_some_and(|until| now < until)
    }

    /// Whether it runs inline because of a trial.
    pub(super) fn is_tried(&self) -> bool {
        self.tried
    }

    /// The watcher has seen the consumer run so many items in this time.
    pub(super) fn judge(&mut self, now: Instant, moved: u64, time: Duration) -> Verdict {
        if let Some(until) = self.until {
            // It was judged, and stays until then.
            return if now < until {
                Verdict::Stay
            } else {
                Verdict::FanOut
            };
        }
        if !self.tried || time < LOOK {
            return Verdict::Stay;
        }
        let Some((before, so_far)) = self.inline_rate else {
            self.inline_rate = Some((0, Duration::ZERO));
            return Verdict::Stay;
        };
        let (moved, time) = (before + moved, so_far + time);
        let each = time.as_nanos() as f32 / moved.max(1) as f32;
        if time < TRIAL && each < CLEAR * self.fan_out {
            self.inline_rate = Some((moved, time));
            return Verdict::Stay;
        }
        let inline = each <= WORTH * self.fan_out;
        let (better, worse) = if inline {
            (each, self.fan_out)
        } else {
            (self.fan_out, each)
        };
        self.choose(now, inline, worse >= BY_FAR * better);
        if inline {
            Verdict::Stay
        } else {
            Verdict::FanOut
        }
    }

    fn choose(&mut self, now: Instant, inline: bool, by_far: bool) {
        // As long as the answer is the same, it is asked less and less often.
        let least = if by_far { CLEAR_STAY } else { STAY };
        self.stay = if inline == self.inline {
            (2 * self.stay).clamp(least, LONGEST_STAY)
        } else {
            least
        };
        self.inline = inline;
        self.until = now.checked_add(self.stay);
    }

    /// The stage fans out again.
    pub(super) fn end(&mut self, now: Instant) {
        self.cool();
        if !std::mem::take(&mut self.tried) {
            return;
        }
        match self.until {
            // Before it was judged: the consumer is away, or in a long closure.
            None => self.choose(now, false, false),
            // To look again.
            Some(_) if self.inline => self.until = None,
            Some(_) => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
