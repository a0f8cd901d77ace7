// Ordinary adaptors go before `.local()`.
use fanfold::Fanfold;

fn main() {
    let numbers = (0..9_u64).map(|x| x + 1).local();
    assert_eq!(numbers.par_map_ordered(4, |x| x).sum::<u64>(), 45);
}
