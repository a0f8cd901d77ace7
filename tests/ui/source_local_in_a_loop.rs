// Nor can a loop walk over it.
use fanfold::Fanfold;

fn main() {
    for number in (0..9_u64).local() {
        println!("{number}");
    }
}
