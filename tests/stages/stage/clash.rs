//! With all traits that extend `Iterator` imported together, our methods are the ones that are called,
//! and theirs still work.

use crate::support::{SOON, within};
use fanfold::Fanfold;
use indicatif::ProgressIterator;
use itertools::Itertools;
use rayon::iter::ParallelBridge;
use rayon::prelude::*;
use std::iter::Iterator;

#[test]
fn each_method_of_ours_is_called() {
    within(SOON, || {
        let source = || 0..10_u64;
        assert_eq!(
            source()
                .par_map_ordered(2, |x| x + 1)
                .collect::<Vec<_>>()
                .len(),
            10
        );
        assert_eq!(
            source()
                .par_map_unordered(2, |x| x + 1)
                .tuples::<(_, _)>()
                .count(),
            5
        );
        assert!(
            source()
                .par_filter(2, |x| x % 2 == 0)
                .dedup()
                .eq([0, 2, 4, 6, 8])
        );
        assert!(
            source()
                .par_filter_map(2, |x| (x > 8).then_some(x))
                .all_equal()
        );
        assert_eq!(source().par_flat_map(2, |x| [x; 2]).dedup().count(), 10);
        let init = source().par_map_ordered_init(2, || 1, |one, x| x + *one);
        assert_eq!(init.sum::<u64>(), 55);
        let tried = source().try_par_map_ordered(2, Ok::<_, ()>);
        assert_eq!(tried.process_results(|it| it.sum::<u64>()), Ok(45));
        assert_eq!(
            source().par_map_by_key(2, |x| x % 3, |x| x).sorted().len(),
            10
        );
        assert_eq!(source().local().par_map_ordered(2, |x| x).count(), 10);
        assert!(source().window(3).map(|w| w.len()).eq([3, 3, 3, 1]));
        assert_eq!(source().window(3).sliding(2).count(), 5);
        let counts = source().broadcast_into(2, |_, reader| reader.dedup().count());
        assert_eq!(counts, [10, 10]);
        let sums = source().partition_into(|x| *x < 5, |a| a.sum::<u64>(), |mut b| b.all_equal());
        assert_eq!(sums, (10, false));
        let counts = source().route_into(2, |x| (*x % 2) as usize, |_, reader| reader.count());
        assert_eq!(counts, [5, 5]);
        let mut readers = source().broadcast(2).readers();
        assert!(
            readers
                .remove(0)
                .map(|x| x + 1)
                .zip(readers.remove(0))
                .all(|(a, b)| a == b + 1)
        );
        let (mut small, mut large) = source().partition_readers(|x| *x < 5).pair();
        assert_eq!(
            (small.join(""), large.join("")),
            ("01234".into(), "56789".into())
        );
        assert_eq!(source().route(1, |_| 0).readers().remove(0).count(), 10);
        #[cfg(feature = "throttle")]
        assert!(source().throttle(1_000).dedup().eq(0..10));
        assert!(
            source()
                .window(3)
                .aggregate(|| 0, |a, x| a + x)
                .eq([3, 12, 21, 9])
        );
    });
}

#[test]
fn each_option_and_terminal_call_of_ours_is_called() {
    within(SOON, || {
        let token = fanfold::CancelToken::new();
        let stage = || {
            (0..10_u64)
                .par_map_ordered(2, |x| x)
                .in_flight(4)
                .unordered()
                .named("clash")
                .cancel_on(&token)
                .eager()
                .on(&fanfold::Pool::global())
        };
        assert_eq!(stage().isolate().count(), 10);
        assert_eq!(stage().collect::<Vec<_>>().len(), 10);
        stage().for_each(drop);
        assert_eq!(stage().fold(0, |a, b| a + b), 45);
        assert_eq!(stage().reduce(|a, b| a + b), Some(45));
        assert_eq!(stage().sum::<u64>(), 45);
        assert_eq!(stage().product::<u64>(), 0);
        assert_eq!((stage().min(), stage().max()), (Some(0), Some(9)));
        assert_eq!(stage().min_by_key(|x| 9 - *x), Some(9));
        assert_eq!(stage().max_by_key(|x| 9 - *x), Some(0));
        assert!(stage().any(|x| x == 3) && stage().all(|x| x < 10));
        assert_eq!(stage().find(|x| *x == 3), Some(3));
        assert!(stage().position(|x| x == 3).is_some());
        let (a, b): (Vec<_>, Vec<_>) = stage().partition(|x| *x < 3);
        assert_eq!((a.len(), b.len()), (3, 7));
        let (a, b): (Vec<_>, Vec<_>) = (0..3).par_map_ordered(2, |x| (x, x)).unzip();
        assert_eq!(a, b);
        let total = fanfold::scope(|s| stage().within(s).sum::<u64>());
        assert_eq!(total, 45);
    });
}

#[test]
fn their_methods_still_work_on_and_between_stages() {
    within(SOON, || {
        let sums = (0..10_u64)
            .fuse()
            .par_map_ordered(2, |x| x)
            .dedup()
            .par_filter(2, |x| x % 2 == 0)
            .progress_count(5)
            .par_map_ordered(2, |x| x)
            .tuple_windows()
            .map(|(a, b)| a + b)
            .par_filter_map(2, Some)
            .par_flat_map(2, |x| [x; 2])
            .tuples()
            .map(|(a, b)| a + b);
        assert!(sums.eq([4, 12, 20, 28]));
        // itertools methods that end a chain, and those that group it
        let squares = || (0..10_u64).par_map_ordered(2, |x| x * x);
        assert_eq!(squares().collect_vec().len(), 10);
        assert!(
            squares()
                .sorted_by_key(|x| x % 10)
                .is_sorted_by_key(|x| x % 10)
        );
        assert_eq!(squares().join(","), "0,1,4,9,16,25,36,49,64,81");
        assert_eq!(squares().counts_by(|x| x % 2), [(0, 5), (1, 5)].into());
        assert_eq!(
            squares()
                .chunks(4)
                .into_iter()
                .map(Iterator::count)
                .collect_vec(),
            [4, 4, 2]
        );
        assert_eq!(squares().minmax().into_option(), Some((0, 81)));
        assert_eq!(squares().k_smallest(2).collect_vec(), [0, 1]);
        let bridged: Vec<u64> = (0..10)
            .par_map_ordered(2, |x| x)
            .par_bridge()
            .map(|x| x)
            .collect();
        assert_eq!(bridged.len(), 10);
        let rayons: Vec<u64> = (0..10_u64).into_par_iter().map(|x| x).collect();
        assert_eq!(rayons.len(), 10);
        // a stage of known length gets a progress bar without an explicit length
        let known = (0..10_u32).par_map_ordered(2, |x| x).progress();
        let known = known
            .dedup()
            .local()
            .par_map_ordered_init(2, || 1, |a, x| x + *a);
        assert_eq!(known.count(), 10);
        let big = (0..10_u64).par_map_ordered(2, |x| x).map_into::<u128>();
        assert_eq!(
            big.try_par_map_ordered(2, Ok::<_, ()>)
                .flatten()
                .sum::<u128>(),
            45
        );
    });
}
