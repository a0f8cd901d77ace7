use super::*;

/// The thread of the lane has seen three items, and another one takes two of them.
#[test]
fn what_is_stolen_is_none_of_the_lane() {
    let mut writer = SpareLane::<u8, u8>::new().open(5, [0, 1, 2].into_iter(), 3, false);
    let lane = Arc::clone(&writer.lane);
    assert_eq!(writer.next_item(), Some(0));
    let (first, stolen) = lane.steal();
    assert_eq!((first, stolen.into_iter().collect()), (6, vec![1, 2]));
    assert_eq!(writer.next_item(), None);
    writer.close(LaneEnd::Done);
    let reader = lane.reader(true).expect("it has one");
    let (_, next, _) = reader.close();
    assert_eq!(next, 6);
}
