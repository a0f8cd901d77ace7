// Tasks go on running after the closure of the group has returned.

fn main() {
    let result: Result<(), ()> = fanfold::group(2, |g| {
        let inside = String::from("gone");
        g.spawn(|| {
            println!("{inside}");
            Ok(())
        });
    });
    println!("{result:?}");
}
