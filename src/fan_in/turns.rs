//! In which order the consumer takes from lanes that have something.

use crate::fan_in::lane::LaneOpts;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// In which order the consumer takes from lanes that have something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rule {
    /// In turn, in the order in which they came to have something. In a round each gives as many
    /// items as its weight says, and none gives more before all that have something have given theirs.
    #[default]
    Turns,
    /// Always from the one that was added first.
    Priority,
}

/// The lanes that have something, in the order in which they are to be taken from.
#[derive(Debug)]
pub(super) struct TurnOrder {
    rule: Rule,
    ring: VecDeque<usize>,
    /// Those that have had their share of this round.
    spent: VecDeque<usize>,
    round: u64,
    /// Of each lane: weight, the round of its credit, and what is left of that.
    lanes: Vec<(u32, u64, u32)>,
    ranked: BinaryHeap<Reverse<usize>>,
}

impl TurnOrder {
    pub(super) fn new(rule: Rule) -> Self {
        TurnOrder {
            rule,
            ring: VecDeque::new(),
            spent: VecDeque::new(),
            round: 0,
            lanes: Vec::new(),
            ranked: BinaryHeap::new(),
        }
    }

    pub(super) fn lane(&mut self, opts: &LaneOpts) {
        self.lanes.push((opts.weight, 0, opts.weight));
    }

    /// A lane has something, or still has.
    pub(super) fn add(&mut self, index: usize) {
        match self.rule {
            Rule::Priority => self.ranked.push(Reverse(index)),
            Rule::Turns => {
                let (weight, round, credit) = &mut self.lanes[index];
                if *round != self.round {
                    (*round, *credit) = (self.round, *weight);
                }
                if *credit > 0 {
                    self.ring.push_back(index);
                } else {
                    self.spent.push_back(index);
                }
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<usize> {
        if self.rule == Rule::Priority {
            return self.ranked.pop().map(|Reverse(index)| index);
        }
        if self.ring.is_empty() && !self.spent.is_empty() {
            self.round += 1;
            for index in std::mem::take(&mut self.spent) {
                self.add(index);
            }
        }
        let index = self.ring.pop_front()?;
        // A lane that drops its oldest may be here twice.
        let (_, _, credit) = &mut self.lanes[index];
        *credit = credit.saturating_sub(1);
        Some(index)
    }
}
