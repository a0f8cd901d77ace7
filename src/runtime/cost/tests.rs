use super::*;

/// With its own clock, so that the lengths do not depend on the machine.
fn cost(width: usize, named_bound: Option<usize>, slot_bytes: usize) -> CostModel {
    CostModel {
        clock: 20.0,
        ..CostModel::new(width, named_bound, slot_bytes)
    }
}

#[test]
fn chunks_double_until_they_last_long_enough() {
    let cost = cost(2, None, 16);
    let mut lens = vec![cost.len()];
    for _ in 0..14 {
        let len = cost.len();
        cost.observe(len, &mut [1_000.0; 4], Some(0.0));
        lens.push(cost.len());
    }
    assert_eq!(lens[..9], [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    assert!(
        lens.last().is_some_and(|len| (400..405).contains(len)),
        "{lens:?}"
    );
}

#[test]
fn the_last_chunks_are_short() {
    let cost = cost(2, None, 16).expecting(Some(2_000));
    for _ in 0..20 {
        cost.observe(cost.len(), &mut [1_000.0; 4], None);
    }
    let lens = [0, 1_000, 1_900, 1_980, 1_996, 1_999, 2_000, 5_000].map(|seq| cost.len_at(seq));
    assert_eq!(lens, [400, 400, 50, 10, 2, 1, 400, 400]);
}

#[test]
fn one_slow_part_in_four_is_ignored() {
    let cost = cost(2, None, 16);
    for _ in 0..20 {
        cost.observe(cost.len(), &mut [1_000.0, 1e6, 1_000.0, 1_000.0], None);
    }
    assert_eq!(cost.len(), 400);
}

#[test]
fn the_rest_of_a_stolen_chunk_changes_the_estimate_little() {
    let cost = cost(2, None, 16);
    for _ in 0..20 {
        cost.observe(cost.len(), &mut [1_000.0; 4], None);
    }
    cost.observe(400, &mut [4e6], None);
    assert!((300..400).contains(&cost.len()), "{}", cost.len());
}

#[test]
fn expensive_items_go_one_by_one() {
    let cost = cost(8, None, 16);
    for _ in 0..8 {
        cost.observe(cost.len(), &mut [100.0], None);
    }
    assert!(cost.len() > 100);
    for _ in 0..40 {
        cost.observe(cost.len(), &mut [1e6; 4], None);
    }
    assert_eq!(cost.len(), 1);
    assert_eq!(cost.bound(), 8 * 16);
}

#[test]
fn an_explicit_bound_is_obeyed_and_shared_by_chunks() {
    let cost = cost(2, Some(64), 16);
    for _ in 0..20 {
        cost.observe(cost.len(), &mut [10.0; 4], None);
    }
    assert_eq!((cost.bound(), cost.len()), (64, 16));
}

#[test]
fn the_default_bound_grows_with_width_up_to_a_memory_limit() {
    let bound = |width, slot_bytes| {
        let cost = cost(width, None, slot_bytes);
        for _ in 0..20 {
            cost.observe(cost.len(), &mut [1.0; 4], None);
        }
        cost.bound()
    };
    assert_eq!(
        [1, 2, 4, 256].map(|n| bound(n, 16)),
        [65_536, 65_536, 131_072, 1 << 20]
    );
    assert_eq!(bound(256, 1 << 20), 65_536);
}

#[test]
fn large_items_make_short_chunks() {
    let cost = cost(2, None, 1 << 20);
    for _ in 0..20 {
        cost.observe(cost.len(), &mut [10.0; 4], None);
    }
    assert_eq!(cost.len(), 1);
}

#[test]
fn with_a_small_bound_more_work_is_tiny() {
    let is_tiny = |width, named_bound, nanos: f32| {
        let cost = cost(width, named_bound, 16);
        for _ in 0..named_bound.map_or(EVIDENCE, |bound: usize| bound.clamp(8, EVIDENCE)) {
            assert!(!cost.is_tiny());
            cost.observe(1, &mut [nanos + 20.0], None);
        }
        cost.is_tiny()
    };
    for (width, named_bound, below) in [
        (2, None, 40.0),
        (2, Some(2), 8_000.0),
        (2, Some(16), 1_000.0),
        (2, Some(4_000), 40.0),
        (2, Some(usize::MAX), 40.0),
        // No two items run at once.
        (1, None, 40.0),
        (2, Some(1), 1_000_000.0),
        (1, Some(4), 250_000.0),
    ] {
        let row = (width, named_bound);
        assert!(is_tiny(width, named_bound, 0.9 * below), "{row:?}");
        assert!(!is_tiny(width, named_bound, 1.1 * below), "{row:?}");
    }
}

#[test]
fn what_pays_depends_on_the_bound_as_well() {
    let pays = |named_bound, nanos| {
        let mut samples = cost(2, named_bound, 16).samples();
        (0..8).for_each(|_| samples.add(Duration::from_nanos(nanos)));
        samples.pays()
    };
    assert_eq!(pays(None, 1_000), Some(true));
    assert_eq!(pays(Some(16), 1_300), Some(false));
    assert_eq!(pays(Some(16), 1_700), Some(true));
}

#[test]
fn a_bound_is_short_by_the_work_within_it() {
    let short = |named_bound, nanos: f32, so_far| {
        let cost = cost(2, named_bound, 16);
        assert!(!cost.is_bound_short(so_far), "nothing is known");
        cost.observe(1, &mut [nanos], None);
        cost.is_bound_short(so_far)
    };
    assert!(!short(None, 10.0, true));
    assert!(short(Some(150), 100_000.0, false));
    assert!(!short(Some(170), 100_000.0, false));
    assert!(short(Some(170), 100_000.0, true));
    assert!(!short(Some(330), 100_000.0, true));
    assert!(!short(Some(2), 300_000.0, true), "each is long");
}

#[test]
fn one_worker_is_enough_for_a_very_short_bound() {
    let enough = |named_bound, so_far| {
        let cost = cost(4, named_bound, 16);
        cost.observe(1, &mut [1_000.0], None);
        (cost.is_for_one_worker(so_far), cost.len_for_one_worker())
    };
    assert_eq!(enough(Some(90), false), (true, 45));
    assert!(!enough(Some(110), false).0 && enough(Some(110), true).0);
    assert!(!enough(Some(160), true).0 && !enough(None, true).0);
    assert_eq!(enough(Some(3), true), (true, 1));
    let many = cost(4, Some(600), 16);
    many.observe(1, &mut [100.0], None);
    assert!(!many.is_for_one_worker(true), "they take 60 µs");
    assert_eq!(cost(4, Some(1 << 20), 1 << 14).len_for_one_worker(), 4);
    assert_eq!(cost(1, Some(8), 1).one_by_one().len_for_one_worker(), 1);
}

#[test]
fn a_default_bound_follows_the_width_and_a_named_one_stays() {
    let model = cost(1, None, 8);
    let bounds = [1, 8, 1_000, 2].map(|width| {
        model.resize(width);
        assert_eq!(
            model.bound(),
            cost(width, None, 8).bound(),
            "as if it had begun with {width}"
        );
        model.bound()
    });
    assert_eq!(bounds, [16, 128, 16_000, 32]);
    let model = cost(1, Some(10), 8);
    model.observe(1, &mut [10.0; 4], None);
    model.observe(2, &mut [10.0; 4], None);
    assert!(model.len() > 1);
    model.resize(5);
    assert_eq!((model.bound(), model.len()), (10, 1));
}

#[test]
fn chunks_of_one_stay_so_at_any_width() {
    let model = cost(1, None, 8).one_by_one();
    model.resize(8);
    model.observe(1, &mut [10.0; 4], None);
    assert_eq!(model.len(), 1);
}
