use super::*;
use quickcheck::QuickCheck;
use std::collections::BTreeMap;

fn waiter() -> Arc<Waiter> {
    Arc::new(Waiter::new(Parker::new().unparker().clone()))
}

/// The rules, as simple as they can be told.
struct Rules {
    free: usize,
    line: Vec<(u64, usize)>,
}

impl Rules {
    /// Who gets permits now.
    fn hand_over(&mut self) -> Vec<u64> {
        let mut served = Vec::new();
        while self
            .line
            .first()
            .is_some_and(|(_, weight)| *weight <= self.free)
        {
            let (turn, weight) = self.line.remove(0);
            self.free -= weight;
            served.push(turn);
        }
        served
    }
}

/// A line beside the rules.
struct Pair {
    line: Line,
    rules: Rules,
    /// Every thread that has ever waited, by turn.
    waiters: BTreeMap<u64, Arc<Waiter>>,
    /// What is held.
    taken: Vec<usize>,
    weights: BTreeMap<u64, usize>,
}

impl Pair {
    fn served(&mut self, woken: &[Arc<Waiter>]) {
        let served = self.rules.hand_over();
        let woken: Vec<u64> = woken
            .iter()
            .map(|waiter| {
                let mut known = self.waiters.iter();
                let (turn, _) = known
                    .find(|(_, known)| Arc::ptr_eq(known, waiter))
                    .expect("known");
                *turn
            })
            .collect();
        assert_eq!(woken, served, "those at the front, in order");
        self.taken
            .extend(served.iter().map(|turn| self.weights[turn]));
    }

    fn step(&mut self, total: usize, random: u16) {
        let (kind, choice) = (random % 4, usize::from(random / 4));
        match kind {
            0 => {
                let weight = choice % (total + 1);
                let may = weight == 0 || self.rules.line.is_empty() && weight <= self.rules.free;
                assert_eq!(self.line.take(weight), may);
                if may {
                    self.rules.free -= weight;
                    self.taken.push(weight);
                }
            }
            1 => {
                let weight = 1 + choice % total;
                // Only one that cannot be served at once joins.
                if self.rules.line.is_empty() && weight <= self.rules.free {
                    return;
                }
                let waiter = waiter();
                let turn = self.line.join(weight, Arc::clone(&waiter), Holds::here());
                assert_eq!(self.waiters.insert(turn, waiter).map(|_| ()), None);
                self.rules.line.push((turn, weight));
                self.weights.insert(turn, weight);
            }
            2 if !self.taken.is_empty() => {
                let weight = self.taken.swap_remove(choice % self.taken.len());
                let woken = self.line.give_back(weight);
                self.rules.free += weight;
                self.served(&woken);
            }
            3 if !self.rules.line.is_empty() => {
                let (turn, weight) = self.rules.line.remove(choice % self.rules.line.len());
                let woken = self.line.leave(turn, weight);
                self.served(&woken);
            }
            _ => {}
        }
        assert_eq!(
            (self.line.free(), self.line.waiting()),
            (self.rules.free, self.rules.line.len())
        );
        for turn in self.waiters.keys() {
            let waits = self.rules.line.iter().any(|(other, _)| other == turn);
            assert_eq!(self.line.is_waiting(*turn), waits);
        }
        let taken: usize = self.taken.iter().sum();
        assert_eq!(self.rules.free + taken, total, "none is lost, none is made");
    }
}

#[test]
fn a_line_keeps_the_rules_whatever_happens() {
    fn keeps(total: u8, steps: Vec<u16>) -> bool {
        let total = 1 + usize::from(total % 9);
        let mut pair = Pair {
            line: Line::new(total),
            rules: Rules {
                free: total,
                line: Vec::new(),
            },
            waiters: BTreeMap::new(),
            taken: Vec::new(),
            weights: BTreeMap::new(),
        };
        for random in steps {
            pair.step(total, random);
        }
        true
    }
    QuickCheck::new()
        .tests(2_000)
        .quickcheck(keeps as fn(u8, Vec<u16>) -> bool);
}

