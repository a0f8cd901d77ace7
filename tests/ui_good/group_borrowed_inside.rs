// They may borrow from outside the group.

fn main() {
    let outside = String::from("here");
    let result: Result<(), ()> = fanfold::group(2, |g| {
        g.spawn(|| {
            println!("{outside}");
            Ok(())
        });
    });
    assert_eq!(result, Ok(()));
}
