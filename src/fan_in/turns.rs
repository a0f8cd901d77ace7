//! The order in which the consumer takes from lanes that have something.

use crate::fan_in::lane::LaneOpts;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The order in which the consumer takes from lanes that have something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rule {
    /// In turn, in the order in which the lanes got something. In a round each lane gives as many
    /// items as its weight, and none gives more before all lanes that have something have given theirs.
    #[default]
    Turns,
    /// Always from the lane that was added first.
    Priority,
}

/// The lanes that have something, in the order in which to take from them.
#[derive(Debug)]
pub(super) struct TurnOrder {
    rule: Rule,
    ring: VecDeque<usize>,
    /// The lanes that have used up their share of this round.
    spent: VecDeque<usize>,
    round: u64,
    /// For each lane: its weight, the round of its credit, and the credit left.
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
        // A lane that drops its oldest item may be in the ring twice.
        let (_, _, credit) = &mut self.lanes[index];
        *credit = credit.saturating_sub(1);
        Some(index)
    }
}
