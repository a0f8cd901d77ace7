use fanfold::Fanfold;

fn main() {
    for number in (0..9_u64).local().par_map_ordered(4, |x| x) {
        println!("{number}");
    }
}
