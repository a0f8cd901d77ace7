use super::Reorder;
use quickcheck::quickcheck;

quickcheck! {
    fn any_permutation_comes_out_in_order(keys: Vec<u8>) -> bool {
        let order: Vec<u64> = {
            let mut tagged: Vec<(u8, u64)> = keys.into_iter().zip(0..).collect();
            tagged.sort_unstable();
            tagged.into_iter().map(|(_, seq)| seq).collect()
        };
        let mut reorder = Reorder::new();
        let mut next = 0;
        for &seq in &order {
            reorder.push(seq, seq * 10);
            while let Some(value) = reorder.pop(next) {
                if value != next * 10 { return false; }
                next += 1;
            }
        }
        next == order.len() as u64 && reorder.drain().count() == 0
    }
}

#[test]
fn pop_takes_only_the_requested_number() {
    let mut reorder = Reorder::new();
    reorder.push(5, 'b');
    reorder.push(2, 'a');
    assert_eq!(reorder.pop(5), Some('b'));
    assert_eq!(reorder.pop(0), None);
    assert_eq!(reorder.pop(2), Some('a'));
}

quickcheck! {
    fn the_earliest_comes_first(keys: Vec<u16>) -> bool {
        let mut reorder = Reorder::new();
        let mut kept = std::collections::BTreeSet::new();
        // Odd ones are pushed if they are new, and at even ones the earliest is taken.
        for key in keys.into_iter().map(u64::from) {
            if key % 2 == 0 {
                if reorder.pop_first() != kept.pop_first() { return false; }
            } else if kept.insert(key) {
                reorder.push(key, key);
            }
        }
        while let Some(first) = kept.pop_first() {
            if reorder.is_empty() || reorder.pop_first() != Some(first) { return false; }
        }
        reorder.is_empty() && reorder.pop_first().is_none()
    }
}
