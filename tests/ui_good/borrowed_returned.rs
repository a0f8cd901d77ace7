// It can, together with its scope.
use fanfold::Fanfold;
use fanfold::Scope;

fn lens<'scope>(
    docs: &'scope [String],
    s: &'scope Scope<'scope, '_>,
) -> impl Iterator<Item = usize> + 'scope {
    docs.iter().par_map_ordered(4, |d| d.len()).within(s)
}

fn main() {
    let docs = vec![String::from("one")];
    assert_eq!(fanfold::scope(|s| lens(&docs, s).sum::<usize>()), 3);
}
