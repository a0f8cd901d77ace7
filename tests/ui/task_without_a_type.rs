// A task has a value, of which nothing here says the type.
fn main() {
    let result = fanfold::group(2, |g| {
        g.spawn(|| Err("fails"));
    });
    assert_eq!(result, Err("fails"));
}
