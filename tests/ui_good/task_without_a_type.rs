fn main() {
    let result = fanfold::group(2, |g| {
        g.spawn(|| Err::<(), _>("fails"));
    });
    assert_eq!(result, Err("fails"));
}
