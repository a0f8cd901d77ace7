use super::left;

#[test]
fn left_is_correct_beyond_32_bits() {
    let many = (1 << 32) + 9;
    assert_eq!(left((0, None), Some(many), many - 3), (3, Some(3)));
    assert_eq!(left((9, None), None, 4), (5, None));
    assert_eq!(left((9, Some(20)), None, many), (0, Some(0)));
    let all = usize::try_from(many);
    let want = (all.unwrap_or(usize::MAX), all.ok());
    assert_eq!(left((0, None), Some(many), 0), want);
}
