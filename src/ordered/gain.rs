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
//! | runs inline, on trial | one look of the watcher, of half a millisecond at least | the trial is [judged](Gain::judge) |
//! | has chosen | a [stay](Gain::stay), from 32 ms to half a second | it fans out, and measures, again |

use crate::sync::Instant;
use std::time::Duration;

/// For so long the rate of the threads is measured.
const WINDOW: Duration = Duration::from_millis(4);
/// A rate of fewer items is not believed.
const ENOUGH: u64 = 64;
/// If results come less than this much faster than the workers' own times say for one thread, there is doubt.
const DOUBT: f32 = 1.4;
/// So many windows in a row must raise it.
const DOUBTS: u32 = 3;
/// Fanning out must gain this much, or it is not worth its threads.
const WORTH: f32 = 1.05;
/// In nanoseconds. Longer items and pulls are not tried: a few milliseconds say little about them, and a source
/// that blocks is better waited for by a worker.
const LONG_ITEM: f32 = 20_000.0;
const LONG_PULL: f32 = 5_000.0;
/// A look of the watcher that is shorter says too little.
const LOOK: Duration = Duration::from_micros(500);

const STAY: Duration = Duration::from_millis(32);
const LONGEST_STAY: Duration = Duration::from_millis(512);

/// What became of a look at a stage that runs inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing new.
    Stay,
    /// The stage must fan out: because it gains by that, or to look again whether it does.
    FanOut,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Gain {
    /// Where the window began, and at how many results.
    window: Option<(Instant, u64)>,
    /// The stage has fanned out for a window: its chunks are as long as they should be.
    warm: bool,
    /// How many windows in a row have raised doubt, and what a result took in the best of them, in nanoseconds.
    doubts: u32,
    fan_out: f32,
    /// The stage runs inline because of a trial, which may not be judged yet.
    tried: bool,
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
            tried: false,
            until: None,
            inline: false,
            stay: STAY,
        }
    }

    /// The stage fans out, and has yielded so many results. `item` and `pull`: what an item takes in the closure
    /// and in the source, in nanoseconds. `true`: try whether the consumer does better.
    pub(super) fn is_doubtful(
        &mut self,
        now: Instant,
        yielded: u64,
        (item, pull): (f32, f32),
    ) -> bool {
        if self.until.is_some_and(|until| now < until) {
            self.cool();
            return false;
        }
        let (since, from) = *self.window.get_or_insert((now, yielded));
        let time = now.duration_since(since);
        let count = yielded - from;
        if time < WINDOW {
            return false;
        }
        self.window = Some((now, yielded));
        if !std::mem::replace(&mut self.warm, true) {
            return false;
        }
        let fan_out = time.as_nanos() as f32 / count.max(1) as f32;
        let short = item < LONG_ITEM && pull < LONG_PULL && count >= ENOUGH;
        if !short || item + pull >= DOUBT * fan_out {
            self.doubts = 0;
            return false;
        }
        // The kernel may have had two threads on one core for a while.
        self.fan_out = if self.doubts == 0 {
            fan_out
        } else {
            fan_out.min(self.fan_out)
        };
        self.doubts += 1;
        self.doubts >= DOUBTS
    }

    /// What follows is not the continuation of what was measured.
    pub(super) fn cool(&mut self) {
        self.window = None;
        self.warm = false;
        self.doubts = 0;
    }

    /// The stage is to run inline. `tried`: because there is doubt.
    pub(super) fn begin(&mut self, tried: bool) {
        self.cool();
        self.tried = tried;
        self.until = None;
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
        let inline = time.as_nanos() as f32 / moved.max(1) as f32 <= WORTH * self.fan_out;
        self.choose(now, inline);
        if inline {
            Verdict::Stay
        } else {
            Verdict::FanOut
        }
    }

    fn choose(&mut self, now: Instant, inline: bool) {
        // As long as the answer is the same, it is asked less and less often.
        self.stay = if inline == self.inline {
            (2 * self.stay).min(LONGEST_STAY)
        } else {
            STAY
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
            None => self.choose(now, false),
            // To look again.
            Some(_) if self.inline => self.until = None,
            Some(_) => {}
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