#[test]
fn one_that_leaves_with_permits_gives_them_back() {
    let mut line = Line::new(2);
    assert!(line.take(2));
    let (first, second) = (waiter(), waiter());
    let (a, b) = (
        line.join(2, Arc::clone(&first), Holds::here()),
        line.join(1, Arc::clone(&second), Holds::here()),
    );
    assert!(
        line.give_back(2)
            .iter()
            .any(|woken| Arc::ptr_eq(woken, &first))
    );
    // It was served, and goes all the same.
    let woken = line.leave(a, 2);
    assert!(matches!(&woken[..], [woken] if Arc::ptr_eq(woken, &second)));
    assert!(!line.is_waiting(b));
    assert_eq!(line.free(), 1);
}

/// Each closure is a number, and a thread within it has that on its list.
#[cfg(debug_assertions)]
mod dead_locks {
    use super::*;
    use crate::runtime::holds;

    /// A closure of a limited stage, and the list of a thread within it.
    struct Closure(u64, Holds);

    fn closure() -> Closure {
        let hold = holds::hold().expect("a debug build");
        Closure(hold.number(), Holds::here())
    }

    /// One within `outer`.
    fn inner(outer: &Closure) -> Closure {
        let _here = outer.1.clone().enter();
        closure()
    }

    impl Closure {
        fn holds(&self, line: &mut Line) {
            assert!(line.take(1));
            line.note(self.0, 1);
        }

        fn waits(&self, line: &mut Line, weight: usize) -> u64 {
            line.join(weight, waiter(), self.1.clone())
        }
    }

    #[test]
    fn a_closure_that_waits_for_what_it_leaves_no_room_for_is_stuck() {
        for total in 1..=9 {
            let mut line = Line::new(total);
            let outer = closure();
            outer.holds(&mut line);
            let turn = outer.waits(&mut line, total);
            let why = line
                .why_stuck(turn)
                .expect("the total is not all that it needs")
                .to_string();
            let says = format!("holds 1 of {total}, and waits for {total} more");
            assert!(why.contains(&says) && why.contains("Limit only"), "{why}");
        }
    }

    #[test]
    fn closures_that_hold_all_and_all_wait_are_stuck() {
        for total in 2..=9 {
            let mut line = Line::new(total);
            let outer: Vec<_> = (0..total).map(|_| closure()).collect();
            for outer in &outer {
                outer.holds(&mut line);
            }
            for outer in &outer[1..] {
                // Twice in the same closure is no more than once.
                for _ in 0..2 {
                    let turn = outer.waits(&mut line, 1);
                    assert!(
                        line.why_stuck(turn).is_none(),
                        "the first one may still end"
                    );
                }
            }
            // That of a thread which is in no closure is stuck as well, but cannot know why.
            let bystander = line.join(1, waiter(), Holds::here());
            let last = inner(&outer[0]).waits(&mut line, 1);
            assert!(line.why_stuck(last).is_some());
            assert!(line.why_stuck(bystander).is_none());
        }
    }

    #[test]
    fn what_is_given_back_last_wakes_one_that_is_stuck() {
        let mut line = Line::new(3);
        let (outer, other) = (closure(), closure());
        outer.holds(&mut line);
        other.holds(&mut line);
        assert!(line.take(1)); // by a thread that may end at any time
        let wakes = waiter();
        let bystander = line.join(3, waiter(), Holds::here());
        let turn = line.join(2, Arc::clone(&wakes), outer.1.clone());
        assert!(line.why_stuck(turn).is_none());
        let _second = other.waits(&mut line, 2);
        assert!(line.why_stuck(turn).is_none());
        let woken = line.give_back(1);
        assert!(matches!(&woken[..], [woken] if Arc::ptr_eq(woken, &wakes)));
        assert!(line.why_stuck(turn).is_some());
        assert!(line.is_waiting(bystander));
    }

    #[test]
    fn nothing_is_stuck_behind_a_closure_that_has_returned_or_waits_for_nothing() {
        let mut line = Line::new(2);
        let (outer, other) = (closure(), closure());
        outer.holds(&mut line);
        other.holds(&mut line);
        let turn = outer.waits(&mut line, 1);
        assert!(line.why_stuck(turn).is_none(), "the other one will end");
        // What the outer one has started lives on after it.
        line.forget(outer.0);
        let second = other.waits(&mut line, 1);
        assert!(line.why_stuck(turn).is_none() && line.why_stuck(second).is_none());
        assert_eq!(line.give_back(1).len(), 1);
        assert!(!line.is_waiting(turn));
    }
}
