use crate::ordered::signals::lone;
use crate::ordered::weight::Weights;
use crate::runtime::barrier::Light;
use std::collections::BTreeMap;

/// A small generator: any sequence will do.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Pulls and takes at random, and compares with a map of what is in flight.
#[test]
fn it_agrees_with_a_map() {
    for (seed, ordered) in (0..200).flat_map(|seed| [(seed, true), (seed, false)]) {
        let (mut dice, limit) = (Dice(seed), 1 + seed % 40);
        let (signals, _consumer) = lone();
        let weights = Weights::new(limit as usize, 2, ordered);
        let (mut seq, mut yielded, mut in_flight) = (0, 0, BTreeMap::new());
        let mut in_hand = None;
        for _ in 0..300 {
            let sum: u64 = in_flight.values().sum();
            let fits = |weight| in_flight.is_empty() || sum + weight <= limit;
            if dice.roll(2) == 0 {
                let mut hand = weights.hand(&signals, seq);
                let held = hand.take_held();
                assert_eq!(held.map(|(_, weight)| weight), in_hand.take());
                let weight = held.map_or_else(|| dice.roll(20), |(_, weight)| weight);
                // What fits is decided by all that was taken until now.
                if fits(weight) {
                    assert_eq!(hand.add(seq, weight), Some(seq));
                    in_flight.insert(seq, weight);
                    seq += 1;
                } else {
                    assert_eq!(hand.add(seq, weight), None);
                    in_hand = Some(weight);
                }
            } else if !in_flight.is_empty() {
                let nth = if ordered {
                    0
                } else {
                    dice.roll(in_flight.len() as u64)
                };
                let taken = *in_flight.keys().nth(nth as usize).expect("one of them");
                weights.taken(taken);
                yielded += 1;
                let _ = signals.set_yielded(yielded, Light::new());
                in_flight.remove(&taken);
            }
            let sum: u64 = in_flight.values().sum();
            let next = in_hand.unwrap_or(1);
            let fits = in_flight.is_empty() || sum + next <= limit;
            assert_eq!(weights.has_room(&signals), fits, "seed {seed}");
            let at = weights.room_at(&signals, 1);
            if fits {
                assert_eq!(at, 0);
            } else {
                // It comes, when all that is in flight is yielded at the latest.
                assert!(
                    yielded < at && at <= yielded + in_flight.len() as u64,
                    "seed {seed}"
                );
                let left: u64 = in_flight.range(at..).map(|(_, weight)| weight).sum();
                assert!(!ordered || at == seq || left + next <= limit, "seed {seed}");
            }
        }
        let held = weights.into_held();
        assert_eq!(held.is_some(), in_hand.is_some());
    }
}

#[test]
fn what_has_passed_a_slow_item_is_forgotten() {
    let (signals, _consumer) = lone();
    let weights = Weights::new(1_000, 2, false);
    for seq in 0..10_000 {
        assert!(weights.hand(&signals, seq).add(seq, 1).is_some());
        if seq > 0 {
            weights.taken(seq);
        }
        assert!(weights.has_room(&signals));
    }
    assert!(weights.load.lock().items.len() < 100);
}
